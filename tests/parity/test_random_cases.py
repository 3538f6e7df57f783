"""Whatever the measurement and the parameters: the same numbers and the same file."""

import logging

import numpy as np
import pytest
from parity.cases import draw_case, make_inputs, make_outputs
from parity.compare import differences
from parity.oracle import dcnum_background
from rings import few_of

import sparsemed
from sparsemed.frames.hdf5_layout import UnsuitableError

pytestmark = [
    pytest.mark.filterwarnings("ignore::dcnum.write.writer.CreatingFileWithoutBasinWarning"),
    pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning"),
]


@pytest.mark.parametrize("seed", few_of(range(1000), 16, 72))
def test_same_as_dcnum(seed, tmp_path):
    compare(seed, tmp_path)


@pytest.mark.parametrize("seed", few_of(range(0, 1000, 3), 6, 24))
def test_same_as_dcnum_if_hdf5_reads(seed, tmp_path, monkeypatch):
    monkeypatch.setattr("sparsemed.frames.opening.past_hdf5", refuse)
    monkeypatch.setattr("sparsemed.frames.chunks.ChunkFrames.reading", None)
    compare(seed, tmp_path)


def refuse(_):
    raise UnsuitableError("by order of the test")


def compare(seed, tmp_path):
    """Compute and write a case with both, and compare all there is to see."""
    case = draw_case(seed)
    logging.getLogger(__name__).info(case.description)
    inputs = make_inputs(case, tmp_path / "input")
    outputs = make_outputs(case, tmp_path, inputs)

    with dcnum_background(
        inputs[0], outputs[0], compress=case.compress, **case.settings
    ) as expected:
        before = {name: getattr(expected, name) for name in ("time", "step_times", "duration")}
        plain = {
            name: getattr(expected, name)
            for name in ("kernel_size", "image_count", "image_shape", "kwargs", "offset_correction")
        }
        expected.process()
        ppid = expected.get_ppid()
        series = expected.bg_images

    with sparsemed.BackgroundSparseMed(
        inputs[1], outputs[1], compress=case.compress, **case.settings
    ) as ours:
        assert ours.get_progress() == 0
        ours.process()
        assert ours.get_progress() == 1
        assert ours.get_ppid() == ppid
        for name, value in before.items():
            found = getattr(ours, name)
            assert found.dtype == value.dtype
            np.testing.assert_array_equal(found, value)
        assert plain == {name: getattr(ours, name) for name in plain}
        assert ours.bg_images.dtype == series.dtype
        np.testing.assert_array_equal(ours.bg_images, series)

    assert differences(outputs[0], outputs[1]) == []
