"""Facts about a measurement for the page."""

from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path

import numpy as np

from sparsemed.method.result import Background
from sparsemed.quality.sample import Sample
from sparsemed.rtdc.identity import require_same
from sparsemed.rtdc.measurement import Measurement
from sparsemed.rtdc.pipeline_id import to_ppid
from sparsemed.rtdc.stored_backgrounds import stored_ppid
from sparsemed.storage.places import AnyPath, locate
from sparsemed.warned import warn


@dataclass(frozen=True)
class Facts:
    """Facts about a measurement, as rows of name and value.

    Attributes
    ----------
    rows, metadata : list of (str, object)
    images_file : Path, RemotePath or None
        The file with the frames, if known.
    identifier : str or None
        Identifier of the measurement.
    camera_rate : float or None
        Frames per second of the camera.
    """

    rows: list[tuple[str, object]] = field(default_factory=list)
    metadata: list[tuple[str, object]] = field(default_factory=list)
    images_file: AnyPath | None = None
    identifier: str | None = None
    camera_rate: float | None = None


def read_facts(background: Background, sample: Sample | None) -> Facts:
    """Read the facts about a measurement, if it still exists."""
    if background.identity is None or background.source is None:
        return Facts([("File", background.stack)] if background.stack else [])
    try:
        with Measurement(background.source, background.basins) as measurement:
            require_same(measurement, background.identity)
            rows: list[tuple[str, object]] = [
                ("File", background.source),
                ("Size of the file", f"{measurement.size / 1e6:.1f} MB"),
            ]
            image = measurement.image
            if image.mapping is not None or measurement.source_of(image) == "file basin":
                rows.append(("Images from", image.label))
            stored = _compare_stored(measurement, background, sample)
            rows.append(("Background in the file", stored))
            metadata = sorted(measurement.metadata.items())
            is_elsewhere = measurement.source_of(image) == "file basin"
            images_file = background.source
            if is_elsewhere:
                images_file = locate(image.dataset.file.filename)  # the key may hold a secret
                if isinstance(images_file, Path):
                    images_file = Path(image.key)
            rate = measurement.frame_rate
            camera_rate = float(rate) if isinstance(rate, Real) else None
            identifier = measurement.events.identifier
            return Facts(rows, metadata, images_file, identifier, camera_rate)
    except OSError as error:
        warn(f"The report has no facts about the measurement: {error}")
        return Facts([("File", f"{background.source} (could not be read any more)")])


def _compare_stored(measurement: Measurement, background: Background, sample: Sample | None) -> str:
    """Return whether the background in the measurement is the one on the page."""
    stored = measurement.feature("image_bg")
    if stored is None:
        return "none; the one on this page was computed for the page"
    ppid = stored_ppid(measurement)
    name = "without PPID" if ppid is None else ppid
    if background.is_loaded:
        return f"{name}: the one on this page"
    if ppid != to_ppid(background.parameters):
        text = f"{name}: of other parameters than the one on this page"
        return text + _compare_left(measurement, background, sample)
    if sample is None or stored.shape != (len(background), *background.images.shape[1:]):
        return f"{name}: computed anew for this page"
    # one at a time, as a mapping may lead far apart
    equal = sum(
        np.array_equal(stored[number : number + 1][0], background[number])
        for number in sample.numbers.tolist()
    )
    count = len(sample.numbers)
    if equal == count:
        return f"{name}: computed anew for this page, and equal in all {count} frames compared"
    return (
        f"{name}: computed anew for this page, and different in {count - equal} of {count} frames"
    )


def _compare_left(measurement: Measurement, background: Background, sample: Sample | None) -> str:
    """Return how much both backgrounds leave of frames, so that a worse try is noticed."""
    stored, offsets = measurement.feature("image_bg"), measurement.feature("bg_off")
    if sample is None or stored is None or len(stored) != len(background):
        return ""
    if stored.shape[1:] != background.images.shape[1:]:
        return ""
    by_file, here = [], []
    for place, number in enumerate(sample.numbers.tolist()):
        frame = sample.frames[place].astype(np.float64)
        added = 0 if offsets is None else offsets[number : number + 1][0]
        by_file.append(np.mean(np.abs(frame - stored[number : number + 1][0] - added)))
        added = 0 if background.offsets is None else background.offsets[number]
        here.append(np.mean(np.abs(frame - background[number] - added)))
    return (
        f"; on average it leaves {np.mean(by_file):.3g} grey values of a frame, "
        f"and the one on this page {np.mean(here):.3g}"
    )
