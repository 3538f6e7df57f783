"""Signals that arrive while HDF5 works."""

# ruff: noqa: PT012 (what raises is the end of the with block)

import signal
import time

import h5py
import numpy as np
import pytest
from hdf5.files import change, check_unchanged, listing, posix

from sparsemed.hdf5 import overlay
from sparsemed.hdf5.commit import changed_file


def wait():
    for _ in range(500):
        time.sleep(0.001)


@posix
def test_interrupt_inside_the_overlay(kinds, v110, monkeypatch):
    """Ctrl-C while HDF5 writes a dataset is not lost, and breaks nothing."""
    real = overlay.Overlay._put

    def put(shown, start, data):
        if len(data) > 30:
            monkeypatch.setattr(overlay.Overlay, "_put", real)
            signal.raise_signal(signal.SIGINT)
        real(shown, start, data)

    monkeypatch.setattr(overlay.Overlay, "_put", put)
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), changed_file(v110) as h5:
            change(h5)
            wait()
            pytest.fail("the interrupt was lost")
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, former)
    check_unchanged(v110, kinds["v110"][0])


@posix
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_timer_during_a_change(v110):
    """The same at many moments, with a handler that raises."""
    data = np.random.default_rng(0).integers(0, 50, (20, 80, 400), dtype=np.uint8)
    former = signal.signal(signal.SIGALRM, signal.default_int_handler)
    old = v110.read_bytes()
    outcomes = set()
    try:
        for number in range(40):
            v110.write_bytes(old)
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.001 * (number + 1))
                with changed_file(v110) as h5:
                    h5.create_dataset("new", data=data, chunks=(1, 80, 400), compression="gzip")
                    is_changed = True
                wait()
            except KeyboardInterrupt:
                is_changed = v110.read_bytes() != old
            if is_changed:
                with h5py.File(v110) as h5:
                    assert np.array_equal(h5["new"][:], data)
            assert listing(v110) == [v110.name]
            outcomes.add(is_changed)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
    assert False in outcomes
