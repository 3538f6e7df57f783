import dataclasses
import re
from functools import cache
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy import ndimage

from sparsemed import compute_background
from sparsemed.demo import make_measurement
from sparsemed.inputs.door import open_input
from sparsemed.parameters import Parameters
from sparsemed.quality import (
    Sample,
    assess,
    cure,
    flicker_events,
    grey_scale,
    overall,
    take_sample,
    wall_noise,
)
from sparsemed.quality.advice import longer
from sparsemed.quality.excerpt import take_excerpt
from sparsemed.quality.finding import Cure, judge, percent
from sparsemed.quality.light import grey_range
from sparsemed.quality.sample import sample_numbers, spread
from sparsemed.quality.trials import Trial
from sparsemed.quality.view import View, fit
from sparsemed.storage.identity import Identity


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Return a function that gives a demo measurement by its case; do not write to it."""
    folder = tmp_path_factory.mktemp("demo")

    @cache
    def made(case):
        make_measurement(folder / f"{case}.rtdc", case=case)
        return folder / f"{case}.rtdc"

    return made


def channel(count=300, height=44, width=50, dtype=np.uint8, seed=0):
    """Return frames of an empty channel with some structure and noise."""
    rng = np.random.default_rng(seed)
    structure = rng.integers(80, 120, (height, width))
    return (structure + rng.normal(0, 1.5, (count, height, width))).round().astype(dtype)


def background_of(images, **parameters):
    settings = {"kernel_size": 30, "split_time": 0.2} | parameters
    return compute_background(images, time=np.arange(len(images)) / 100, **settings)


def judged(background, images=None, try_cures=False):
    return {finding.key: finding for finding in background.quality(images, try_cures)}


def bad(background, images=None):
    return {key for key, finding in judged(background, images).items() if not finding.is_good}


# What people see: measurements that are good, and bad ones with the cause by name


def test_the_plain_demo_is_good(demo):
    findings = judged(compute_background(demo("plain")))
    assert set(findings) == {
        *("left", "saturation", "flicker", "crowd", "grain", "streaks", "change"),
        *("dropped", "drift", "windows"),
    }
    assert overall(list(findings.values())) == "good"
    assert "corrected by bg_off" in findings["flicker"].text


def test_slow_cells_are_named_and_the_advice_mends_them(demo):
    findings = judged(compute_background(demo("cells")), try_cures=True)
    poor = {key for key, finding in findings.items() if not finding.is_good}
    assert poor == {"left", "streaks", "change"}
    assert "kernel_size=500" in findings["streaks"].advice
    assert bad(compute_background(demo("cells"), kernel_size=500)) == set()


def test_an_unsteady_lamp_is_named_first_and_the_advice_helps(demo):
    before = judged(compute_background(demo("flicker")), try_cures=True)
    assert before["left"].value > 5
    first = before["channel"]
    assert before["left"].advice == f"See “{first.title}”."
    assert "leaves" in first.advice or "no parameter helps" in first.advice
    assert "steady the lamp" in first.advice
    assert "Cells" not in before["streaks"].advice
    after = judged(compute_background(demo("flicker"), kernel_size=25, split_time=0.12))
    assert after["flicker"].value < 0.7 * before["flicker"].value


@pytest.mark.parametrize("name", ["2023", "2024", "legacy", "variable-length-logs"])
@pytest.mark.parametrize("parameters", [{}, {"kernel_size": 15, "split_time": 0.25}])
def test_real_measurements_are_no_place_to_look(real, name, parameters):
    """They are of 11 to 40 frames, which are too few for more than one window or two."""
    findings = compute_background(real(name), **parameters).quality()
    assert overall(findings) == "cannot tell"
    assert "measure for longer" in findings[-1].advice


def test_a_measurement_in_many_steps_is_good(measurement):
    assert bad(compute_background(measurement, kernel_size=50, split_time=0.25)) == set()


# Each finding, and its formula


def test_noise_of_the_wall():
    images = channel()
    background = background_of(images)
    sample = take_sample(background, images, count=5)
    found = wall_noise(background, sample)
    for place, number in enumerate(sample.numbers):
        band = images[number, :20].astype(float)
        left = band - background[number][:20] - background.offsets[number]
        assert found.before[place] == pytest.approx(band.std())
        assert found.after[place] == pytest.approx(np.sqrt((left**2).mean()))
    steps = [
        (images[i, :20].astype(float) - images[j, :20]).std() for i, j in pairwise(sample.numbers)
    ]
    assert found.floor == pytest.approx(np.median(steps) / np.sqrt(2))
    assert found.floor == pytest.approx(1.5, rel=0.05)


def test_the_wall_is_as_high_as_offsets_say():
    images = channel()
    images[:, 6:] = np.random.default_rng(1).integers(0, 200, images[:, 6:].shape)
    background = background_of(images, offset_rows=6)
    sample = take_sample(background, images)
    noise = wall_noise(background, sample)
    np.testing.assert_allclose(noise.before, sample.frames[:, :6].std(axis=(1, 2)), rtol=1e-5)
    assert np.median(noise.after) < 2
    of_usual = dataclasses.replace(background, offset_rows=20)
    assert np.median(wall_noise(of_usual, sample).after) > 20
    assert View(background, sample).band == slice(0, 4)
    assert View(of_usual, sample).band == slice(0, 18)


def test_frames_that_repeat_do_not_count_for_the_noise_of_the_camera():
    images = np.repeat(channel(100), 3, axis=0)
    background = background_of(images)
    found = wall_noise(background, take_sample(background, images, count=300))
    assert found.floor == pytest.approx(1.5, rel=0.05)


def test_a_wall_that_moves_is_noise():
    images = np.stack(
        [np.roll(frame, number // 60, axis=1) for number, frame in enumerate(channel())]
    )
    background = background_of(images, kernel_size=100, split_time=1)
    findings = judged(background, images)
    noise = wall_noise(background, take_sample(background, images))
    assert not findings["noise"].is_good
    for number in (float(np.median(noise.after)), float(np.median(noise.before)), noise.floor):
        assert f"{number:.2g}" in findings["noise"].text
    steady = judged(background_of(channel(), kernel_size=100, split_time=1), channel())
    assert steady["left"].is_good
    assert "noise" not in steady  # the question is answered


def test_brightness_left_in_the_channel():
    images = channel(600, 64)
    images[::3, 20:] += 9  # the wall does not see it
    finding = judged(background_of(images), images)["channel"]
    assert 4 < finding.value < 9.5
    assert f"{finding.value:.2g} grey values" in finding.text
    assert "the first 20 rows do not tell how" in finding.advice
    clean = judged(background_of(channel(600, 64)), channel(600, 64))
    assert clean["left"].value < 1
    assert "channel" not in clean


def test_light_is_fitted_as_gain_and_what_is_added():
    rng = np.random.default_rng(0)
    below = rng.uniform(80, 160, (6, 20, 30)).astype(np.float32)
    gain, added = np.linspace(0.9, 1.1, 6), np.linspace(-5, 5, 6)
    images = (gain[:, None, None] * below + added[:, None, None]).astype(np.float32)
    images[:, 5:9, 5:9] -= 40  # a cell
    found = fit(images, below)
    np.testing.assert_allclose(found.gain, gain, atol=0.01)
    left = np.ones((20, 30), bool)
    left[5:9, 5:9] = False
    assert np.abs(found.left[:, left]).max() < 0.5
    even = np.full((2, 20, 30), 100, np.float32)
    assert fit(even + 3, even).added.tolist() == [3, 3]


@pytest.mark.parametrize("shift", [(0, 0), (0.4, 0), (0, -0.3), (0.5, 0.2)])
def test_shifts_are_found_in_pixels(shift):
    noise = np.random.default_rng(0).normal(0, 300, (44, 60))
    structure = ndimage.gaussian_filter(noise, 2) + 100
    moved = ndimage.shift(structure, shift, order=3, mode="nearest")
    slopes = np.stack(np.gradient(structure)).astype(np.float32)
    images, below = (each[None].astype(np.float32) for each in (moved, structure))
    found = fit(images, below, slopes[None])
    np.testing.assert_allclose(found.shift[0], shift, atol=0.08)


def test_what_changes_for_good_is_late_for_a_while():
    images = np.asarray(ndimage.gaussian_filter(channel(600).astype(float), (0, 2, 2)))
    images = (images - 100) * 4 + 100
    images[300:] = np.roll(images[300:], 1, axis=2)
    images = (images + np.random.default_rng(0).normal(0, 1.5, images.shape)).astype(np.uint8)
    findings = judged(background_of(images, kernel_size=100, split_time=1), images, True)
    assert findings["change"].value > 3
    assert "kernel_size=" in findings["change"].advice
    assert findings["streaks"].is_good


def test_what_comes_to_lie_somewhere_is_told_with_its_time():
    images = channel(600, 64, 120) // 2 + 50
    images[300:, 28:38, 50:70] -= 20
    advice = judged(background_of(images), images)["change"].advice
    at = float(re.search("at about ([0-9.]+) s", advice)[1])
    assert at == pytest.approx(3, abs=0.4)


def test_no_windows_no_verdict():
    images = channel(100)
    findings = background_of(images, kernel_size=40).quality(images)
    assert overall(findings) == "cannot tell"
    assert findings[-1].key == "windows"
    assert "Windows of 40 frames fit fewer than three times into 100" in findings[-1].advice
    assert "give them" in background_of(channel()).quality()[-1].advice


def test_changes_and_streaks_take_no_change_of_light_for_their_own():
    light = np.linspace(1, 1.3, 300)[:, None, None]
    images = (channel() * light).round().astype(np.uint8)
    findings = judged(background_of(images), images)
    assert findings["change"].is_good
    assert findings["streaks"].is_good


def test_streaks():
    images = channel(600)
    for begin, left in ((60, 2), (180, 14), (330, 26), (450, 38)):
        images[begin : begin + 40, 22:30, left : left + 10] -= 30
    finding = judged(background_of(images, frac_cleansing=1), images, try_cures=True)["streaks"]
    assert finding.value > 0.1
    assert "kernel_size=150. Tried on a part of the frames, this leaves" in finding.advice
    assert judged(background_of(images, kernel_size=150), images)["streaks"].is_good


def test_images_in_steps_of_many_grey_values_are_judged_by_these():
    images = channel().astype(np.uint16) * 16  # 12 bits in 16
    assert bad(background_of(images), images) == set()
    for begin in (60, 140, 230):
        images[begin : begin + 40, 22:30, 5:25] -= 500
    assert "streaks" in bad(background_of(images, frac_cleansing=1), images)


def test_dropped_images_in_a_row():
    background = background_of(channel())
    count = len(background.series)
    for run, expected in [(1, True), (3, True), (6, False)]:
        kept = np.ones(count, bool)
        kept[4 : 4 + run] = False
        changed = dataclasses.replace(background, kept=kept, images=background.series[kept])
        finding = judged(changed)["dropped"]
        assert finding.value == pytest.approx(run / count)
        assert finding.is_good
        assert ("of them in a row" in finding.text) != expected
    assert "6 of them in a row, from 0.8 to 1.8 s" in finding.text


def test_drift():
    images = channel(600)
    light = np.linspace(1, 1.3, 600)
    bright = (images * light[:, None, None]).round().astype(np.uint8)
    finding = judged(background_of(bright), bright)["drift"]
    walls = background_of(bright).series[:, :20].mean(axis=(1, 2))
    line = np.polynomial.Polynomial.fit(background_of(bright).step_times, walls, 1)
    expected = (line(background_of(bright).step_times[-1]) - line(0)) / walls.mean()
    assert finding.value == pytest.approx(expected)
    assert finding.is_good  # offsets correct it
    jumping = (images * np.where(light // 0.1 % 2, 1, 1.2)[:, None, None]).astype(np.uint8)
    assert judged(background_of(jumping), jumping)["drift"].is_good
    assert judged(background_of(images), images)["drift"].is_good
    assert judged(background_of(images[:1].repeat(300, 0)))["drift"].text.startswith("0 %")


@pytest.mark.parametrize(
    ("count", "size", "advice"),
    [
        (3000, 200, "=600"),
        (3000, 300, "=750"),
        (3000, 700, "measure for longer"),
        (300, 20, "=60"),
        (300, 30, "=75"),
        (300, 300, "measure for longer"),
    ],
)
def test_no_more_frames_are_advised_than_there_are(count, size, advice):
    background = background_of(channel(count, 22, 5))
    changed = dataclasses.replace(background, parameters=Parameters(kernel_size=size))
    found = longer(View(changed, None), 3)
    assert found == f"kernel_size{advice}" if "=" in advice else found.endswith(advice)


def test_what_is_advised_was_seen_to_help():
    images = np.asarray(ndimage.gaussian_filter(channel(1200).astype(float), (0, 2, 2)))
    images = (images - 100) * 4 + 100
    images[600:] = np.roll(images[600:], 1, axis=2)
    images = (images + np.random.default_rng(0).normal(0, 1.5, images.shape)).astype(np.uint8)
    background = background_of(images, kernel_size=200, split_time=1)
    before = judged(background, images, try_cures=True)
    said = re.search(
        r"kernel_size=(\d+).* leaves ([0-9.]+) grey values instead of ([0-9.]*[0-9])",
        before["change"].advice,
    )
    assert float(said[3]) == pytest.approx(before["left"].value, rel=0.2)
    settings = dict(re.findall(r"(kernel_size|split_time|frac_cleansing)=([0-9.]*[0-9])", said[0]))
    settings = {name: float(value) for name, value in settings.items()}
    settings["kernel_size"] = int(settings["kernel_size"])
    after = background_of(images, **({"split_time": 1} | settings)).quality(images, False)
    assert after[0].value == pytest.approx(float(said[2]), abs=0.3)
    assert overall(after) == "good"
    without = {each.key: each for each in background.quality(images, try_cures=False)}
    assert not any("kernel_size" in each.advice for each in without.values())
    assert "A report tries which settings help." in without["change"].advice


def test_settings_are_tried_on_a_part_of_many_or_large_frames(monkeypatch):
    monkeypatch.setattr("sparsemed.quality.excerpt.MOST_FRAMES", 300)
    monkeypatch.setattr("sparsemed.quality.excerpt.MOST_BYTES", 300 * 44 * 40)
    images = channel(900, 44, 96)
    background = background_of(images)
    for worst, first in ((0, 0), (450, 300), (899, 600)):
        with open_input(images) as given:
            excerpt = take_excerpt(given, background.time, worst)
        kept = np.r_[0:16, 48:64]
        np.testing.assert_array_equal(excerpt.frames, images[first : first + 300][:, :, kept])
        np.testing.assert_allclose(excerpt.time, np.arange(300) / 100)


def test_of_settings_that_leave_about_the_same_the_fewest_changes_are_advised():
    now = Parameters()
    cases = [
        ({"kernel_size": 50}, 0.50),
        ({"kernel_size": 50, "frac_cleansing": 1.0}, 0.45),
        ({"kernel_size": 25}, 0.9),
    ]
    trials = [Trial(now, 4.0), *(Trial(dataclasses.replace(now, **k), left) for k, left in cases)]
    found = cure._choose(now, trials)
    assert cure.told(now, trials, found) == Cure("kernel_size=50", 0.5, 4.0, 4)
    for before, after in ((4.0, 3.1), (0.35, 0.1)):
        trials = [Trial(now, before), Trial(dataclasses.replace(now, split_time=0.5), after)]
        assert cure._choose(now, trials) is None


def test_flicker_is_what_dcnum_calls_flicker():
    from dcnum.read import detect_flickering

    for events in (4, 5):
        images = channel(1000)
        for number in range(events):
            images[100 * number + 7] += 4
        background = background_of(images, offset_correction=False)
        finding = judged(background, images)
        assert detect_flickering(images) == (events == 5)
        with_offsets = background_of(images)
        assert flicker_events(with_offsets).sum() == events
        assert ("corrected" in judged(with_offsets)["flicker"].text) == (events == 5)
        assert flicker_events(background) is None
        looked_at = take_sample(background, images).numbers
        seen = np.count_nonzero(np.isin(looked_at, 100 * np.arange(events) + 7))
        assert finding["flicker"].text.startswith(f"{seen} of 96 frames (")


def test_flicker_without_offsets_is_seen_in_the_sample():
    images = channel()
    images[::4] += 8
    background = background_of(images, offset_correction=False)
    assert "flicker" not in judged(background)
    finding = judged(background, images)["flicker"]
    assert finding.advice == "The light flickers and nothing corrects it: offset_correction=True."
    assert {"noise", "channel"}.isdisjoint(bad(background_of(images), images))


def test_saturation():
    images = channel()
    images[:, 30:34, 5:20] = 255
    finding = judged(background_of(images), images)["saturation"]
    assert finding.value == pytest.approx(4 * 15 / (44 * 50))
    assert not finding.is_good
    twelve_bits = images.astype(np.uint16) * 16 + (images == 255) * np.uint16(15)
    assert not judged(background_of(twelve_bits), twelve_bits)["saturation"].is_good


def test_a_value_above_ten_bits_tells_that_the_camera_has_twelve():
    images = channel().astype(np.uint16)
    images[:, 30:34, 5:20] = 1023
    assert judged(background_of(images), images)["saturation"].value > 0
    images[:, 25, 3] = 1024
    assert judged(background_of(images), images)["saturation"].value == 0


# Samples


def test_a_sample_is_of_frames_from_everywhere_at_uneven_distances(demo):
    background = compute_background(demo("plain"))
    numbers, images = take_sample(background, count=7)
    assert (numbers // (2000 / 7)).tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert len(set(np.diff(numbers).tolist())) > 1
    assert take_sample(background, count=7).numbers.tolist() == numbers.tolist()
    with h5py.File(demo("plain")) as h5:
        np.testing.assert_array_equal(images, h5["events/image"][numbers])
        assert len(take_sample(background, frames=h5["events/image"]).numbers) == 96


def test_a_sample_of_mapped_images(real, tmp_path):
    background = compute_background(real("2023"), kernel_size=10)
    background.save(tmp_path / "out.rtdc")
    again = compute_background(tmp_path / "out.rtdc", kernel_size=10)
    found, expected = take_sample(again), take_sample(background)
    np.testing.assert_array_equal(found.frames, expected.frames)


def test_no_sample_without_frames(demo, tmp_path, warned):
    images = channel()
    background = background_of(images)
    assert take_sample(background) is None
    gone = dataclasses.replace(
        background, identity=Identity(tmp_path / "gone.rtdc", Path("gone.rtdc"), "measurement", 300)
    )
    assert take_sample(gone) is None
    assert "gone.rtdc" in warned()[-1]
    assert {"noise", "channel"}.isdisjoint(judged(gone))
    with pytest.raises(ValueError, match=r"frames: shape must be \(300, 44, 50\)"):
        take_sample(background, images[1:])


def test_of_few_images_and_frames_what_can_be_told_is_told():
    images = np.full((1, 12, 30), 7, dtype=np.uint8)
    background = compute_background(images)
    sample = Sample(np.array([0]), images)
    assert {finding.key for finding in assess(background, sample)} == {
        "flicker",
        "drift",
        "dropped",
        "noise",
        "saturation",
        "windows",
    }
    assert bad(background, images) == {"windows"}


def test_grey_scale():
    assert grey_scale(background_of(channel())) == 1
    bright = channel().astype(np.uint16) * 100
    assert grey_scale(background_of(bright)) == pytest.approx(np.median(bright) / 128, rel=0.01)
    assert grey_scale(background_of(channel().astype(np.uint16))) == 1


def test_a_finding_says_all_in_words():
    poor = judge("left", "What is left", 3, "3 grey values", "What frames show.", "Wait.")
    assert f"{poor}" == "look here: What is left: 3 grey values\n  → Wait."
    assert f"{poor._replace(verdict='good')}" == "good: What is left: 3 grey values"


# Numbers in words, and what they are made with


def test_shares_in_words():
    shares = (0, 4.9e-5, 5.1e-5, 0.0123, 0.0987, 0.1, 0.0996, 1, -0.2, -1e-5, -0.031)
    assert [percent(share) for share in shares] == [
        "0 %",
        "0 %",
        "0.0051 %",
        "1.2 %",
        "9.9 %",
        "10 %",
        "10 %",
        "100 %",
        "−20 %",
        "0 %",
        "−3.1 %",
    ]


def test_what_is_spread_is_from_the_first_to_the_last_and_at_least_one():
    cases = [(9, 3), (10, 3), (2, 5), (5, 1), (5, 0), (1, 9)]
    assert [spread(*each).tolist() for each in cases] == [
        [0, 4, 8],
        [0, 4, 9],
        [0, 1],
        [0],
        [0],
        [0],
    ]


def test_black_and_white_are_all_but_outliers_and_never_the_same():
    values = np.r_[0, np.full(1000, 50), np.linspace(50, 90, 1000), 255]
    assert grey_range(values) == tuple(np.quantile(values, [0.001, 0.999]))
    assert grey_range(np.full((2, 3), 7)) == (6, 8)


def test_findings_say_their_numbers():
    images = channel()
    images[::20] += 9
    background = background_of(images, frac_cleansing=1)
    kept = np.ones(15, bool)
    kept[[2, 7, 8]] = False
    unwritten = ((3, 4), (10, 12))
    background = dataclasses.replace(
        background,
        kept=kept,
        images=background.series[kept],
        unwritten=unwritten,
        frame_index=np.arange(300) // 25,
    )
    findings = judged(background, images)
    value = {key: finding.value for key, finding in findings.items()}
    assert value["unwritten"] == 3 / 300
    assert findings["unwritten"].text.startswith("3 of 300 (1 %): ")
    assert value["flicker"] == flicker_events(background).sum() / 300
    assert findings["flicker"].text.startswith("15 of 300 frames (5 %)")
    assert value["dropped"] == 3 / 15
    assert findings["dropped"].text.startswith("3 of 15 images (20 %)")
    assert "2 in a row" in findings["dropped"].text
    for key in ("streaks", "saturation", "drift"):
        assert percent(value[key]) in findings[key].text


@pytest.mark.parametrize(("end", "sign"), [(1.2, "+"), (0.8, "−"), (1, "")])
def test_drift_has_a_sign(end, sign):
    bright = np.linspace(1, end, 300)[:, None, None] * np.full((300, 24, 10), 100.0)
    finding = judged(background_of(bright.round().astype(np.uint8)))["drift"]
    assert finding.value == pytest.approx(end - 1, abs=0.05)
    assert finding.text.startswith(sign or "0 %")


def test_samples_of_images_of_any_size_are_enough_to_tell():
    assert [len(sample_numbers(500, side, side)) for side in (80, 2048, 9000)] == [96, 32, 16]


@pytest.mark.parametrize("shape", [(3, 4, 5), (400, 4, 5), (50, 1, 1), (60, 25, 3), (40, 2, 90)])
def test_frames_of_a_few_pixels_are_judged_and_drawn(shape):
    frames = np.random.default_rng(0).integers(60, 90, shape, dtype=np.uint8)
    background = compute_background(frames, frame_rate=10, kernel_size=5, split_time=0.5)
    for findings in (background.quality(frames), background.quality()):
        assert {each.verdict for each in findings} <= {"good", "look here", "cannot tell"}
    assert background.plot(frames).axes
