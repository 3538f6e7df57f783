"""Folders and patterns of single images, as Pillow, OpenCV and tifffile write them."""

import re

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from sparsemed import compute_background
from sparsemed.frames.choice import Choice
from sparsemed.frames.stacks import open_stack

FRAMES = np.random.default_rng(0).integers(60, 200, (110, 24, 33), np.uint8)
DEEP = FRAMES.astype(np.uint16) * 16

WRITE = {
    "TIFF": lambda path, image: tifffile.imwrite(path.with_suffix(".tif"), image),
    "compressed TIFF": lambda path, image: tifffile.imwrite(
        path.with_suffix(".TIFF"), image, compression="zlib"
    ),
    "PNG": lambda path, image: Image.fromarray(image).save(path.with_suffix(".png")),
    "BMP": lambda path, image: Image.fromarray(image).save(path.with_suffix(".bmp")),
    "BMP in colour": lambda path, image: (
        Image.fromarray(image).convert("RGB").save(path.with_suffix(".bmp"))
    ),
    "palette": lambda path, image: (
        Image.fromarray(image).convert("P").save(path.with_suffix(".png"))
    ),
}


def write(folder, frames=FRAMES, kind="PNG", name="img_{}"):
    folder.mkdir(exist_ok=True)
    for number, image in enumerate(frames):
        WRITE[kind](folder / name.format(number), image)
    return folder


@pytest.mark.parametrize("kind", WRITE)
def test_a_folder_has_the_background_of_its_images_in_natural_order(tmp_path, kind):
    folder = write(tmp_path / "images", kind=kind)  # 2 comes before 10, though it has no zeros
    (folder / "metadata.txt").write_text("what else lies there")
    (folder / ".hidden.png").write_bytes(b"")
    found = compute_background(folder, frame_rate=50, kernel_size=9)
    expected = compute_background(FRAMES, frame_rate=50, kernel_size=9)
    for name in ("images", "frame_index", "offsets", "series"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), strict=True)
    assert found.quality() == found.quality(FRAMES)


def test_sixteen_bits_are_kept(tmp_path):
    for kind in ("TIFF", "PNG"):
        with open_stack(write(tmp_path / kind, DEEP, kind), 2) as images:
            np.testing.assert_array_equal(images[0:110], DEEP, strict=True)


def test_a_pattern_takes_what_fits_it(tmp_path):
    folder = write(tmp_path / "images", name="a_{}")
    write(folder, FRAMES[::-1], name="b_{}")
    with open_stack(folder / "b_*.png", 2) as images:
        np.testing.assert_array_equal(images[0:110], FRAMES[::-1])
        assert [file.name for file in images.files[:3]] == ["b_0.png", "b_1.png", "b_2.png"]
    with pytest.raises(
        ValueError, match=r"2 kinds of names \(110 of a_#.png, 110 of b_#.png\)"
    ) as e:
        compute_background(folder)
    pattern = str(e.value).rpartition("such as ")[2]
    with open_stack(pattern, 2) as images:
        np.testing.assert_array_equal(images[0:110], FRAMES)


@pytest.mark.parametrize(
    ("frames", "other"),
    [
        ("img_{}", "background"),
        ("img_{:04}", "img_bg"),
        ("img_{:04}_cam1", "bg_1"),
        ("a[1]_{:04}_1", "a[1]_1_x"),
    ],
)
def test_a_background_beside_frames_is_no_frame(tmp_path, frames, other):
    folder = write(tmp_path / "run [2]", name=frames)
    WRITE["PNG"](folder / other, FRAMES[0])
    with pytest.raises(ValueError, match=r"2 kinds of names \(110 of .*, 1 of ") as error:
        compute_background(folder)
    pattern = str(error.value).rpartition("such as ")[2]
    with open_stack(pattern, 2) as images:
        np.testing.assert_array_equal(images[0:110], FRAMES)


@pytest.mark.parametrize("name", ["img_{:09}_Default_000", "frame_{}_cam1", "{:04}_320x80"])
def test_missing_images_are_told_whatever_follows_their_number(tmp_path, name, warned):
    folder = write(tmp_path / "images", name=name)
    compute_background(folder, frame_rate=50, kernel_size=9)
    assert not warned()
    (folder / f"{name.format(50)}.png").unlink()
    compute_background(folder, frame_rate=50, kernel_size=9)
    assert "images are missing 1 times" in warned()[0]


