"""Videos as PyAV writes them: the same bits as their frames, with their own rate or times."""

from fractions import Fraction

import av
import numpy as np
import pytest

from sparsemed import compute_background
from sparsemed.frames.choice import Choice
from sparsemed.frames.stacks import open_stack

FRAMES = np.random.default_rng(0).integers(60, 200, (90, 40, 66), np.uint8)


def write(path, frames, codec="ffv1", pixels="gray", given="gray", rate=30, times=None, **options):
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], pixels
        for number, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format=given)
            if times is not None:
                frame.pts, frame.time_base = int(times[number] * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def brightness(path):
    """Return what the decoder gives, by PyAV's own hand."""
    with av.open(path) as container:
        return np.stack([frame.to_ndarray()[:40] for frame in container.decode(video=0)])


LOSSLESS = {
    "film.mkv": {},
    "film.avi": {},
    "raw.avi": {"codec": "rawvideo"},
    "film.mov": {"codec": "rawvideo"},
}
LOSSY = {
    "film.mp4": {"codec": "libx264", "pixels": "yuv420p"},
    "film.mkv": {"codec": "libx264", "pixels": "yuv420p"},
    "film.avi": {"codec": "mjpeg", "pixels": "yuvj420p"},
    "film.webm": {"codec": "libvpx-vp9", "pixels": "yuv420p"},
}


@pytest.mark.parametrize("name", LOSSLESS)
def test_a_video_has_the_background_of_its_frames(tmp_path, name):
    path = write(tmp_path / name, FRAMES, **LOSSLESS[name])
    found = compute_background(path, kernel_size=9)
    expected = compute_background(FRAMES, frame_rate=30, kernel_size=9)
    for name in ("images", "frame_index", "offsets", "series", "time"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), strict=True)
    assert found.quality() == found.quality(FRAMES)
    assert not found.warnings


@pytest.mark.parametrize("name", LOSSY)
def test_grey_is_what_the_decoder_gives(tmp_path, monkeypatch, name):
    expected = brightness(write(tmp_path / name, FRAMES, **LOSSY[name]))
    monkeypatch.chdir(tmp_path)
    with open_stack(name, 2) as images:
        monkeypatch.chdir("/")
        np.testing.assert_array_equal(images[0:90], expected, strict=True)
        for part in (slice(40, 43), slice(3, 5), slice(89, 90), slice(0, 2)):  # any order
            np.testing.assert_array_equal(images[part], expected[part])
        assert (images.frame_rate, images.times) == (30, None)
    assert images._container is None  # and its file closed


@pytest.mark.parametrize(
    ("pixels", "most"), [("gray10le", 1023), ("gray12le", 4095), ("gray16le", 65535)]
)
def test_more_than_eight_bits_are_kept(tmp_path, pixels, most):
    frames = (FRAMES.astype(np.uint16) * 257) & most
    path = write(tmp_path / "film.mkv", frames, pixels=pixels, given=pixels)
    with open_stack(path, 1) as images:
        np.testing.assert_array_equal(images[0:90], frames, strict=True)


@pytest.mark.parametrize("first", [0, 1, 50])
def test_it_is_decoded_by_as_many_threads_as_given(tmp_path, first):
    path = write(tmp_path / "film.mp4", FRAMES, **LOSSY["film.mp4"])
    part = slice(first, first + 9)
    with open_stack(path, 5) as images:
        np.testing.assert_array_equal(images[part], brightness(path)[part])
        assert images._container.streams.video[0].codec_context.thread_count == 5


def test_a_varying_rate_is_kept_as_times(tmp_path):
    times = np.cumsum(np.random.default_rng(1).integers(1, 90, 90)) / 1000
    path = write(tmp_path / "film.mkv", FRAMES, times=times)
    found = compute_background(path, kernel_size=9)
    np.testing.assert_allclose(found.time, times - times[0], atol=1e-9)
    given = compute_background(path, kernel_size=9, frame_rate=10)  # who says so, knows better
    np.testing.assert_array_equal(given.time, np.arange(90) / 10)


def test_a_constant_rate_may_begin_at_any_time(tmp_path):
    path = write(tmp_path / "film.mkv", FRAMES, times=5 + np.arange(90) / 25, rate=25)
    with open_stack(path, 1) as images:
        assert (images.frame_rate, images.times) == (25, None)
        np.testing.assert_array_equal(images[40:43], FRAMES[40:43])


