"""Names of other kinds of files are refused, with a line that does write such a file."""

from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
import zarr

from sparsemed import BackgroundSparseMed, compute_background
from sparsemed.demo import make_measurement

READERS = {
    ".npy": np.load,
    ".npz": lambda path: np.load(path)["images"],
    ".TIF": tifffile.imread,
    ".tiff": tifffile.imread,
    ".zarr": lambda path: zarr.open(path, mode="r")[:],
    ".png": lambda path: imagecodecs.imread(path)[np.newaxis],
}


@pytest.fixture(scope="module")
def background():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (50, 24, 33), np.uint8)
    return compute_background(images, np.arange(50) / 10, kernel_size=9)


@pytest.mark.parametrize("suffix", [*READERS, ".jpeg", ".html", ".pdf", ".csv"])
def test_the_line_that_is_named_writes_such_a_file(tmp_path, background, suffix):
    path = tmp_path / f"it's{suffix}"
    with pytest.raises(ValueError, match="another kind of file") as caught:
        background.save(path)
    assert str(caught.value).startswith(f"{path}: a background is saved as HDF5")
    assert not path.exists()
    line = str(caught.value).partition("yourself: ")[2]
    modules = {"numpy": np, "tifffile": tifffile, "zarr": zarr, "imagecodecs": imagecodecs}
    if suffix in (".html", ".pdf"):  # pages take long to draw
        assert (
            line
            == {
                ".html": f"background.report({str(path)!r})",
                ".pdf": f"background.plot().savefig({str(path)!r})",
            }[suffix]
        )
        return
    exec(line, modules | {"background": background})
    assert path.exists()
    if suffix in READERS:
        expected = background[:1] if suffix == ".png" else background.images
        np.testing.assert_array_equal(READERS[suffix](path), expected)


@pytest.mark.parametrize("name", ["out.rtdc", "out.h5", "out.hdf5", "out.bg"])
def test_other_names_are_taken(tmp_path, background, name):
    background.save(tmp_path / name)
    assert (tmp_path / name).read_bytes()[1:4] == b"HDF"


def test_a_name_without_an_ending_is_that_of_a_folder_unless_it_is_there(tmp_path, background):
    with pytest.raises(ValueError, match=r"out: the name has no ending; results end in \.rtdc"):
        background.save(tmp_path / "out")
    background.save(tmp_path / "out.rtdc")
    (tmp_path / "out.rtdc").rename(tmp_path / "out")
    background.save(tmp_path / "out")
    assert sorted(tmp_path.iterdir()) == [tmp_path / "out"]


def test_what_is_refused_changes_nothing(tmp_path):
    make_measurement(tmp_path / "in.rtdc", count=100)
    background = compute_background(tmp_path / "in.rtdc")
    (tmp_path / "kept.tif").write_bytes(b"mine")
    with pytest.raises(ValueError, match=r"tifffile.imwrite\('"):
        background.save(Path(tmp_path / "kept.tif"))
    with pytest.raises(ValueError, match="another kind of file"):  # before anything is computed
        BackgroundSparseMed(tmp_path / "in.rtdc", tmp_path / "kept.tif")
    assert (tmp_path / "kept.tif").read_bytes() == b"mine"
