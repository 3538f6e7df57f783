"""A measurement on DCOR, from its page to a result that dclab opens."""

import warnings

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from rtdc.test_remote import grainy, records, write
from storage.dcor_server import PAGE, SERVICE, UUID, Dcor
from storage.proxy import Proxy

from benchmarks.serving import serving
from sparsemed.cli import main
from sparsemed.storage import connections

HOST = "http://dcor.example.org"


@pytest.fixture
def server(monkeypatch):
    """A server that is known as DCOR, as a proxy leads there.

    dclab takes no port for a part of DCOR's address, and asks for objects without a proxy.
    """
    for name in ("DCOR_API_TOKEN", "HTTP_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    proxy = Proxy()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
    with serving() as server:
        proxy.hosts["dcor.example.org"] = server.port
        yield server
    connections.hang_up()
    proxy.close()


@pytest.fixture
def dclab(monkeypatch):
    dclab = pytest.importorskip("dclab")
    api = pytest.importorskip("dclab.rtdc_dataset.fmt_dcor.api")
    monkeypatch.setattr(api.APIHandler, "api_keys", [])
    with warnings.catch_warnings():
        # it asks for all to learn the length of an object, and leaves that unread
        warnings.simplefilter("ignore")
        yield dclab


@pytest.mark.parametrize("is_private", [False, True])
def test_from_a_page_to_a_result_that_dclab_opens(server, dclab, tmp_path, monkeypatch, is_private):
    images = grainy(3000)
    content = write(tmp_path / "local.rtdc", images, chunks=(20, 80, 100))
    metadata = {
        "experiment": {"event count": 3000, "run identifier": "one", "sample": "a", "run index": 1}
    }
    dcor = Dcor(server, content, "secret" if is_private else None, metadata)
    run = CliRunner().invoke(main, ["compute", HOST + PAGE, "-o", str(tmp_path / "results")])
    if is_private:
        assert run.exit_code == 1
        assert "DCOR_API_TOKEN" in run.output
        monkeypatch.setenv("DCOR_API_TOKEN", "secret")
        links = []
        check = dcor.served.fault

        def expire(request):
            """End all links in the middle."""
            if request.begin > len(content) // 2 and not links:
                links.append(request.query)
                dcor.expire()
            return check(request)

        dcor.served.fault = expire
        run = CliRunner().invoke(main, ["compute", HOST + PAGE, "-o", str(tmp_path / "results")])
        assert links
    assert run.exit_code == 0, run.output
    (result,) = (tmp_path / "results").iterdir()
    told = run.output.encode() + result.read_bytes()
    assert b"secret" not in told
    assert b"sig=" not in told
    (record,) = records(result)
    found = {name: record[name] for name in ("type", "format", "urls", "mapping", "perishable")}
    assert found == {
        "type": "remote",
        "format": "dcor" if is_private else "http",
        "urls": [f"{HOST}{SERVICE}?id={UUID}" if is_private else server.url("/object")],
        "mapping": "same",
        "perishable": False,
    }
    if is_private:
        dclab.rtdc_dataset.fmt_dcor.api.APIHandler.add_api_key("secret")
    with h5py.File(result) as h5:
        backgrounds = h5["basin_events/image_bg"][:][h5["events/basinmap0"][:]]
    with dclab.new_dataset(result) as dataset:
        for number in (0, 777, 2999):
            np.testing.assert_array_equal(dataset["image"][number], images[number])
            np.testing.assert_array_equal(dataset["image_bg"][number], backgrounds[number])
