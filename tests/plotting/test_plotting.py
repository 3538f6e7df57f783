import dataclasses
import subprocess
import sys
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from matplotlib.colors import same_color
from matplotlib.text import Text
from rings import few_of

import sparsemed
from sparsemed import compute_background, plotting
from sparsemed.quality import assess, take_sample, wall_noise
from sparsemed.quality.view import View
from sparsemed.storage.identity import Identity


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


@pytest.fixture(params=few_of(CASES, 3))
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
    name = Path("$\\frac{$ \\input{x} \x1b\u202e.rtdc")
    odd = dataclasses.replace(background, identity=Identity(name, name, "measurement", 300))
    with matplotlib.rc_context({"text.usetex": usetex}):
        figure = plotting.plot(odd, take_sample(odd, images))
    shown = r"$\frac{$ \input{x} \x1b\u202e.rtdc"
    (title,) = [text for text in figure.findobj(Text) if text.get_text() == shown]
    assert not title.get_usetex()
    if not usetex:  # nothing else needs LaTeX to be installed
        figure.savefig(BytesIO())


# What is drawn where, in artists of matplotlib's


def made_up(count=5, shape=(44, 120), dropped=(), frames=60, dtype=np.uint8, **changes):
    """Return a background all of whose values are known."""
    series = np.random.default_rng(0).integers(60, 120, (count, *shape)).astype(dtype)
    kept = ~np.isin(np.arange(count), dropped)
    fields = {
        "images": series[kept],
        "frame_index": np.arange(frames) * kept.sum() // frames,
        "offsets": np.linspace(-1, 2, frames),
        "time": np.linspace(0, count, frames),
        "series": series,
        "step_times": np.arange(count, dtype=float),
        "kept": kept,
        "score": np.linspace(0.5, 4, count),
        "threshold": 1.75,
    }
    return sparsemed.SparseBackground(**fields | changes)


def labels(axes):
    return {line.get_label(): line for line in axes.lines}


def points(line):
    return np.column_stack(line.get_data()).tolist()


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