def test_numbers_that_start_anew_are_told(tmp_path, warned):
    folder = write(tmp_path / "images", FRAMES[:60], name="run1_{:04}")
    write(folder, FRAMES[60:], name="run2_{:04}")
    compute_background(folder, frame_rate=50, kernel_size=9)
    (text,) = warned()
    assert "start anew 1 times, first after run1_0059.png with run2_0000.png" in text
    with open_stack(text.rpartition("such as ")[2], 2) as images:
        np.testing.assert_array_equal(images[0:60], FRAMES[:60])


def test_cameras_in_turn_are_told(tmp_path, warned):
    folder = write(tmp_path / "images", FRAMES[:40], name="img_{:03}_1")
    write(folder, FRAMES[40:80], name="img_{:03}_2")
    with open_stack(folder, 2) as images:
        assert images.shape[0] == 80
    (text,) = warned()
    assert "start anew 39 times, first after img_000_2.png with img_001_1.png" in text
    with open_stack(text.rpartition("such as ")[2], 2) as images:
        np.testing.assert_array_equal(images[0:40], FRAMES[:40])


def test_names_with_the_time_of_day_start_no_recording_anew(tmp_path, warned):
    folder = tmp_path / "images"
    folder.mkdir()
    begin = np.datetime64("2024-01-31T23:59:50.000")
    for number, image in enumerate(FRAMES):
        moment = str(begin + np.timedelta64(200 * number, "ms"))
        WRITE["PNG"](folder / re.sub(r"[:T.]", "-", moment), image)
    with open_stack(folder, 2) as images:
        np.testing.assert_array_equal(images[0:110], FRAMES)
    assert not warned()


@pytest.mark.parametrize("pattern", ["*/*.png", "**/*.png"])
def test_images_of_two_folders_are_not_one_recording(tmp_path, pattern):
    for name in "ab":
        write(tmp_path / name)
    with pytest.raises(ValueError, match=r"matches images in 2 folders") as error:
        compute_background(tmp_path / pattern)
    with open_stack(str(error.value).rpartition("such as ")[2], 2) as images:
        np.testing.assert_array_equal(images[0:110], FRAMES)


@pytest.mark.parametrize(
    "names",
    [[f"t={number / 100}" for number in range(20)], ["007", *map(str, range(20))]],
    ids=["decimal places", "leading zeros"],
)
def test_images_of_the_same_number_have_no_order(tmp_path, names):
    for name in names:
        Image.fromarray(FRAMES[0]).save(tmp_path / f"{name}.png")
    with pytest.raises(ValueError, match="have the same number, so that their order is unclear"):
        compute_background(tmp_path)


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_inks_are_not_taken_for_light(tmp_path, suffix):
    for number, image in enumerate(FRAMES[:20]):
        Image.fromarray(image).convert("CMYK").save(tmp_path / f"{number}{suffix}")
    with pytest.raises(ValueError, match=rf"0{suffix}: is in colours of four inks"):
        compute_background(tmp_path)


def test_a_link_to_a_missing_image_is_no_gap(tmp_path):
    folder = write(tmp_path / "images", FRAMES[:20])
    for number in range(1, 20, 2):
        (folder / f"img_{number}.png").unlink()
        (folder / f"img_{number}.png").symlink_to(f"../.git/annex/objects/{number}.png")
    with pytest.raises(OSError, match=r"img_1.png: is a link to a missing file.*git annex get"):
        compute_background(folder, frame_rate=50)


def test_a_jpeg_that_is_cut_off_is_not_filled_up(tmp_path):
    for number, image in enumerate(FRAMES[:20]):
        Image.fromarray(image).save(tmp_path / f"{number}.jpg")
    compute_background(tmp_path, frame_rate=50, kernel_size=9)
    path = tmp_path / "7.jpg"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(OSError, match=r"7.jpg: is cut off"):
        compute_background(tmp_path, frame_rate=50)


def test_each_file_of_an_ome_tiff_is_one_image(tmp_path):
    uuid = "urn:uuid:00000000-0000-4000-8000-0000000000{:02}"
    names = [f"img_{number:09}_Default_000.ome.tif" for number in range(20)]
    parts = "".join(
        f'<TiffData FirstT="{t}" IFD="0" PlaneCount="1"><UUID FileName="{name}">'
        f"{uuid.format(t)}</UUID></TiffData>"
        for t, name in enumerate(names)
    )
    for t, name in enumerate(names):
        text = (
            '<?xml version="1.0" encoding="UTF-8"?>'
            '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="{uuid.format(t)}"><Image ID="Image:0"><Pixels ID="Pixels:0" Type="uint8" '
            'DimensionOrder="XYCZT" SizeX="33" SizeY="24" SizeC="1" SizeZ="1" SizeT="20">'
            f"{parts}</Pixels></Image></OME>"
        )
        tifffile.imwrite(tmp_path / name, FRAMES[t], description=text, metadata=None)
    for path in (tmp_path, tmp_path / names[0]):
        with open_stack(path, 2) as images:
            np.testing.assert_array_equal(images[0:20], FRAMES[:20])


