"""Load a background from a file."""

from os import PathLike

from numpy.typing import ArrayLike

from sparsemed.hdf5.file_access import Policy
from sparsemed.result import SparseBackground, presented, stored_findings
from sparsemed.rtdc.measurement import Measurement
from sparsemed.rtdc.stored_backgrounds import read_background
from sparsemed.warned import keeping_warnings


def load(
    path: str | PathLike[str], time: ArrayLike | None = None, *, basins: Policy = "any"
) -> SparseBackground:
    """Load a background from a file: a result of sparsemed or of dcnum.

    It can be subtracted, judged, shown and saved like a computed one. Files do not keep
    everything: `series` has only the images that cleansing kept, and `score` and `threshold` are
    NaN. The times of images (`step_times`) follow from the frames to which they were assigned. The
    stored verdict is in `findings`.

    Parameters
    ----------
    path : str or path
        The file, or a measurement with a background, or the address of either in a network.
    time : array-like, shape (N,), seconds, optional
        Time of each frame. Default: the time axis of the measurement. The result of an array has
        none: its times are a guess, as in `compute_background`, and quality numbers that need
        times cannot tell.
    basins : {"any", "network", "same-folder", "off"}
        Which other files it may lead to; see `compute_background`. The frames, which `quality`
        and figures need, are usually in another file.

    Returns
    -------
    SparseBackground

    Raises
    ------
    ValueError
        If it has no background, or one of another method, or if `time` does not fit.
    OSError
        If it cannot be read.

    Warns
    -----
    BackgroundWarning
        If frames, offsets or the time are missing. The texts are also kept in
        ``background.warnings``.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import sparsemed
    >>> images = np.full((100, 40, 60), 90, dtype=np.uint8)
    >>> background = sparsemed.compute_background(images, frame_rate=20, kernel_size=10)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     background.save(f"{folder}/background.rtdc")
    ...     sparsemed.load(f"{folder}/background.rtdc", time=background.time)
    SparseBackground(100 frames of 40 × 60, 5 background images kept)
    """
    with keeping_warnings() as warned, Measurement(path, basins) as measurement:
        found = read_background(measurement, time)
        findings = stored_findings(measurement)
        measurement.access.check_unchanged()
    return presented(found, warned, findings)