def test_frames_at_the_same_time_are_kept_in_their_order(tmp_path):
    path = write(tmp_path / "film.mkv", FRAMES, times=np.arange(90) // 2 / 25)
    with open_stack(path, 1) as images:
        assert images.times is None
        for part in (slice(0, 90), slice(41, 43), slice(7, 8)):
            np.testing.assert_array_equal(images[part], FRAMES[part])


def test_colours_that_differ_have_to_be_chosen(tmp_path):
    path = write(
        tmp_path / "film.avi", np.repeat(FRAMES[..., None], 3, -1), "rawvideo", "bgr24", "rgb24"
    )
    with open_stack(path, 1) as images:
        np.testing.assert_array_equal(images[0:90], FRAMES)
    colours = np.stack([FRAMES, FRAMES[::-1], FRAMES], axis=-1)
    write(path, colours, "rawvideo", "bgr24", "rgb24")
    with pytest.raises(ValueError, match=r"film\.avi: is in colour; choose ch"):
        compute_background(path)
    with open_stack(path, 1, Choice(channel=1)) as images:
        np.testing.assert_array_equal(images[0:90], FRAMES[::-1])


@pytest.mark.parametrize(
    ("name", "codec"), [("film.avi", "rawvideo"), ("film.avi", "msrle"), ("film.mov", "png")]
)
def test_a_palette_counts_for_all_frames_in_any_order(tmp_path, name, codec):
    values = np.stack([np.full(256, 255), *3 * [255 - np.arange(256)]], axis=1).astype(np.uint8)
    with av.open(tmp_path / name, "w") as container:
        stream = container.add_stream(codec, rate=30)
        stream.width, stream.height, stream.pix_fmt = 66, 40, "pal8"
        for image in FRAMES:
            frame = av.VideoFrame.from_ndarray((image, values), format="pal8")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with open_stack(tmp_path / name, 1) as images:
        for part in (slice(0, 90), slice(40, 43), slice(3, 5)):
            np.testing.assert_array_equal(images[part], 255 - FRAMES[part])


def test_memory_holds_few_frames(tmp_path, monkeypatch):
    path = write(tmp_path / "film.mkv", FRAMES)
    with open_stack(path, 1) as images:
        assert images.shape == (90, 40, 66)
        np.testing.assert_array_equal(images[0:9], FRAMES[:9])
        opened = []
        monkeypatch.setattr(type(images), "_open", lambda _: opened.append(1))
        for start in range(9, 90, 9):  # front to back takes no jump
            np.testing.assert_array_equal(images[start : start + 9], FRAMES[start : start + 9])
        assert not opened


@pytest.mark.parametrize("cut", [0.5, 0.98])
def test_a_video_that_is_cut_off_is_an_error_that_names_it(tmp_path, cut):
    path = write(tmp_path / "film.mp4", FRAMES, "libx264", "yuv420p", movflags="faststart")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(cut * len(whole))])
    with pytest.raises(OSError, match=r"film\.mp4"):
        compute_background(path)


def test_what_is_only_called_a_video_is_an_error_that_names_it(tmp_path):
    for name in ("film.AVI", "film.mp4"):
        (tmp_path / name).write_bytes(b"RIFF")
        with pytest.raises(OSError, match=rf"{name}: cannot be read \("):
            compute_background(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("film.mkv", {}),
        ("film.avi", {"codec": "rawvideo"}),
        ("film.flv", {"codec": "flv", "pixels": "yuv420p"}),
    ],
)
def test_a_video_that_is_cut_off_is_told(tmp_path, warned, name, how):
    path = write(tmp_path / name, FRAMES, **how)
    with open_stack(path, 2) as images:
        assert images.shape[0] == 90
    assert not warned()
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with open_stack(path, 2) as images:
        assert 50 < images.shape[0] < 70
    (text,) = warned()
    assert f"{name}: is cut off: its header tells of " in text


def test_one_of_several_videos_has_to_be_chosen(tmp_path):
    path = tmp_path / "film.mkv"
    with av.open(path, "w") as container:
        streams = [container.add_stream("ffv1", rate=30) for _ in range(2)]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt = 66, 40, "gray"
        for pair in zip(FRAMES, FRAMES[::-1], strict=True):
            for stream, image in zip(streams, pair, strict=True):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="gray")))
        for stream in streams:
            container.mux(stream.encode())
    with pytest.raises(ValueError, match=r"film.mkv: holds 2 videos \(0: 66 × 40; 1: 66 × 40\)"):
        compute_background(path)
    for number, expected in enumerate((FRAMES, FRAMES[::-1])):
        with open_stack(path, 2, Choice(series=number)) as images:
            np.testing.assert_array_equal(images[0:90], expected)
            np.testing.assert_array_equal(images[40:41], expected[40:41])
    with pytest.raises(ValueError, match="choose series=0 to series=1"):
        compute_background(path, series=2)


@pytest.mark.parametrize("suffix", [".ts", ".3gp", ".MTS", ".ogv"])
def test_the_ending_need_not_be_that_of_the_format(tmp_path, suffix):
    path = write(tmp_path / "film.mkv", FRAMES)
    with open_stack(path.rename(path.with_suffix(suffix)), 2) as images:
        np.testing.assert_array_equal(images[0:90], FRAMES)


def test_a_pointer_of_git_lfs_is_no_video(tmp_path):
    path = tmp_path / "film.avi"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1")
    with pytest.raises(ValueError, match=r"film.avi: is .*a pointer of Git LFS.*git lfs pull"):
        compute_background(path)
