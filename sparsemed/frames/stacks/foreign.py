"""Files that sparsemed does not read: what they are, and what to do."""

import os
from pathlib import Path
from typing import NamedTuple

import h5py


class Foreign(NamedTuple):
    """A kind of file that is not read here.

    Attributes
    ----------
    what : str
        What it is.
    do : str
        What to do; ``{path}`` stands for its path, ``{path!r}`` for that as Python writes it.
    starts : tuple of bytes
        First bytes of such files, if these tell.
    suffixes : tuple of str
        Ends of their names, if these tell.
    """

    what: str
    do: str
    starts: tuple[bytes, ...] = ()
    suffixes: tuple[str, ...] = ()


HAND_OVER = "hand over an array of frames, such as "

KINDS = (
    Foreign(
        "a pointer of Git LFS, not the file itself",
        "fetch the file with 'git lfs pull'",
        (b"version https://git-lfs",),
    ),
    Foreign(
        "a pointer of git-annex, not the file itself",
        "fetch the file with 'git annex get {path}' or 'datalad get {path}'",
        (b"/annex/objects/",),
    ),
    Foreign(
        "RT-DC in the format of before 2018 (tdms)",
        "convert it with 'dclab-tdms2rtdc', which comes with dclab[tdms]",
        (b"TDSm",),
        (".tdms",),
    ),
    Foreign(
        "a file of a Nikon microscope (ND2)",
        HAND_OVER + "nd2.imread({path!r}, dask=True)",
        (b"\xda\xce\xbe\x0a",),
        (".nd2",),
    ),
    Foreign(
        "a file of a Zeiss microscope (CZI)",
        HAND_OVER + "czifile.imread({path!r}).squeeze()",
        (b"ZISRAWFILE",),
        (".czi",),
    ),
    Foreign(
        "a file of a Leica microscope (LIF)",
        HAND_OVER + "numpy.stack([numpy.asarray(image) for image in "
        "readlif.reader.LifFile({path!r}).get_image(0).get_iter_t()])",
        (b"\x70\x00\x00\x00",),
        (".lif",),
    ),
    Foreign(
        "a film of a Phantom camera (CINE)",
        HAND_OVER + "numpy.stack([numpy.asarray(image) for image in pims.open({path!r})])",
        (b"CI\x2c\x00",),
        (".cine",),
    ),
    Foreign(
        "a film of a Norpix recorder (SEQ)",
        HAND_OVER + "numpy.stack([numpy.asarray(image) for image in pims.NorpixSeq({path!r})])",
        (),
        (".seq",),
    ),
    Foreign(
        "a film of a Photron camera (MRAW)",
        HAND_OVER + "pyMRAW.load_video('….cihx')[0]",
        (),
        (".mraw", ".cih", ".cihx"),
    ),
    Foreign(
        "a film of a Hamamatsu camera (DCIMG)",
        HAND_OVER + "dcimg.DCIMGFile({path!r})[:]",
        (b"DCIMG",),
        (".dcimg",),
    ),
    Foreign(
        "a file of an Olympus microscope (OIB, OIF)",
        "export it as TIFF, for example with Fiji",
        (),
        (".oib", ".oif"),
    ),
    Foreign(
        "a file of an electron microscope (DM3, DM4)",
        HAND_OVER + "ncempy.io.dm.dmReader({path!r})['data']",
        (),
        (".dm3", ".dm4"),
    ),
    Foreign(
        "a file of a camera of Princeton Instruments (SPE)",
        HAND_OVER + "numpy.stack([numpy.asarray(image) for image in pims.open({path!r})])",
        (),
        (".spe",),
    ),
    Foreign(
        "a medical image (DICOM)",
        HAND_OVER + "pydicom.dcmread({path!r}).pixel_array",
        (),
        (".dcm",),
    ),
    Foreign(
        "a raw stream of a video, without times and rate",
        "put it into a container first, with 'ffmpeg -r RATE -i {path} -c copy film.mkv'",
        (),
        (".h264", ".264", ".hevc", ".265", ".mjpeg", ".mjpg", ".dv"),
    ),
    Foreign(
        "a file of an Andor camera (SIF)",
        HAND_OVER + "sif_parser.np_open({path!r})[0]",
        (b"Andor Technology",),
        (".sif",),
    ),
    Foreign(
        "a file of astronomy (FITS)",
        HAND_OVER + "astropy.io.fits.getdata({path!r})",
        (b"SIMPLE  =",),
    ),
    Foreign(
        "a MATLAB file of a version before 7.3",
        HAND_OVER + "numpy.moveaxis(scipy.io.loadmat({path!r})['frames'], -1, 0)",
        (b"MATLAB 5.0",),
    ),
    Foreign(
        "a NumPy array",
        HAND_OVER + "numpy.load({path!r}, mmap_mode='r')",
        (b"\x93NUMPY",),
        (".npy",),
    ),
    Foreign("a set of NumPy arrays", HAND_OVER + "numpy.load({path!r})['images']", (), (".npz",)),
    Foreign(
        "an animation (GIF)",
        HAND_OVER + "imageio.v3.imread({path!r})[..., 0]",
        (b"GIF8",),
        (".gif",),
    ),
    Foreign(
        "a single image",
        "give the folder of all of them, or a pattern such as {folder}/*{suffix}; or "
        + HAND_OVER
        + "numpy.stack([imageio.v3.imread(path) for path in paths])",
        (b"\x89PNG", b"\xff\xd8\xff", b"BM"),
        (".png", ".bmp", ".jpg", ".jpeg"),
    ),
    Foreign(
        "a single image of a kind that is not read here",
        HAND_OVER + "numpy.stack([imageio.v3.imread(path) for path in paths])",
        (),
        (".webp", ".pgm", ".ppm", ".jp2", ".exr"),
    ),
    Foreign(
        "a compressed file",
        "unpack it first",
        (
            b"\x1f\x8b",
            b"BZh",
            b"\xfd7zXZ",
            b"\x28\xb5\x2f\xfd",
            b"7z\xbc\xaf",
            b"Rar!",
            b"PK\x03\x04",
        ),
    ),
    Foreign(
        "a web page, not a measurement",
        "download the file again by its own address; the server may ask for a login",
        (b"<!doctype html", b"<html"),
    ),
    Foreign(
        "raw values without number and size of the frames",
        HAND_OVER + "numpy.memmap({path!r}, dtype='uint8', mode='r').reshape(-1, HEIGHT, WIDTH)",
        (),
        (".raw", ".bin", ".dat"),
    ),
)
"""Kinds of files, in the order in which they are tried."""

