import dataclasses
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from matplotlib.text import Text

from sparsemed import compute_background, plotting
from sparsemed.quality import assess, take_sample


def frames(count=120, height=44, width=120, dtype=np.uint8):
    rng = np.random.default_rng(0)
    images = rng.integers(90, 110, (height, width)) + rng.normal(0, 2, (count, height, width))
    images[::17] += 9
    return images.round().astype(dtype)


CASES = {
    "usual": (frames(), {"split_time": 0.1}),
    "one image": (frames(3), {}),
    "many images": (frames(1200, 24, 60), {"split_time": 0.01}),
    "no offsets": (frames(), {"split_time": 0.1, "offset_correction": False}),
    "no cleansing": (frames(), {"split_time": 0.1, "frac_cleansing": 1}),
    "square, 16 bits": (frames(60, 40, 40, np.uint16) * 50, {"split_time": 0.1}),
    "few rows": (frames(30, 12, 50), {"split_time": 0.1}),
    "constant": (np.full((50, 44, 120), 9, np.uint8), {"split_time": 0.1}),
}


@pytest.fixture(params=CASES)
def case(request):
    images, parameters = CASES[request.param]
    time = np.arange(len(images)) / 100
    settings = {"kernel_size": min(len(images), 10)} | parameters
    background = compute_background(images, time=time, **settings)
    return background, take_sample(background, images)


def text_of(figure):
    return " ".join(text.get_text() for text in figure.findobj(Text))


def render(figure):
    """Draw a figure, as a picture; warnings are errors."""
    file = BytesIO()
    figure.savefig(file, dpi=50)
    file.seek(0)
    return matplotlib.image.imread(file)


def test_the_page_can_be_drawn_and_says_what_the_numbers_say(case):
    background, sample = case
    figure = plotting.plot(background, sample)
    text = text_of(figure)
    for finding in assess(background, sample):
        assert f"{finding.title}: {finding.text}" in text
    assert "time (s)" in text
    assert "grey values" in text
    assert looks_drawn(figure)


def test_the_frame_on_the_page_is_less_its_own_background_and_offset():
    images = frames()
    images[::2] += 20
    background = compute_background(images, time=np.arange(120) / 100, kernel_size=9)
    sample = take_sample(background, images, count=3)
    number = sample.numbers[1]
    assert background.offsets[number] != background.offsets[0]
    figure = plotting.plot(background, sample)
    (axes,) = [axes for axes in figure.axes if axes.get_title("left") == "frame − background"]
    expected = images[number] - background[number].astype(float) - background.offsets[number]
    np.testing.assert_array_equal(axes.images[0].get_array(), expected)


def test_each_picture_can_be_drawn_alone():
    images, parameters = CASES["usual"]
    background = compute_background(images, time=np.arange(120) / 100, kernel_size=10, **parameters)
    sample = take_sample(background, images)
    corrected = background.subtract(images[7:8], start=7)[0]
    assert looks_drawn(plotting.plot_series(background))
    assert looks_drawn(plotting.plot_score(background))
    assert looks_drawn(plotting.plot_offsets(background))
    assert looks_drawn(plotting.plot_noise(background, sample))
    assert looks_drawn(plotting.plot_frame(images[7], background[7], corrected))


def looks_drawn(figure):
    """Tell whether a figure is as wide as a page, and not empty."""
    drawn = render(figure)
    return drawn.shape[1] == 400 and drawn[..., :3].std() > 0.02


def test_dropped_images_are_named():
    images, parameters = CASES["usual"]
    background = compute_background(images, time=np.arange(120) / 100, kernel_size=10, **parameters)
    dropped = [f"✕ {time:.4g} s, dropped" for time in background.step_times[~background.kept]]
    text = text_of(plotting.plot_series(background))
    assert dropped
    assert all(title in text for title in dropped)
    assert text.count(", dropped") == len(dropped)
    assert f"dropped ({len(dropped)})" in text_of(plotting.plot_score(background))


def test_flicker_is_marked_by_colour_and_shape():
    images, parameters = CASES["usual"]
    background = compute_background(images, time=np.arange(120) / 100, kernel_size=10, **parameters)
    (axes,) = plotting.plot_offsets(background).axes
    marks = {line.get_label(): line for line in axes.lines}
    flicker = marks["flicker (8)"]
    np.testing.assert_array_equal(flicker.get_xdata(), background.time[::17])
    assert flicker.get_marker() != marks["frame"].get_marker()
    assert flicker.get_color() != marks["frame"].get_color()


def test_the_band_without_flicker_is_around_the_usual_offset():
    images, parameters = CASES["usual"]
    background = compute_background(images, time=np.arange(120) / 100, kernel_size=10, **parameters)
    figure = plotting.plot_offsets(dataclasses.replace(background, offsets=background.offsets + 40))
    render(figure)
    (axes,) = figure.axes
    band = axes.patches[0].get_window_extent().transformed(axes.transData.inverted())
    usual = np.median(background.offsets) + 40
    np.testing.assert_allclose([band.y0, band.y1], [usual - 2.5, usual + 2.5])


def test_many_images_are_shown_as_some_of_them():
    images, parameters = CASES["many images"]
    background = compute_background(
        images, time=np.arange(1200) / 100, kernel_size=10, **parameters
    )
    figure = plotting.plot_series(background)
    assert len(background.series) == 1199
    assert sum(bool(axes.images) for axes in figure.axes) == 24
    assert "24 are shown" in text_of(figure)


def test_nothing_is_said_about_images_left_out_where_there_are_none():
    images, parameters = CASES["usual"]
    background = compute_background(images, time=np.arange(120) / 100, kernel_size=10, **parameters)
    text = text_of(plotting.plot_series(background))
    assert f"Background images along time: {len(background.series)}" in text
    assert "shown" not in text


def test_a_notebook_can_show_a_picture():
    drawn = plotting.plot_score(compute_background(frames(3)))._repr_png_()
    assert matplotlib.image.imread(BytesIO(drawn)).shape[1] == 800


def test_the_state_of_pyplot_is_not_touched(tmp_path):
    code = """
import sys, numpy as np, sparsemed
images = np.random.default_rng(0).integers(0, 9, (30, 40, 90)).astype(np.uint8)
sparsemed.compute_background(images, time=np.arange(30)).plot(images).savefig("page.png")
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


@pytest.mark.parametrize("usetex", [False, True])
def test_a_file_name_is_no_formula(usetex):
    images = frames(30)
    background = compute_background(images, time=np.arange(30) / 100, kernel_size=10)
    odd = dataclasses.replace(background, source=Path("$\\frac{$ \\input{x} \x1b\u202e.rtdc"))
    with matplotlib.rc_context({"text.usetex": usetex}):
        figure = plotting.plot(odd, take_sample(odd, images))
    shown = r"$\frac{$ \input{x} \x1b\u202e.rtdc"
    (title,) = [text for text in figure.findobj(Text) if text.get_text() == shown]
    assert not title.get_usetex()
    if not usetex:  # nothing else needs LaTeX to be installed
        figure.savefig(BytesIO())
