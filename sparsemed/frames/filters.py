"""Names of HDF5 filters, and the packages that provide their plugins."""

import h5py

from sparsemed.frames.codecs import CODECS

_OTHERS = {
    4: "szip",
    5: "nbit",
    6: "scaleoffset",
    305: "LZO",
    307: "BZIP2",
    32002: "MAFISC",
    32003: "Snappy",
    32005: "APAX",
    32006: "CBF",
    32007: "JPEG-XR",
    32008: "bitshuffle",
    32009: "SPDP",
    32010: "LPC-Rice",
    32011: "CCSDS-123",
    32012: "JPEG-LS",
    32013: "zfp",
    32014: "fpzip",
    32016: "B3D",
    32017: "SZ",
    32018: "FCIDECOMP",
    32019: "JPEG",
    32020: "VBZ",
    32021: "FAPEC",
    32022: "BitGroom",
    32023: "Granular BitRound",
    32024: "SZ3",
    32025: "Delta-Rice",
    32026: "Blosc2",
    32027: "FLAC",
    32028: "SPERR",
    32029: "TERSE/PROLIX",
    32030: "FFMPEG",
}

NAMES = _OTHERS | {number: codec.name for number, codec in CODECS.items()}
"""Names of filters by their registered numbers."""

_OF_HDF5PLUGIN = (307, 32001, 32004, 32008, 32013, 32015, 32017, 32018, 32024, 32026, 32028)

PACKAGES = dict.fromkeys(_OF_HDF5PLUGIN, "hdf5plugin") | {32020: "vbz-h5py-plugin"}
"""Python packages with the plugin of a filter, by its number."""


def require_filters(dataset: h5py.Dataset, label: str) -> None:
    """Check that HDF5 has the filters of a dataset.

    Chunks may have skipped a filter: a missing one is an error only if a frame cannot be read.

    Raises
    ------
    OSError
        If a filter is missing; the message gives its number, its name, and its package.
    """
    plist = dataset.id.get_create_plist()
    filters = [plist.get_filter(place) for place in range(plist.get_nfilters())]
    missing = {each[0]: each[3] for each in filters if not h5py.h5z.filter_avail(each[0])}
    if not missing:
        return
    try:
        dataset[:1]
    except OSError as error:
        told = " and ".join(_told(number, name) for number, name in missing.items())
        raise OSError(f"{label}: cannot be decoded without {told}") from error


def _told(number: int, name: bytes) -> str:
    """Return which filter is missing, and what to do."""
    known = NAMES.get(number) or name.decode(errors="replace") or "of no known name"
    package = PACKAGES.get(number)
    do = (
        f"pip install --upgrade {package}"
        if package
        else "install the plugin with which the file was written and set HDF5_PLUGIN_PATH to its "
        "folder, or rewrite the file with 'h5repack -f NONE' where it is installed"
    )
    return f"the HDF5 filter {number} ({known}), whose plugin is missing: {do}"
