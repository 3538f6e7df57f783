"""Signals that arrive while HDF5 works."""

# ruff: noqa: PT012 (what raises is the end of the with block)

import functools
import signal
import sys
import threading
import time

import h5py
import numpy as np
import pytest
from hdf5.files import change, check_unchanged, listing, posix
from patience import PATIENCE

from sparsemed.hdf5 import overlay, signals
from sparsemed.hdf5.commit import changed_file, new_file
from sparsemed.hdf5.datasets import PIECE_BYTES, store


def wait(seconds):
    """Wait for a handler that raises."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
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
            wait(PATIENCE)
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
                wait(0.5)
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


@posix
def test_a_handler_that_is_set_during_a_change_stays(v110):
    former = signal.signal(signal.SIGUSR1, lambda *_: None)

    def mine(*_):
        pass

    try:
        with changed_file(v110):
            signal.signal(signal.SIGUSR1, mine)
        assert signal.getsignal(signal.SIGUSR1) is mine
    finally:
        signal.signal(signal.SIGUSR1, former)


class Pieces:
    """Data whose pieces send a signal while h5py takes them."""

    shape, dtype = (PIECE_BYTES // 4, 16), np.dtype(np.uint8)

    def __init__(self, heard):
        self.heard = heard
        self.heard_before = []

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, rows):
        data = np.zeros(self.shape, self.dtype)[rows]
        if isinstance(rows, int):
            return data
        self.heard_before.append(len(self.heard))
        return Piece(data)


class Piece:
    def __init__(self, data):
        self.data = data

    def __array__(self, dtype=None, copy=None):
        signal.raise_signal(signal.SIGUSR1)
        return np.asarray(self.data, dtype)


@posix
def test_a_signal_waits_for_one_piece_of_a_dataset_and_not_for_all(tmp_path, monkeypatch):
    late = functools.partial(threading.Timer, 3600)
    monkeypatch.setattr(threading, "Timer", lambda _, function: late(function))
    heard = []
    former = signal.signal(signal.SIGUSR1, lambda *_: heard.append(1))
    try:
        data = Pieces(heard)
        with new_file(tmp_path / "new.h5") as h5:
            store(h5, "x", data, {})
    finally:
        signal.signal(signal.SIGUSR1, former)
    assert len(heard) > 3
    assert data.heard_before == list(range(len(heard)))


@posix
def test_another_thread_may_send_a_signal_again_at_any_moment():
    """At each step of Python in turn, the thread of a timer takes all that was put off."""
    code = signals.let_signals_in.__code__
    sent = []

    def others_take_all():
        thread = threading.Thread(target=signals.let_signals_in)
        thread.start()
        thread.join()

    def run_with_a_thread_after(steps):
        """Return whether there were that many steps."""
        left = steps

        def trace(frame, what, _):
            nonlocal left
            if frame.f_code is not code:
                return None
            frame.f_trace_opcodes = True
            if what == "opcode":
                left -= 1
                if left == 0:
                    others_take_all()
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            signals.let_signals_in()
        finally:
            sys.settrace(before)
        return left <= 0

    former = signal.signal(signal.SIGUSR1, lambda *_: sent.append(1))
    try:
        run_with_a_thread_after(10**6)  # Python 3.12 tells of single steps from the next time on
        steps = 1
        signals._put_off.extend([signal.SIGUSR1] * 3)
        while run_with_a_thread_after(steps):
            assert not signals._put_off
            assert sent
            sent.clear()
            steps += 1
            signals._put_off.extend([signal.SIGUSR1] * 3)
    finally:
        signal.signal(signal.SIGUSR1, former)
        signals._put_off.clear()
    assert steps > 20
