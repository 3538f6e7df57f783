"""Paths of stacks: TIFF and Zarr of every kind are read bit by bit, all else is told what to do."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tifffile
import zarr

from sparsemed import BackgroundSparseMed, compute_background, load
from sparsemed.frames.shapes import what_fits
from sparsemed.frames.stacks import open_stack, stack_kind
from sparsemed.frames.stacks.tiff import TiffPages

IMAGES = np.random.default_rng(0).integers(0, 4096, (60, 24, 33), np.uint16)
TIME = np.arange(60) / 20


def one_by_one(path, **options):
    with tifffile.TiffWriter(path) as writer:
        for image in IMAGES:
            writer.write(image, contiguous=False, **options)


def ome_of_two_files(path):
    # as microscopes write them: the first file tells which frames are in the second
    half = {name: IMAGES[part] for name, part in (("a", slice(30)), ("b", slice(30, 60)))}
    other = path.with_name("other.ome.tif")
    pixels = (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'
        ' UUID="urn:uuid:00000000-0000-0000-0000-00000000000{me}"><Image ID="Image:0">'
        '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="33" SizeY="24"'
        ' SizeZ="1" SizeC="1" SizeT="60"><Channel ID="Channel:0:0" SamplesPerPixel="1"/>'
        '<TiffData FirstT="0" IFD="0" PlaneCount="30"><UUID FileName="{path}">'
        "urn:uuid:00000000-0000-0000-0000-000000000001</UUID></TiffData>"
        '<TiffData FirstT="30" IFD="0" PlaneCount="30"><UUID FileName="{other}">'
        "urn:uuid:00000000-0000-0000-0000-000000000002</UUID></TiffData>"
        "</Pixels></Image></OME>"
    )
    for name, me, target in (("a", 1, path), ("b", 2, other)):
        tifffile.imwrite(
            target,
            half[name],
            metadata=None,
            photometric="minisblack",
            compression="zlib",
            description=pixels.format(me=me, path=path.name, other=other.name),
        )


TIFFS = {
    "as it is": {},
    "in colour's place": {"photometric": "minisblack", "metadata": None},
    "big-endian BigTIFF": {"bigtiff": True, "byteorder": ">"},
    "ImageJ": {"imagej": True},
    "OME": {"ome": True, "metadata": {"axes": "TYX"}},
    "OME, compressed": {"ome": True, "metadata": {"axes": "ZYX"}, "compression": "lzw"},
    "compressed": {"compression": "zlib", "predictor": True},
    "tiles": {"tile": (16, 16), "compression": "zstd"},
    "strips": {"rowsperstrip": 5, "compression": "lzw"},
}


def write_tiff(path, kind):
    special = {
        "one by one": one_by_one,
        "one by one, plain": lambda path: one_by_one(path, metadata=None, compression="zlib"),
        "one by one, OME": lambda path: one_by_one(path, photometric="minisblack"),
        "OME of two files": ome_of_two_files,
    }
    if kind in special:
        special[kind](path)
    else:
        tifffile.imwrite(path, IMAGES, **TIFFS[kind])


@pytest.mark.parametrize(
    "kind", [*TIFFS, "one by one", "one by one, plain", "one by one, OME", "OME of two files"]
)
def test_each_kind_of_tiff_has_the_background_of_its_array(tmp_path, kind):
    path = tmp_path / ("stack.ome.tif" if "OME" in kind else "stack.tif")
    write_tiff(path, kind)
    expected = compute_background(IMAGES, TIME, kernel_size=9)
    found = compute_background(path, TIME, kernel_size=9)
    for name in ("images", "frame_index", "offsets", "series", "score"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), strict=True)
    assert (found.source, found.stack) == (None, path)
    with open_stack(path, 2) as images:
        assert isinstance(images, np.memmap | TiffPages)  # and never all of it in memory
    if isinstance(images, TiffPages):
        assert all(page.parent.filehandle.closed for page in images._pages)


@pytest.mark.parametrize("kind", ["tiff", "pictures"])
def test_images_are_decoded_by_as_many_threads_as_given(tmp_path, monkeypatch, kind):
    given = set()

    class Noting(ThreadPoolExecutor):
        def map(self, *args):
            given.add(self._max_workers)
            return super().map(*args)

    monkeypatch.setattr(f"sparsemed.frames.stacks.{kind}.ThreadPoolExecutor", Noting)
    path = tmp_path / "stack.tif" if kind == "tiff" else tmp_path
    for number in range(60) if kind == "pictures" else ():
        tifffile.imwrite(tmp_path / f"{number}.tif", IMAGES[number])
    if kind == "tiff":
        write_tiff(path, "compressed")
    compute_background(path, TIME, kernel_size=9, num_cpus=3)
    assert given == {3}
    compute_background(path, TIME, kernel_size=9, num_cpus=2, ranges=2)
    assert given == {2, 3}


def test_zarr_has_the_background_of_its_array(tmp_path):
    expected = compute_background(IMAGES, TIME, kernel_size=9)
    for version in (2, 3):
        path = tmp_path / f"{version}.zarr"
        zarr.create_array(path, data=IMAGES, chunks=(7, 24, 33), zarr_format=version)
        found = compute_background(f"{path}/", TIME, kernel_size=9)
        np.testing.assert_array_equal(found.series, expected.series, strict=True)
    zarr.create_group(tmp_path / "g").create_array("raw", data=IMAGES)
    with pytest.raises(ValueError, match=r"g: is a group of arrays \(raw\); .* such as .*g.raw$"):
        compute_background(tmp_path / "g", TIME)
    of_group = compute_background(tmp_path / "g" / "raw", TIME, kernel_size=9)
    np.testing.assert_array_equal(of_group.series, expected.series)


def test_a_stack_is_judged_and_shown_without_being_handed_over_again(tmp_path):
    path = tmp_path / "stack & co.tif"
    rng = np.random.default_rng(0)
    images = (rng.integers(60, 120, (30, 50)) + rng.normal(0, 1, (200, 30, 50))).astype(np.uint8)
    tifffile.imwrite(path, images, compression="zlib")
    found = compute_background(path, frame_rate=50, kernel_size=20)
    assert found.quality() == found.quality(images) == found.quality(path)
    assert "left" in {finding.key for finding in found.quality()}
    assert found.report(tmp_path / "page.html") == found.quality()
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "<h1>stack &amp; co.tif" in page or "stack &amp; co.tif</h1>" in page
    assert "sparsemed compute" not in page  # which takes measurements
    assert "stack &amp; co.tif" in found._repr_html_()
    found.save(tmp_path / "out.rtdc")  # refers to no measurement
    path.unlink()
    assert "left" not in {finding.key for finding in found.quality()}


def test_stacks_are_known_by_what_they_hold(tmp_path):
    tifffile.imwrite(tmp_path / "a.dat", IMAGES)
    assert stack_kind(tmp_path / "a.dat") == "TIFF"
    (tmp_path / "b.tif").write_bytes(b"\x89HDF\r\n\x1a\n")
    assert stack_kind(tmp_path / "b.tif") is None
    assert stack_kind(tmp_path) == "folder of images"
    (tmp_path / "measurement.rtdc").touch()
    assert stack_kind(tmp_path) is None
    assert stack_kind(tmp_path / "missing.tif") is None
    if hasattr(os, "mkfifo"):
        for name in ("a.tif", "a.zarr", "a.zip", "a.avi", "a_1*.png"):
            os.mkfifo(tmp_path / name)
            assert stack_kind(tmp_path / name) is None
    (tmp_path / "c.zarr").mkdir()
    assert stack_kind(tmp_path / "c.zarr") == "Zarr"
    with pytest.raises(OSError, match=r"c\.zarr"):
        compute_background(tmp_path / "c.zarr")


@pytest.mark.parametrize("missing", ["tifffile", "zarr"])
def test_a_missing_library_is_named(tmp_path, monkeypatch, missing):
    path = tmp_path / "stack"
    if missing == "zarr":
        zarr.create_array(path, data=IMAGES)
    else:
        tifffile.imwrite(path, IMAGES)
    found = compute_background(path, TIME)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match=rf"stack: reading .* pip install .*{missing}$"):
        compute_background(path, TIME)
    assert "left" not in {finding.key for finding in found.quality()}  # and no error


@pytest.mark.parametrize(
    ("shape", "options", "what"),
    [
        ((9, 24, 33, 3), {"photometric": "rgb"}, r"one channel, such as tifffile.*\[\.\.\., 0\]$"),
        ((24, 33, 3), {"photometric": "rgb"}, r"make one array of one channel of many images"),
        ((24, 33), {}, r"a single image; give the folder of all .*make one array of many images"),
        ((4, 9, 24, 33), {}, r"one channel or plane, such as tifffile.imread\('.*'\)\[0\]"),
        ((9, 2, 24, 33), {}, r"one channel or plane, such as tifffile.imread\('.*'\)\[:, 0\]"),
    ],
)
def test_a_tiff_of_other_axes_is_told_what_to_take(tmp_path, shape, options, what):
    tifffile.imwrite(tmp_path / "stack.tif", np.zeros(shape, np.uint8), **options)
    with pytest.raises(ValueError, match=what):
        compute_background(tmp_path / "stack.tif")


def test_a_zarr_of_other_axes_is_told_what_to_take(tmp_path):
    zarr.create_array(tmp_path / "z", data=IMAGES[:, None])
    with pytest.raises(ValueError, match=r"take zarr.open\('.*z', mode='r'\)\[:, 0\]$"):
        compute_background(tmp_path / "z")


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}], ids=["plain", "compressed"])
@pytest.mark.parametrize("cut", [3, 200, 0.5, 0.999, "in the end of the list of pages"])
def test_a_tiff_that_is_cut_off_is_an_error_that_names_it(tmp_path, options, cut):
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, IMAGES, **options)
    whole = path.read_bytes()
    if isinstance(cut, str):
        with tifffile.TiffFile(path) as file:
            assert len(file.pages) == 60
            cut = file.pages.next_page_offset + 2
    length = cut if cut >= 1 else int(cut * len(whole))
    path.write_bytes(b"II*\0" + whole[4:length])
    with pytest.raises(OSError, match=r"stack\.tif"):
        compute_background(path, TIME)


def test_a_page_that_is_damaged_or_was_never_written_is_an_error(tmp_path):
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, IMAGES, compression="zlib")
    with tifffile.TiffFile(path) as file:
        where = file.pages[7].dataoffsets[0]
    damaged = bytearray(path.read_bytes())
    damaged[where : where + 20] = b"\xff" * 20
    path.write_bytes(damaged)
    with pytest.raises(OSError, match=r"stack\.tif: frames .* cannot be read \(page 7: "):
        compute_background(path, TIME)
    one_by_one(path)
    with tifffile.TiffFile(path) as file:
        for tag in (file.pages[5].tags["StripByteCounts"],):
            where = tag.valueoffset
    sparse = bytearray(path.read_bytes())
    sparse[where : where + 4] = bytes(4)
    path.write_bytes(sparse)
    with pytest.raises(OSError, match="page 5 was never written"):
        compute_background(path, TIME)


def test_a_tiff_that_changes_while_it_is_read_is_an_error(tmp_path):
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, IMAGES, compression="zlib")

    def append(fraction):
        if fraction == 0:
            tifffile.imwrite(path, IMAGES[:9], append=True)

    def append_and_stop(fraction):
        append(fraction)
        raise KeyboardInterrupt

    with pytest.raises(OSError, match=r"stack\.tif: was changed by another program"):
        compute_background(path, TIME, progress=append)
    tifffile.imwrite(path, IMAGES, compression="zlib")
    with pytest.raises(KeyboardInterrupt):  # and nothing else is told
        compute_background(path, TIME, progress=append_and_stop)


def test_what_takes_measurements_alone_says_so(tmp_path):
    tifffile.imwrite(tmp_path / "stack.tif", IMAGES)
    message = (
        r"stack\.tif: is a TIFF stack, not a measurement; in Python, use sparsemed.compute_backgr"
    )
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "stack.tif")


def test_the_class_takes_what_the_function_takes(tmp_path):
    tifffile.imwrite(tmp_path / "stack.tif", IMAGES, compression="zlib")
    with BackgroundSparseMed(tmp_path / "stack.tif", tmp_path / "out.rtdc") as job:
        job.process()
        np.testing.assert_array_equal(job.input_data[:], IMAGES)
    expected = compute_background(tmp_path / "stack.tif")
    assert job.background.stack == expected.stack == tmp_path / "stack.tif"
    np.testing.assert_array_equal(job.background.images, expected.images)
    found = load(tmp_path / "out.rtdc", expected.time)
    np.testing.assert_array_equal(found.images, expected.images)


# Axes of arrays


@pytest.mark.parametrize(
    ("shape", "error"),
    [
        ((24, 33), r"got \(24, 33\); make one array of many images, such as numpy.stack\(list_of"),
        ((9, 24, 33, 3), r"; take one channel, such as frames\[\.\.\., 0\]$"),
        ((9, 24, 33, 1), r"; take frames\[\.\.\., 0\]$"),
        ((9, 1, 24, 33, 1), r"; take frames\[:, 0, :, :, 0\]$"),
        ((1, 9, 24, 33), r"; take frames\[0\]$"),
        ((9, 2, 24, 33), r"; take one channel or plane, such as frames\[:, 0\]$"),
        ((2, 9, 24, 33), r"; take one channel or plane, such as frames\[0\]$"),
        ((9, 24, 33, 2), r"; take one channel, such as frames\[\.\.\., 0\]$"),
        ((9, 2, 3, 24, 33), r"such as frames\[:, 0, 0\]$"),
        ((480, 640, 3), r"that of one image in colour; make one array of one channel of many"),
        ((100, 100, 4), r"that of one image in colour"),
        ((24,), r"got \(24,\)$"),
    ],
)
def test_an_order_of_axes_that_fits_better_is_named(shape, error):
    with pytest.raises(ValueError, match=error):
        compute_background(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("shape", [(9, 1, 24, 33, 1), (1, 9, 24, 33), (9, 2, 24, 33), (9, 8, 7, 3)])
def test_what_is_named_does_fit(shape):
    index = what_fits(shape).partition("frames")[2]
    assert eval(f"frames{index}", {"frames": np.zeros(shape)}).ndim == 3


def test_frames_on_the_last_axis_are_noticed(tmp_path, warned):
    images = np.moveaxis(IMAGES, 0, -1)
    with pytest.raises(ValueError, match=r"^time: has 60 entries, but images of shape \(24, 33"):
        compute_background(images, TIME)
    with pytest.raises(ValueError, match=r"hand over numpy.moveaxis\(frames, -1, 0\)$"):
        compute_background(images, TIME)
    found = compute_background(images, frame_rate=10, kernel_size=40)
    assert any("numpy.moveaxis(frames, -1, 0)" in text for text in found.warnings)
    before = warned()
    assert before == list(found.warnings)
    compute_background(IMAGES, frame_rate=10, kernel_size=40)
    assert warned() == before
    tifffile.imwrite(tmp_path / "a.tif", images, photometric="minisblack")
    found = compute_background(tmp_path / "a.tif", frame_rate=10, kernel_size=40)
    assert any(text.startswith(f"{tmp_path / 'a.tif'}: ") for text in found.warnings)
    with_times = compute_background(images, np.arange(24) / 20, kernel_size=40)
    assert not any("moveaxis" in text for text in with_times.warnings)
