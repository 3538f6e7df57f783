"""The Dask client of the option --dask."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sparsemed.executors.rounds import check_executor
from sparsemed.install_hint import how_to_install
from sparsemed.kernels.cores import available_cores

logger = logging.getLogger(__name__)

_CALM = """
import logging, signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
logging.getLogger("distributed").setLevel(logging.CRITICAL)
"""
"""Local workers start with this: they ignore Ctrl-C, as the client ends them."""

PATIENCE = 10.0
"""Seconds to wait for the first answer of a scheduler."""


@contextmanager
def dask_client(where: str, num_cpus: int | None = None) -> Iterator[Any]:
    """Provide a Dask client.

    Parameters
    ----------
    where : str
        ``"local"``: workers on this machine, which end with the client. Otherwise the address of
        a scheduler, such as ``tcp://HOST:PORT``, or the path of a scheduler file.
    num_cpus : int, optional
        Cores for workers on this machine. Default: all.

    Raises
    ------
    ImportError
        If Dask is missing.
    OSError, ValueError
        If there is no such scheduler, or it does not answer.
    """
    try:
        import distributed
    except ImportError as error:
        raise ImportError(
            f"--dask needs dask.distributed ({error}): {how_to_install('distributed')}"
        ) from error
    with _quiet():
        if where == "local":
            with (
                _local_cluster(num_cpus or available_cores()) as cluster,
                distributed.Client(cluster) as client,
            ):
                yield client
            return
        client = _connected(where)
        try:
            if not client.nthreads():
                logger.warning("--dask %s: no workers yet; waiting for the first", where)
                client.wait_for_workers(1)
            check_executor(client)
            yield client
        finally:
            with suppress(Exception):  # the scheduler may be gone
                client.close(timeout=1)


def _local_cluster(cores: int) -> Any:
    import distributed
    from distributed.deploy.utils import nprocesses_nthreads

    processes, threads = nprocesses_nthreads(cores)
    return distributed.LocalCluster(
        n_workers=processes,
        threads_per_worker=threads,
        memory_limit=0,
        dashboard_address=":0",
        preload=[_CALM],
    )


def _connected(where: str) -> Any:
    import distributed

    if re.match(r"[a-z]+://", where):
        place = {"address": where}
    elif Path(where).is_file():
        place = {"scheduler_file": where}
    else:
        raise ValueError(
            f"--dask {where}: there is no such file; expected local, the address of a scheduler "
            "(tcp://HOST:PORT), or its file (dask scheduler --scheduler-file FILE)"
        )
    try:
        return distributed.Client(**place, timeout=PATIENCE, set_as_default=False)
    except Exception as error:  # of many kinds
        reason = " ".join(str(error).split()) or repr(error)
        raise OSError(f"--dask {where}: no scheduler answers there ({reason})") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the logs of Dask: sparsemed reports each error on one line."""
    loggers = [logging.getLogger(name) for name in ("distributed", "tornado", "asyncio")]
    before = [each.level for each in loggers]
    try:
        for each in loggers:
            each.setLevel(logging.CRITICAL + 1)
        yield
    finally:
        for each, level in zip(loggers, before, strict=True):
            each.setLevel(level)
