"""What names of files say: that it is a result, or another kind of file than the HDF5 of one."""

from pathlib import Path

MARK = "_bg"
"""What is added to the name of a measurement for its result."""

_PICTURE = "imagecodecs.imwrite({0!r}, background[0])"  # of one frame

# else tifffile takes three or four images for colours
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
"""By endings of names, the line that writes such a file."""


def require_hdf5_name(path: Path) -> None:
    """Check that a name does not end as that of a file of another kind.

    Raises
    ------
    ValueError
        If it does; the message says how such a file is written.
    """
    line = _WRITERS.get(path.suffix.lower())
    if line is not None:
        raise ValueError(
            f"{path}: a background is saved as HDF5, and this name is that of another kind of "
            f"file; end it in .rtdc, or write such a file yourself: {line.format(str(path))}"
        )
