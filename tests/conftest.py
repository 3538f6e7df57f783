"""Fixtures that many tests share, and what each of the processes that run tests begins with."""

import logging
import shutil
import signal
import subprocess
import sys
import warnings

import numba
import pytest
import rings  # noqa: F401  (its profiles must be known before pytest chooses one)

from benchmarks.measurements import NotAvailableError, generate_measurement, real_measurement
from sparsemed.warned import BackgroundWarning

SLOW_FIXTURES = {"browser", "cluster"}
"""What takes so long to start that tests with it are not in the default ring."""


def pytest_itemcollected(item):
    if SLOW_FIXTURES.intersection(item.fixturenames):
        item.add_marker(pytest.mark.slow)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session):
    """Have the kernels compiled before other processes begin; each of them would, otherwise."""
    if not hasattr(session.config, "workerinput") and not session.config.option.collectonly:
        subprocess.run([sys.executable, "-c", COMPILE], cwd=session.config.rootpath)


COMPILE = """
import numpy as np
from sparsemed.kernels.fletcher32 import fletcher32
from sparsemed.kernels.median import median_images
fletcher32(b"1")
for dtype in ("u1", "u2"):
    for starts in ([0, 4], [0, 1]):  # windows that do not overlap, and others that do
        images = np.empty((2, 1, 1), dtype)
        median_images(np.zeros((8, 1, 1), dtype), np.arange(8), np.array(starts), 4, images, 1)
"""
"""What goes wrong, tests will say."""


@pytest.fixture(scope="session", autouse=True)
def signals_as_in_a_terminal():
    """Heed signals that the program that started the tests ignored; programs inherit that.

    Shells ignore Ctrl-C for jobs in the background, and nohup the end of a terminal, which shall
    not end the tests either.
    """
    heeding = {
        "SIGINT": signal.default_int_handler,
        "SIGTERM": signal.SIG_DFL,
        "SIGHUP": lambda *_: None,
    }
    ignored = {}
    for name, handler in heeding.items():
        number = getattr(signal, name, None)  # Windows has fewer
        if number is not None and signal.getsignal(number) == signal.SIG_IGN:
            ignored[number] = signal.signal(number, handler)
    yield
    for number, handler in ignored.items():
        signal.signal(number, handler)


@pytest.fixture
def warned():
    """Return a function that gives the texts of what sparsemed has warned of so far."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always", BackgroundWarning)
        yield lambda: [str(e.message) for e in found if issubclass(e.category, BackgroundWarning)]


@pytest.fixture(autouse=True)
def dcnum_is_left_alone():
    """Undo what ``sparsemed chipstream`` does to dcnum for the rest of a process."""
    yield
    if "sparsemed.dcnum" in sys.modules:
        sys.modules["sparsemed.dcnum"].unregister()


@pytest.fixture
def dcnum_may_compile(monkeypatch):
    """Let the environment ask for as many threads as Numba has.

    dcnum compiles in the midst of a job. Numba refuses to, and dcnum then waits forever, if the
    environment asks for another number by then, as it may since a test imported ChipStream.
    """
    monkeypatch.setenv("NUMBA_NUM_THREADS", str(numba.config.NUMBA_NUM_THREADS))


@pytest.fixture
def real(tmp_path):
    """Return a function that gives a copy of a real measurement, by name."""

    def copy_of(name):
        try:
            path = real_measurement(name)
        except NotAvailableError as reason:
            pytest.skip(f"{reason}")
        copy = tmp_path / f"{name}.rtdc"
        shutil.copyfile(path, copy)
        return copy

    return copy_of


@pytest.fixture(scope="session")
def measurement(tmp_path_factory):
    """Return a measurement made from real frames; it is shared, so do not write to it."""
    path = tmp_path_factory.mktemp("measurement") / "in.rtdc"
    try:
        generate_measurement(path, 250, 50)
    except NotAvailableError as reason:
        pytest.skip(f"{reason}")
    return path


@pytest.fixture(scope="session")
def object_store():
    """Run an S3 store on this machine; return the variables that say where, and who one is.

    It has a bucket ``cells``.
    """
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
    url = f"http://{host}:{port}"
    client = boto3.client("s3", endpoint_url=url, region_name="us-east-1", **keys)
    client.create_bucket(Bucket="cells")
    client.close()
    named = {name.upper(): value for name, value in keys.items()}
    yield {"AWS_ENDPOINT_URL": url, "AWS_REGION": "us-east-1", "AWS_ALLOW_HTTP": "true", **named}
    server.stop()


@pytest.fixture(scope="module")
def cluster():
    """Return a client of a cluster on this machine: two processes, two threads each.

    Dask arrays do not find it by themselves.
    """
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=2, threads_per_worker=2, processes=True, dashboard_address=":0"
        ) as workers,
        Client(workers, set_as_default=False) as client,
    ):
        yield client