@pytest.mark.parametrize(("shape", "columns"), [((45, 100), 4), ((46, 100), 8)])
def test_the_series_is_drawn_in_order_with_one_scale_and_dropped_images_framed(shape, columns):
    background = made_up(10, shape, dropped=(1, 6))
    figure = plotting.plot_series(background)
    render(figure)
    *panels, bar = figure.axes
    assert len(panels) == -(-10 // columns) * columns
    assert len({round(axes.get_position().x0, 3) for axes in panels}) == columns
    low, high = np.quantile(background.series, [0.001, 0.999])
    for number, axes in enumerate(panels):
        is_dropped = number in (1, 6)
        assert axes.axison == is_dropped
        if number >= 10:
            assert not axes.images
            continue
        np.testing.assert_array_equal(axes.images[0].get_array(), background.series[number])
        assert axes.images[0].get_clim() == pytest.approx((low, high))
        more = ", dropped" if columns == 4 else ""
        assert axes.get_title() == (f"✕ {number} s{more}" if is_dropped else f"{number} s")
        if is_dropped:
            assert same_color(axes.title.get_color(), "#D55E00")
            assert all(same_color(s.get_edgecolor(), "#D55E00") for s in axes.spines.values())
            assert (list(axes.get_xticks()), list(axes.get_yticks())) == ([], [])
        # an image is as wide as its place allows
        assert axes.get_window_extent().width > 0.85 * (400 - 45) / columns
    assert bar.get_ylabel() == "grey values"
    assert figure.get_suptitle() == (
        "Background images along time: 10, 2 of them dropped (✕, framed)"
    )
    assert figure.get_size_inches()[0] == 8


def test_twenty_four_images_are_shown_and_of_more_as_many_evenly_spaced():
    for count, more in ((24, ""), (47, "; 24 are shown")):
        figure = plotting.plot_series(made_up(count, (6, 20)))
        title = f"Background images along time: {count}, none dropped{more}"
        assert figure.get_suptitle() == title
        shown = [axes.get_title() for axes in figure.axes if axes.images]
        assert shown == [f"{number} s" for number in range(0, count, 1 if count == 24 else 2)]
    heights = [plotting.plot_series(made_up(n, (6, 20))).get_size_inches()[1] for n in (24, 25, 1)]
    assert heights[0] == heights[1] > heights[2] == 1.3


@pytest.mark.parametrize("shape", [(45, 100), (46, 100)], ids=["wide", "square"])
@pytest.mark.parametrize("reach", [0.25, 30])
def test_a_frame_and_its_background_have_one_scale_and_their_difference_that_of_reports(
    shape, reach
):
    frame, below = np.random.default_rng(0).integers(0, 250, (2, *shape))
    below[0] += 100
    difference = np.linspace(-reach, 0, frame.size).reshape(shape)
    figure = plotting.plot_frame(frame, below, difference)
    render(figure)
    panels = [axes for axes in figure.axes if axes.images]
    bars = [axes for axes in figure.axes if not axes.images]
    titles = ["raw frame", "background", "frame − background"]
    assert [axes.get_title("left") for axes in panels] == titles
    for axes, image in zip(panels, (frame, below, difference), strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), image)
    low, high = np.quantile([frame, below], [0.001, 0.999])
    limits = [axes.images[0].get_clim() for axes in panels]
    np.testing.assert_allclose(limits, [(low, high), (low, high), (-5, 5)])
    assert panels[2].images[0].colorbar.extend == ("both" if reach > 5 else "neither")
    along, across = "x, along the flow (pixel)", "y (pixel)"
    names = [(axes.get_xlabel(), axes.get_ylabel()) for axes in panels]
    if shape == (45, 100):
        assert names == [("", across), ("", across), (along, across)]
        assert [axes.get_ylabel() for axes in bars] == ["grey values"] * 3
        shown = [axes.xaxis.get_major_ticks()[0].label1.get_visible() for axes in panels]
        assert shown == [False, False, True]
        assert len({round(axes.get_position().x0, 2) for axes in panels}) == 1
    else:
        assert names == [(along, across), (along, ""), (along, "")]
        assert [axes.get_xlabel() for axes in bars] == ["grey values"] * 3
        assert len({round(axes.get_position().y0, 2) for axes in panels}) == 1
    least = 400 * (0.7 if shape == (45, 100) else 0.28)
    assert min(axes.get_window_extent().width for axes in panels) > least


@pytest.mark.parametrize(("dtype", "scale"), [(np.uint8, 1), (np.uint16, 20)])
def test_a_page_shows_little_that_is_left_beside_cells(dtype, scale):
    """As a report does, whatever the largest difference is."""
    frames = np.full((60, 40, 60), 128 * scale, dtype)
    frames[30, 20:30, 20:30] -= 90 * scale
    background = compute_background(frames, frame_rate=10, kernel_size=9)
    figure = background.plot(frames)
    (shown,) = [axes for axes in figure.axes if axes.get_title("left") == "frame − background"]
    assert shown.images[0].get_clim() == (-5 * scale, 5 * scale)


def test_scores_are_drawn_by_their_fate_with_the_threshold():
    background = made_up(5, dropped=(3, 4))
    (axes,) = plotting.plot_score(background).axes
    assert legend(axes) == ["kept (3)", "dropped (2)", "threshold (1.75)"]
    assert axes.get_title("left") == "Cleansing drops images above the threshold"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("time (s)", "score (grey values)")
    drawn = labels(axes)
    assert points(drawn["kept (3)"]) == [[0, 0.5], [1, 1.375], [2, 2.25]]
    assert points(drawn["dropped (2)"]) == [[3, 3.125], [4, 4]]
    assert drawn["kept (3)"].get_marker() != drawn["dropped (2)"].get_marker()
    assert set(drawn["threshold (1.75)"].get_ydata()) == {1.75}
    np.testing.assert_allclose([axes.get_ylim(), axes.get_xlim()], [(-0.2, 4.32), (-0.08, 4.08)])


def test_without_cleansing_or_without_any_score_there_is_no_threshold_and_still_a_scale():
    background = made_up(2, threshold=np.inf, score=np.zeros(2))
    (axes,) = plotting.plot_score(background).axes
    assert legend(axes) == ["kept (2)"]
    assert axes.get_title("left") == "Cleansing was off (frac_cleansing=1)"
    np.testing.assert_allclose(axes.get_ylim(), (-0.05e-3, 1.08e-3))


