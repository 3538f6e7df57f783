"""Names of results, and names of other kinds of files, under which none is written."""

from pathlib import Path

MARK = "_bg"
"""Suffix of the name of a measurement in the name of its result."""

_PICTURE = "imagecodecs.imwrite({0!r}, background[0])"  # of one frame

# otherwise tifffile would save three or four images as colours
_TIFF = "tifffile.imwrite({0!r}, background.images, photometric='minisblack')"

_WRITERS = {
    ".npy": "numpy.save({0!r}, background.images)",
    ".npz": "numpy.savez({0!r}, images=background.images, frame_index=background.frame_index)",
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".zarr": "zarr.save({0!r}, background.images)",
    ".png": _PICTURE,
    ".jpg": _PICTURE,
    ".jpeg": _PICTURE,
    ".html": "background.report({0!r})",
    ".pdf": "background.plot().savefig({0!r})",
    ".csv": "numpy.savetxt({0!r}, background.offsets)",
}
"""By ending, the line of Python that writes such a file."""


def require_hdf5_name(path: Path) -> None:
    """Check that a name does not have the ending of another kind of file.

    Raises
    ------
    ValueError
        If it has; the message says how to write such a file.
    """
    line = _WRITERS.get(path.suffix.lower())
    if line is not None:
        raise ValueError(
            f"{path}: a background is saved as HDF5, but this name has the ending of another kind "
            f"of file; use .rtdc, or write such a file yourself: {line.format(str(path))}"
        )