def test_a_pointer_of_git_lfs_among_images_is_named(tmp_path):
    folder = write(tmp_path / "images")
    (folder / "img_7.png").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0")
    with pytest.raises(OSError, match=r"img_7.png: is .*a pointer of Git LFS.*git lfs pull"):
        compute_background(folder, frame_rate=50)


@pytest.mark.parametrize(
    ("name", "what"),
    [("img_channel{c:03}_time{t:09}_z000", "channel"), ("t{t:04}_pos{c}", "position")],
)
def test_channels_and_positions_in_names_are_told_apart(tmp_path, name, what):
    folder = tmp_path / "images"
    folder.mkdir()
    for number, image in enumerate(FRAMES[:40]):
        WRITE["PNG"](folder / name.format(c=number % 2, t=number // 2), image)
    with pytest.raises(ValueError, match=f"holds images of 2 {what}s") as error:
        compute_background(folder)
    pattern = str(error.value).rpartition("such as ")[2]
    with open_stack(pattern, 2) as images:
        np.testing.assert_array_equal(images[0:20], FRAMES[0:40:2])


def test_missing_images_are_told(tmp_path, warned):
    folder = write(tmp_path / "images")
    compute_background(folder, frame_rate=50, kernel_size=9)
    assert not warned()
    (folder / "img_50.png").unlink()
    compute_background(folder, frame_rate=50)
    assert "first between img_49.png and img_51.png" in warned()[0]


def test_images_of_another_size_or_damaged_are_named(tmp_path):
    folder = write(tmp_path / "images")
    WRITE["PNG"](folder / "img_7", FRAMES[0, :9])
    with pytest.raises(OSError, match=r"img_7\.png: has shape \(9, 33\)"):
        compute_background(folder, frame_rate=50)
    WRITE["PNG"](folder / "img_7", DEEP[0])
    with pytest.raises(OSError, match=r"img_7\.png: has shape .* and dtype uint16, but .*uint8"):
        compute_background(folder, frame_rate=50)
    (folder / "img_7.png").write_bytes(b"\x89PNG")
    with pytest.raises(OSError, match=r"img_7\.png: cannot be read"):
        compute_background(folder, frame_rate=50)


def test_a_stack_in_a_folder_is_handed_over_by_its_own_path(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(12):
        tifffile.imwrite(folder / f"a_{number}.tif", FRAMES[:2])
    for path in (folder, folder / "*.tif"):
        with pytest.raises(ValueError, match=r"a_0\.tif holds 2 images, so these are stacks, not"):
            compute_background(path)
    tifffile.imwrite(folder / "a_0.tif", FRAMES[0])
    with pytest.raises(ValueError, match=r"a_1\.tif: holds 2 images, not one"):
        compute_background(folder)


def test_a_few_pictures_are_no_recording(tmp_path):
    folder = write(tmp_path / "images", FRAMES[:9], "TIFF")
    for path in (folder, folder / "*.tif"):
        with pytest.raises(
            ValueError, match=r"holds only 9 images .*if they are a recording"
        ) as error:
            compute_background(path, frame_rate=10)
        line = str(error.value).rpartition("such as ")[2]
        stack = eval(line, {"numpy": np, "tifffile": tifffile})
        np.testing.assert_array_equal(stack, FRAMES[:9])
    with open_stack(write(folder, FRAMES[:10], "TIFF"), 1) as images:
        np.testing.assert_array_equal(images[0:10], FRAMES[:10])


def test_colours_that_differ_have_to_be_chosen(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for number, image in enumerate(FRAMES[:20]):
        colours = np.stack([image, FRAMES[0], image], axis=-1)
        (folder / f"{number}.png").write_bytes(imagecodecs.png_encode(colours))
    with pytest.raises(ValueError, match=r"is in colour, .* channel=0 to channel=2"):
        compute_background(folder)
    for channel in (3, -1):
        with pytest.raises(ValueError, match=f"is no channel={channel}; choose from 0 to 2"):
            compute_background(folder, channel=channel)
    with open_stack(folder, 1, Choice(channel=0)) as images:
        np.testing.assert_array_equal(images[0:20], FRAMES[:20])
