"""What is no measurement and no stack: one line that says what it is and what to do."""

import numpy as np
import pytest

from sparsemed import compute_background
from sparsemed.frames.stacks.foreign import KINDS

FILES = {
    "M1_data.tdms": (b"TDSm\x0e\x00\x00\x00", "tdms", "dclab-tdms2rtdc"),
    "x.nd2": (b"\xda\xce\xbe\x0a", "Nikon", "nd2.imread"),
    "x.czi": (b"ZISRAWFILE", "Zeiss", "czifile.imread"),
    "x.lif": (b"\x70\x00\x00\x00", "Leica", "readlif"),
    "x.cine": (b"CI\x2c\x00", "Phantom", "pims.open"),
    "x.npy": (b"\x93NUMPY", "NumPy", r"numpy.load\(.*mmap_mode='r'\)$"),
    "x.npz": (b"PK\x03\x04", "compressed|NumPy", "unpack|numpy.load"),
    "x.gif": (b"GIF89a", "GIF", "imageio"),
    "x.png": (b"\x89PNG", "single image", r"pattern such as .*\*\.png"),
    "x.raw": (bytes(8), "raw values", "numpy.memmap"),
    "x.mat": (b"MATLAB 5.0", "MATLAB", "scipy.io.loadmat"),
    "x.rtdc": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:1",
        "Git LFS",
        "git lfs pull",
    ),
    "y.rtdc": (b"/annex/objects/SHA256E-s1--ab.rtdc", "git-annex", "git annex get"),
    "z.rtdc": (b"\n<!DOCTYPE html><html>", "web page", "download the file again"),
    "x.oib": (b"\xd0\xcf\x11\xe0", "Olympus", "export it as TIFF"),
    "x.dm4": (b"\0\0\0\4", "electron microscope", "ncempy"),
    "x.spe": (bytes(8), "Princeton", "pims.open"),
    "x.dcm": (bytes(128) + b"DICM", "DICOM", "pydicom"),
    "x.h264": (b"\0\0\0\1", "raw stream", "ffmpeg -r RATE -i .*x.h264 -c copy"),
    "x.rtdc.gz": (b"\x1f\x8b\x08", "compressed", "unpack"),
}


@pytest.mark.parametrize("name", FILES)
def test_it_is_said_what_a_file_is_and_what_to_do(tmp_path, name):
    begin, what, do = FILES[name]
    (tmp_path / name).write_bytes(begin + bytes(5000))
    with pytest.raises(ValueError, match=what) as error:
        compute_background(tmp_path / name)
    assert str(error.value).startswith(f"{tmp_path / name}: is ")
    assert "\n" not in str(error.value)
    error.match(do)


def test_what_is_advised_for_numpy_gives_the_frames(tmp_path):
    frames = np.random.default_rng(0).integers(0, 9, (30, 24, 33), np.uint8)
    np.save(tmp_path / "frames.npy", frames)
    with pytest.raises(ValueError, match="is not read by sparsemed") as error:
        compute_background(tmp_path / "frames.npy")
    line = str(error.value).rpartition("such as ")[2]
    np.testing.assert_array_equal(eval(line, {"numpy": np}), frames)


def test_a_link_that_leads_nowhere_is_told_from_a_missing_file(tmp_path):
    link = tmp_path / "M002.rtdc"
    link.symlink_to(".git/annex/objects/xx/SHA256E-s1--ab.rtdc")
    with pytest.raises(ValueError, match=r"M002\.rtdc: is a link to a missing file, \.git/annex"):
        compute_background(link)
    with pytest.raises(FileNotFoundError):
        compute_background(tmp_path / "missing.rtdc")


def test_n5_is_told_from_a_folder(tmp_path):
    folder = tmp_path / "stack"
    folder.mkdir()
    (folder / "attributes.json").write_text('{"n5": "2.0.0"}')
    with pytest.raises(ValueError, match=r"N5.*tensorstore\.open"):
        compute_background(folder)


def test_each_kind_is_told_by_its_beginning_or_its_name():
    assert all(kind.starts or kind.suffixes for kind in KINDS)
    assert all(suffix == suffix.lower() for kind in KINDS for suffix in kind.suffixes)