RECORDINGS = (".tdms", ".nd2", ".czi", ".lif", ".cine", ".seq", ".mraw", ".dcimg", ".sif")
"""Endings of recordings among these; the others may lie beside recordings."""

_LONGEST = max(len(start) for kind in KINDS for start in kind.starts)

HDF5 = b"\x89HDF\r\n\x1a\n"


def what_to_do(path: Path) -> str | None:
    """Return what a file or folder is, and what to do, if it is known to be unreadable here.

    Returns
    -------
    str or None
        A sentence without its subject, the path.
    """
    if (what := to_missing_file(path)) is not None:
        return what
    if path.is_dir():
        return _of_folder(path)
    if not path.is_file():  # a pipe would wait
        return None
    if (what := by_its_begin(path)) is not None:
        return what
    begin = _begin(path)
    if not begin or begin.startswith(HDF5):
        return None
    suffix = path.suffix.lower()
    return next((_said(kind, path) for kind in KINDS if suffix in kind.suffixes), None)


def to_missing_file(path: Path) -> str | None:
    """Return that a path is a link to a missing file, and what to do, if it is one."""
    if not path.is_symlink() or path.exists():
        return None
    return (
        f"is a link to a missing file, {os.readlink(path)}; if its content is kept elsewhere "
        "(git-annex, DataLad), fetch it first, for example with 'git annex get'"
    )


MEASUREMENTS = (".rtdc", ".h5", ".hdf5")
"""Endings of HDF5: what cannot be read under these names is damaged rather than of another kind."""


def is_of_unknown_kind(path: Path) -> bool:
    """Whether a file is neither HDF5 nor damaged HDF5, judged by its beginning and its name."""
    if path.suffix.lower() in MEASUREMENTS or not path.is_file():
        return False
    return bool(_begin(path)) and not h5py.is_hdf5(path)


def by_its_begin(path: Path) -> str | None:
    """Return what a file is, and what to do, if its first bytes tell that it is not read here."""
    begin = _begin(path)
    start = begin.lstrip().lower() if begin[:1].isspace() else begin.lower()
    for kind in KINDS:
        if any(start.startswith(each.lower()) for each in kind.starts):
            return _said(kind, path)
    return None


def _begin(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(max(_LONGEST, 4096))
    except OSError:  # reading it reports why
        return b""


def _said(kind: Foreign, path: Path) -> str:
    do = kind.do.format(path=str(path), folder=path.parent, suffix=path.suffix)
    return f"is not read by sparsemed, as it is {kind.what}; {do}"


def _of_folder(path: Path) -> str | None:
    """Return what a folder is, and what to do, if it is a container that is not read."""
    attributes = path / "attributes.json"
    if path.suffix == ".n5" or (attributes.is_file() and b'"n5"' in attributes.read_bytes()[:4096]):
        return (
            "is not read by sparsemed, as it is a container of arrays (N5); hand over one of them, "
            "such as tensorstore.open({'driver': 'n5', 'kvstore': {'driver': 'file', 'path': "
            f"{str(path / 'NAME')!r}}}}}).result()"
        )
    return None