@pytest.mark.parametrize("strongest", [2, 12])
def test_offsets_are_drawn_within_the_picture_along_with_the_band(strongest):
    offsets = np.zeros(60)
    offsets[[5, 7]] = -strongest, strongest
    (axes,) = plotting.plot_offsets(made_up(offsets=offsets)).axes
    flicker = ["flicker (2)"] if strongest == 12 else []
    assert legend(axes) == ["frame", *flicker, "no flicker (± 2.5)"]
    assert len(labels(axes)["frame"].get_xdata()) == 60 - len(flicker) * 2
    reach = max(4, strongest) * 1.12
    np.testing.assert_allclose(axes.get_ylim(), (-reach, reach))
    assert axes.get_title("left") == "Brightness offset of each frame (bg_off)"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("time (s)", "offset (grey values)")


def test_where_there_are_no_offsets_the_picture_says_so():
    (axes,) = plotting.plot_offsets(made_up(offsets=None)).axes
    (said,) = axes.texts
    assert said.get_text() == "no offsets were computed (offset_correction=False)"
    assert said.get_position() == (0.5, 0.5)
    assert said.get_transform() == axes.transAxes
    assert axes.get_title("left") == "Brightness offset of each frame (bg_off)"
    assert (list(axes.get_yticks()), axes.get_legend(), axes.get_ylabel()) == ([], None, "")
    np.testing.assert_allclose(axes.get_xlim(), (-0.1, 5.1))


def test_many_points_are_drawn_smaller():
    for few, many, plot in [
        (made_up(199, (6, 20)), made_up(200, (6, 20)), plotting.plot_score),
        (made_up(frames=4999), made_up(frames=5000), plotting.plot_offsets),
    ]:
        sizes = [plot(each).axes[0].lines[0].get_markersize() for each in (few, many)]
        assert sizes[1] <= 0.6 * sizes[0]


def test_noise_is_drawn_as_it_is_and_on_a_scale_of_logarithms():
    images = frames(60)
    background = compute_background(images, time=np.arange(60) / 10, kernel_size=9)
    sample = take_sample(background, images, count=7)
    noise = wall_noise(background, sample)
    (axes,) = plotting.plot_noise(background, sample).axes
    assert legend(axes) == ["before", "after", f"camera ({noise.floor:.2g})"]
    drawn = labels(axes)
    for name, levels in (("before", noise.before), ("after", noise.after)):
        expected = np.column_stack([background.time[sample.numbers], levels]).tolist()
        assert points(drawn[name]) == expected
    assert set(drawn[f"camera ({noise.floor:.2g})"].get_ydata()) == {noise.floor}
    assert axes.get_yscale() == "log"
    low = min(noise.floor, *noise.before, *noise.after)
    high = max(*noise.before, *noise.after)
    np.testing.assert_allclose(axes.get_ylim(), (0.6 * low, 1.7 * high))
    assert axes.get_title("left") == "Noise of the first rows, background subtracted"
    assert axes.get_ylabel() == "noise (grey values)"
    np.testing.assert_allclose(axes.get_xlim(), (-0.118, 6.018))


def test_where_nothing_is_noisy_there_is_neither_a_camera_nor_a_logarithm():
    images = np.full((9, 44, 60), 90, np.uint8)
    background = compute_background(images, time=np.arange(9.0))
    (axes,) = plotting.plot_noise(background, take_sample(background, images)).axes
    assert (axes.get_yscale(), legend(axes)) == ("linear", ["before", "after"])


