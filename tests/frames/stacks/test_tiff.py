"""Series, channels, positions and planes of TIFF: chosen, or refused with a list of them."""

import numpy as np
import pytest
import tifffile

from sparsemed import compute_background
from sparsemed.frames.choice import Choice
from sparsemed.frames.stacks import open_stack
from sparsemed.frames.stacks.tiff import MOST_CHANNELS

FRAMES = np.random.default_rng(0).integers(0, 4096, (30, 24, 33), np.uint16)
OTHERS = FRAMES[::-1].copy()


def advised(error):
    """Return what the code at the end of a message gives."""
    line = str(error.value).rpartition("such as ")[2]
    return eval(line, {"tifffile": tifffile, "numpy": np})


def frames_of(path, **choice):
    with open_stack(path, 2, Choice(**choice)) as images:
        return np.asarray(images[: images.shape[0]])


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("axes", ["CTYX", "TCYX", "ZTYX", "TZYX", "CTZYX", "TZCYX"])
def test_what_is_advised_gives_all_frames_of_one(tmp_path, axes, compression):
    path = tmp_path / "stack.ome.tif"
    single = axes.replace("T", "")[:-2]
    images = FRAMES
    for place, letter in enumerate(axes):
        if letter in single:
            images = np.stack(
                [images, OTHERS.reshape(images.shape) if images.ndim == 3 else images], axis=place
            )
    tifffile.imwrite(
        path,
        images,
        ome=True,
        metadata={"axes": axes},
        photometric="minisblack",
        compression=compression,
    )
    with pytest.raises(ValueError, match=r"stack.ome.tif: holds images of shape .*2 ") as error:
        compute_background(path, frame_rate=10)
    np.testing.assert_array_equal(advised(error), FRAMES)
    if single == "C":
        assert "channel=0 to channel=1" in str(error.value)
        np.testing.assert_array_equal(frames_of(path, channel=0), FRAMES)
        np.testing.assert_array_equal(frames_of(path, channel=1), OTHERS)


def two_series(path, **options):
    with tifffile.TiffWriter(path, **options) as writer:
        for images in (FRAMES, OTHERS):
            metadata = {"axes": "TYX"} if options else None
            writer.write(images, photometric="minisblack", metadata=metadata, contiguous=False)


@pytest.mark.parametrize("options", [{"ome": True}, {"bigtiff": True}], ids=str)
def test_two_series_are_not_taken_for_one_recording(tmp_path, options):
    path = tmp_path / ("stack.ome.tif" if "ome" in options else "stack.tif")
    with tifffile.TiffWriter(path, **options) as writer:
        for images in (FRAMES, OTHERS):
            writer.write(images, photometric="minisblack", contiguous=False)
    with pytest.raises(
        ValueError, match=r"2 series of images \(0: 30 × 24 × 33 .*series=1"
    ) as error:
        compute_background(path, frame_rate=10)
    np.testing.assert_array_equal(advised(error), FRAMES)
    np.testing.assert_array_equal(frames_of(path, series=1), OTHERS)
    np.testing.assert_array_equal(frames_of(path, position=1), OTHERS)
    for wrong in (2, -1):
        with pytest.raises(ValueError, match="choose from 0 to 1"):
            frames_of(path, series=wrong)


def test_series_of_other_sizes_are_listed(tmp_path):
    path = tmp_path / "stack.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(FRAMES)
        writer.write(FRAMES[0, :9, :9])  # a preview
    with pytest.raises(
        ValueError, match=r"2 series of images \(.*1: 9 × 9 YX uint16\); choose series=0"
    ):
        compute_background(path)
    np.testing.assert_array_equal(frames_of(path, series=0), FRAMES)


def test_pieces_are_listed_and_not_joined(tmp_path):
    path = tmp_path / "stack.tif"
    with tifffile.TiffWriter(path) as writer:
        for first in range(0, 30, 4):
            writer.write(FRAMES[first : first + 4], contiguous=False, photometric="minisblack")
    with pytest.raises(ValueError, match=r"holds 8 series of images .* and 2 more"):
        compute_background(path)


def test_positions_of_one_image_each_are_taken_for_frames_with_a_word(tmp_path, warned):
    path = tmp_path / "stack.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as writer:
        for image in FRAMES:
            writer.write(image, photometric="minisblack", contiguous=False)
    np.testing.assert_array_equal(frames_of(path), FRAMES)
    (text,) = warned()
    assert "its 30 series of one image each are taken as frames" in text


