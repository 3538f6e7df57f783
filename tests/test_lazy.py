import threading

from patience import PATIENCE

from sparsemed.lazy import lazy_property


def test_one_object_that_takes_long_keeps_no_other_waiting():
    """Nor a child that is forked meanwhile: there is no lock."""
    begun, may_end, computed = threading.Event(), threading.Event(), []

    class Number:
        def __init__(self, number):
            self.number = number

        @lazy_property
        def double(self):
            """Twice that."""
            computed.append(self.number)
            if self.number == 1:
                begun.set()
                may_end.wait(PATIENCE)
            return 2 * self.number

    slow, quick = Number(1), Number(2)
    thread = threading.Thread(target=lambda: slow.double)
    thread.start()
    begun.wait(PATIENCE)
    found = []
    other = threading.Thread(target=lambda: found.append(quick.double))
    other.start()
    other.join(PATIENCE / 10)
    assert found == [4]
    may_end.set()
    thread.join()
    assert (slow.double, quick.double, computed) == (2, 4, [1, 2])
    assert Number.double.__doc__ == "Twice that."