def test_the_page_begins_with_what_was_measured_and_says_all_that_is_found():
    images = frames()
    images[::3, 20:] += 12
    images[40:90] += 30
    background = compute_background(images, time=np.arange(120) / 100, kernel_size=10)
    sample = take_sample(background, images, count=4)
    figure = plotting.plot(background, sample)
    render(figure)
    top = figure.subfigs[0]
    assert top.get_suptitle() == "Background"
    heading, *lines = top.axes[0].texts
    assert heading.get_text() == f"120 frames of 44 × 120, 1.19 s; {background.parameters}"
    findings = assess(background, sample)
    assert len({finding.is_good for finding in findings}) == 2
    said = " ".join(" ".join(line.get_text().split()) for line in lines)
    sign = {"good": "✓", "look here": "▲", "cannot tell": "?"}
    marks = [
        f"{sign[f.verdict]} {f.verdict}: {f.title}: {f.text}" + f" → {f.advice}" * (not f.is_good)
        for f in findings
    ]
    assert said == " ".join(marks)
    for line in lines:
        is_first = line.get_text().startswith(("✓ good", "▲ look here", "? cannot tell"))
        is_good = line.get_text().startswith("✓ good")
        assert line.get_color() == ("black" if is_good else "#D55E00")
        assert (line.get_weight() == "bold") == (is_first and not is_good)
    boxes = [line.get_window_extent() for line in (heading, *lines)]
    assert all(above.y0 > below.y0 for above, below in pairwise(boxes))
    assert (
        max(
            box.x1
            for box, line in zip(boxes[1:], lines, strict=True)
            if line.get_text().startswith("  ")
        )
        < figure.bbox.x1
    )
    number = int(sample.numbers[2])
    assert figure.subfigs[4].get_suptitle() == f"Frame {number}, at {number / 100:.4g} s"
    raw, below, _ = [axes.images[0].get_array() for axes in figure.subfigs[4].axes if axes.images]
    np.testing.assert_array_equal(raw, images[number])
    np.testing.assert_array_equal(below, background[number])
    without = plotting.plot(background)
    assert len(without.subfigs) == 4
    assert "frame − background" not in text_of(without)
    assert "noise (grey values)" not in text_of(without)


def test_frames_that_are_all_the_same_have_a_noise_but_no_camera():
    images = np.broadcast_to(frames(1), (9, 44, 120))
    background = compute_background(images, time=np.arange(9.0), offset_correction=False)
    background.images[:, :10] += 3
    (axes,) = plotting.plot_noise(background, take_sample(background, images)).axes
    assert (axes.get_yscale(), legend(axes)) == ("log", ["before", "after"])
    level = np.sqrt(9 / 2)
    before = images[0, :20].std()
    np.testing.assert_allclose(axes.get_ylim(), (0.6 * level, 1.7 * before))


def test_the_band_without_flicker_is_as_wide_as_the_camera_is_deep():
    """12 bits in 16: the middle of the range is 2048, where that of 8 bits is 128."""
    deep = np.full((5, 44, 120), 2048, np.uint16)
    background = dataclasses.replace(made_up(offsets=np.zeros(60)), images=deep, series=deep)
    (axes,) = plotting.plot_offsets(background).axes
    assert legend(axes) == ["frame", "no flicker (± 40)"]
    (band,) = axes.patches
    _, heights = band.get_path().transformed(band.get_patch_transform()).vertices.T
    np.testing.assert_allclose([heights.min(), heights.max()], [-40, 40])


def test_large_images_are_shrunk_but_their_axes_count_pixels():
    image = np.random.default_rng(0).integers(0, 250, (60, 2500))
    figure = plotting.plot_frame(image, image, image - 125.0)
    for axes in figure.axes:
        if axes.images:
            assert axes.images[0].get_array().shape[1] <= 1250
            np.testing.assert_allclose(
                [axes.get_xlim(), axes.get_ylim()], [(-0.5, 2499.5), (59.5, -0.5)]
            )


@pytest.mark.parametrize(("width", "beside"), [(120, False), (44, True)])
def test_what_is_left_and_where_fit_on_a_screen(width, beside):
    images = frames(width=width)
    background = compute_background(images, np.arange(120) / 10, kernel_size=30)
    figure = plotting.plot_left(View(background, take_sample(background, images)))
    render(figure)
    course, where = (axes.get_position() for axes in figure.axes[:2])
    assert (where.x0 > course.x1, where.y1 < course.y0) == (beside, not beside)
    wide, tall = figure.get_size_inches()
    assert tall < 0.65 * wide