def test_a_film_that_is_called_planes_or_channels_is_taken_with_a_word(tmp_path, warned):
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, FRAMES, imagej=True)  # who names no axes, writes channels
    np.testing.assert_array_equal(frames_of(path), FRAMES)
    tifffile.imwrite(path, FRAMES, imagej=True, metadata={"axes": "ZYX"})
    np.testing.assert_array_equal(frames_of(path), FRAMES)
    assert [text.partition(": ")[2][:12] for text in warned()] == ["its 30 chann", "no axis is n"]
    tifffile.imwrite(path, FRAMES, imagej=True, metadata={"axes": "TYX"})
    np.testing.assert_array_equal(frames_of(path), FRAMES)
    assert len(warned()) == 2


@pytest.mark.parametrize(
    ("count", "what"),
    [
        (3, "make one array of one channel of many images"),
        (MOST_CHANNELS, "no axis is named time; if channel is time, take it"),
    ],
)
def test_few_channels_of_single_images_are_no_film(tmp_path, count, what):
    path = tmp_path / "stack.ome.tif"
    few = FRAMES[:count]
    tifffile.imwrite(path, few, ome=True, metadata={"axes": "CYX"}, photometric="minisblack")
    with pytest.raises(ValueError, match=what):
        compute_background(path)


def test_a_colour_can_be_chosen(tmp_path):
    path = tmp_path / "stack.tif"
    images = np.stack([FRAMES, OTHERS, FRAMES // 2], axis=-1).astype(np.uint16)
    tifffile.imwrite(path, images, photometric="rgb", compression="zlib")
    with pytest.raises(ValueError, match=r"3 channel.*channel=0 to channel=2") as error:
        compute_background(path)
    np.testing.assert_array_equal(advised(error), FRAMES)
    np.testing.assert_array_equal(frames_of(path, channel=1), OTHERS)


def test_what_is_not_there_cannot_be_chosen(tmp_path):
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, FRAMES)
    for choice in ({"channel": 1}, {"position": 1}, {"dataset": "raw"}):
        with pytest.raises(ValueError, match=rf"has no {next(iter(choice))} to choose"):
            frames_of(path, **choice)


def test_a_page_of_another_size_is_named(tmp_path):
    path = tmp_path / "stack.tif"
    with tifffile.TiffWriter(path) as writer:
        for number, image in enumerate(FRAMES):
            image = image[:9] if number == 17 else image
            writer.write(image, contiguous=False, metadata=None)
    with pytest.raises(OSError, match=r"stack.tif: .*page 17 has shape \(9, 33\)"):
        compute_background(path, frame_rate=10)


@pytest.mark.parametrize("other", [{"compression": None}, {"compression": "zlib", "predictor": 2}])
def test_a_page_is_decoded_by_its_own_tags(tmp_path, other):
    path = tmp_path / "stack.tif"
    with tifffile.TiffWriter(path) as writer:
        for number, image in enumerate(FRAMES):
            how = other if number == 17 else {"compression": "zlib"}
            writer.write(image, contiguous=False, metadata=None, **how)
    np.testing.assert_array_equal(frames_of(path), FRAMES)


@pytest.mark.parametrize("kind", ["ome", "imagej"])
def test_pages_that_metadata_leave_out_are_told(tmp_path, warned, kind):
    path = tmp_path / ("stack.ome.tif" if kind == "ome" else "stack.tif")
    tifffile.imwrite(
        path, FRAMES, metadata={"axes": "TYX"}, photometric="minisblack", **{kind: True}
    )
    np.testing.assert_array_equal(frames_of(path), FRAMES)
    assert not warned()
    if kind == "ome":
        with tifffile.TiffFile(path) as file:
            text = file.ome_metadata
        text = text.replace('SizeT="30"', 'SizeT="20"').replace('Count="30"', 'Count="20"')
        tifffile.tiffcomment(path, text)
    else:
        stored = path.read_bytes().replace(b"images=30\nframes=30", b"images=20\nframes=20")
        path.write_bytes(stored)
    np.testing.assert_array_equal(frames_of(path), FRAMES[:20])
    (text,) = warned()
    assert "its metadata tell of 20 images, but it holds 30" in text
    array = eval(text.rpartition("such as ")[2], {"tifffile": tifffile})
    np.testing.assert_array_equal(array, FRAMES)


def test_smaller_copies_of_images_are_not_missed(tmp_path, warned):
    path = tmp_path / "stack.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(FRAMES, photometric="minisblack", metadata=None)
        writer.write(FRAMES[:, ::2, ::2], subfiletype=1, photometric="minisblack", metadata=None)
    np.testing.assert_array_equal(frames_of(path, series=0), FRAMES)
    assert not warned()


def test_a_tiff_without_pages_says_so(tmp_path):
    path = tmp_path / "stack.tif"
    path.write_bytes(b"II*\0" + bytes(50))
    with pytest.raises(OSError, match=r"stack.tif: holds no images"):
        compute_background(path)
