import base64
import dataclasses
import html
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import click.testing
import h5py
import imagecodecs
import matplotlib
import numpy as np
import pytest
from rings import few_of

import sparsemed
from sparsemed import SparseBackground, compute_background
from sparsemed.cli import main
from sparsemed.demo import make_measurement
from sparsemed.parameters import Parameters
from sparsemed.quality.finding import CANNOT_TELL, GOOD, LOOK_HERE, Finding
from sparsemed.quality.question import worst
from sparsemed.quality.sample import spread, take_sample
from sparsemed.quality.view import View
from sparsemed.report import check_report, markup, write_report
from sparsemed.report.commands import compute_command
from sparsemed.report.facts import Facts, read_facts
from sparsemed.report.pictures import grey_picture, shrinkage, shrunk_note
from sparsemed.report.slides import _around
from sparsemed.report.tries import MOST, NAME, Try, as_text, read_tries, with_another

VOID = {"source", "meta", "link", "img", "br", "input", "path", "wbr"}


class Page(HTMLParser):
    """A page, taken apart; unbalanced tags are an error."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self._open = [], {}, []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        tag = self._open[-1] if self._open else ""
        self.text[tag] = self.text.get(tag, "") + data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def slides(self):
        return [li for li in self.all("li") if li.get("class", "").startswith("slide")]

    @property
    def images(self):
        """Alternative texts and pixels of all images."""
        return {
            img["alt"]: imagecodecs.png_decode(base64.b64decode(img["src"].partition(",")[2]))
            for img in self.all("img")
        }


def read(path):
    return Page(path.read_text(encoding="utf-8"))


def invoke(*arguments):
    return click.testing.CliRunner().invoke(main, [str(argument) for argument in arguments])


def report(*arguments):
    result = invoke("report", *arguments)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "demo.rtdc"
    make_measurement(path, count=400)
    return path


@pytest.fixture(scope="module")
def shown(demo):
    """Return a background, and the page on it."""
    background = compute_background(demo, kernel_size=100, split_time=0.5)
    page = demo.with_name("page.html")
    write_report(background, page)
    return background, page


HOSTILE = "<img src=x onerror=alert(1)> & \"quoted\" 'x' $name ${script} </title><b>"
SCRIPT = "</script><script>document.title = 'owned'</script>"
STRANGE = [
    SCRIPT,
    '"><img src=x onerror=alert(1)>',
    "</style><style>* { display: none }</style>",
    "&amp;",
    "</title></textarea><svg onload=alert(1)>",
    "<!--",
    "]]>",
    "javascript:alert(1)",
    "${script} $frac{",
    r"$\frac{$",
    "\u202egnp.exe\u2066",
    "\u2028alert(1)",
    "a\0\x1b[2Jb\r\n",
    "\ud800",
]


@pytest.fixture(scope="module")
def hostile(demo):
    """Return the page on a measurement whose name and metadata are markup."""
    path = demo.with_name(HOSTILE.replace("/", "∕") + ".rtdc")
    shutil.copy(demo, path)
    with h5py.File(path, "a") as h5:
        for number, text in enumerate(STRANGE):
            stored = text.replace("\0", "").encode(errors="surrogatepass")
            h5.attrs[f"{number} {text}".replace("\0", "").encode(errors="replace")] = stored
        h5.attrs[SCRIPT] = b"\xffbytes"
        h5.attrs["setup:long"] = "x" * 100_000
        background = h5.create_dataset("events/image_bg", h5["events/image"].shape, "u1")
        background.attrs["dcnum ppid background"] = "".join(STRANGE[:5])
    page = demo.with_name("hostile.html")
    report(path, "-o", page, "-k", "kernel_size=50")
    return page


def test_the_page_has_all_that_is_promised(shown):
    background, path = shown
    page = read(path)
    text = path.read_text(encoding="utf-8")
    for finding in background.quality():
        assert finding.title in text
    assert len(background.series) + 10 <= len(page.slides) <= len(background.series) + 13
    dropped = [slide for slide in page.slides if slide["class"] == "slide dropped"]
    assert len(dropped) == np.count_nonzero(~background.kept) > 0
    assert "sparsemed:k=100^s=0.5^t=0^f=0.8^o=1" in page.text["code"]
    assert "-k kernel_size=100 -k split_time=0.5" in page.text["code"]
    for word in ("sparsemed demo", "400", "numpy", "imaging:frame rate"):
        assert word in page.text["td"] + page.text["th"]
    for name in vars(background.parameters):
        assert name in page.text["code"]


def test_the_verdict_comes_first_and_says_what_to_change(tmp_path):
    path = tmp_path / "cells.rtdc"
    make_measurement(path, count=400, case="cells")
    background = compute_background(path, kernel_size=50, split_time=0.5)
    poor = [finding for finding in background.quality() if not finding.is_good]
    assert poor
    write_report(background, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert text.index("Look here") < text.index("<main>")
    for finding in poor:
        assert finding.advice in text
    good = "✓ good"
    assert max(text.index(finding.advice) for finding in poor) < text.index(good)


def test_images_are_what_they_say(shown, demo):
    background, path = shown
    images = read(path).images
    number = int(next(alt for alt in images if alt.endswith(", raw")).split()[1].rstrip(","))
    with h5py.File(demo) as h5:
        frame = h5["events/image"][number]
    raw = images[f"Frame {number}, raw"].astype(int)
    below = images[f"Background of frame {number}"].astype(int)
    # one scale for both, linear between black and white
    inside = (raw > 0) & (raw < 255)
    slope, base = np.polyfit(raw[inside], frame[inside], 1)
    assert abs(raw * slope + base - frame)[inside].max() < 1
    inside = (below > 0) & (below < 255)
    assert abs(below * slope + base - background[number])[inside].max() < 1
    # grey is 0
    corrected = images[f"Frame {number} less background"].astype(float) - 127.5
    difference = background.subtract(frame, number)
    expected = np.clip(difference * 127.5 / 5, -127.5, 127.5)
    np.testing.assert_allclose(corrected, expected, atol=1)
    (series,) = (each for alt, each in images.items() if alt.startswith("Background image 1, "))
    series = series.astype(int)
    inside = (series > 0) & (series < 255)
    assert np.corrcoef(series[inside], background.series[0][inside])[0, 1] > 0.999


def test_a_frame_less_its_background_and_offset_is_grey(tmp_path):
    """All that differs is the light, by as much as the offsets say."""
    scene = np.random.default_rng(0).integers(60, 120, (30, 40))
    light = np.where(np.arange(100) % 3, 0, 12)
    images = (scene + light[:, None, None]).astype(np.uint8)
    background = compute_background(images, np.arange(100) / 10, kernel_size=9)
    np.testing.assert_array_equal(background.offsets, light)
    write_report(background, tmp_path / "page.html", images)
    shown = read(tmp_path / "page.html").images
    less = [image for alt, image in shown.items() if alt.endswith(" less background")]
    assert len(less) >= 10
    for image in less:
        assert set(np.unique(image)) <= {127, 128}


def test_nothing_is_loaded_and_everything_has_a_name(shown):
    page = read(shown[1])
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "action", "data"):
            assert attributes.get(name, "data:").startswith("data:")
        assert not {name for name in attributes if name.startswith("on") or name == "style"}, tag
    assert "url(" not in page.text["style"]
    assert "@import" not in page.text["style"]
    assert all(img["alt"] for img in page.all("img"))
    assert all(each["aria-label"] for each in page.all("input") + page.all("button"))
    names = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(names) == len(set(names))
    assert page.all("html") == [{"lang": "en"}]


def test_what_a_file_holds_is_text(hostile):
    page = read(hostile)
    assert len(page.all("script")) == 1
    assert "owned" not in page.text["script"]
    assert all("onerror" not in attributes for attributes in page.all("img"))
    assert HOSTILE.replace("/", "∕") in page.text["title"]
    assert HOSTILE.replace("/", "∕") in page.text["h1"]
    assert SCRIPT in page.text["td"]
    assert SCRIPT in page.text["th"]
    assert "x" * 301 not in page.text["td"]
    assert all(text in page.text["td"] for text in STRANGE[:10])
    assert "".join(STRANGE[:5]) in page.text["td"]  # the pipeline of the background
    assert r"\u202egnp.exe\u2066" in page.text["td"]
    text = "".join(page.text.values())
    assert {each for each in text if not each.isprintable()} <= {"\n"}


def made_up(count, shape, frames, dtype=np.uint8):
    """Return a background with more noise than any median has, and its frames."""
    rng = np.random.default_rng(0)
    noise = rng.normal(100, 3, size=shape[0] * shape[1] * 2)
    starts = rng.integers(shape[0] * shape[1], size=count)
    series = np.array([noise[s : s + shape[0] * shape[1]].reshape(shape) for s in starts], dtype)
    kept = np.arange(count) % 7 != 3
    background = SparseBackground(
        images=series[kept],
        frame_index=np.linspace(0, np.count_nonzero(kept) - 1, frames).astype(np.int64),
        offsets=rng.normal(size=frames),
        time=np.linspace(0, count, frames),
        series=series,
        step_times=np.arange(count, dtype=float),
        kept=kept,
        score=rng.random(count),
        threshold=0.9,
    )
    return background, np.broadcast_to(series[0], (frames, *shape))


@pytest.mark.parametrize(
    ("count", "shape", "dtype", "shown", "frames_shown"),
    few_of(
        [
            (1, (30, 20), np.uint8, 1, 10),
            (2000, (80, 320), np.uint8, 60, 10),
            (40, (500, 900), np.uint16, 36, 6),
        ],
        few=1,
    ),
)
def test_the_size_is_bounded(tmp_path, count, shape, dtype, shown, frames_shown):
    background, frames = made_up(count, shape, 4000, dtype)
    path = tmp_path / "page.html"
    write_report(background, path, frames)
    assert path.stat().st_size < 4e6
    page = read(path)
    series = re.findall("Image ([0-9]+) of", page.text["figcaption"])
    assert (len(series), series[0], series[-1]) == (shown, "1", str(count))
    assert shown < len(page.slides) <= shown + frames_shown + 3  # the worst, too
    steps = np.diff([int(number) for number in series])
    uneven = np.abs(steps - np.median(steps)) > 1 if len(steps) else np.array([], bool)
    assert np.count_nonzero(uneven) <= 2  # around the worst
    assert all(image.size <= 100_000 for alt, image in page.images.items() if "image 1," in alt)


def test_an_array_without_its_frames(tmp_path):
    images = np.full((60, 40, 60), 90, dtype=np.uint8)
    background = compute_background(images, time=np.arange(60.0), offset_correction=False)
    write_report(background, tmp_path / "page.html")
    page = read(tmp_path / "page.html")
    assert "There are no frames to show" in page.text["p"]
    assert "array of images" in page.text["h1"]
    assert not [alt for alt in page.images if "Frame" in alt]
    write_report(background, tmp_path / "page.html", images)
    assert [alt for alt in read(tmp_path / "page.html").images if alt.startswith("Frame 59")]


def test_the_page_of_an_array_without_a_wall_says_nothing_of_channels(tmp_path):
    rng = np.random.default_rng(0)
    scene = 90 + 20 * np.sin(np.arange(90) / 9)
    images = (scene + rng.normal(0, 2, (300, 60, 90))).astype(np.uint8)
    background = compute_background(images, frame_rate=10, kernel_size=50)
    write_report(background, tmp_path / "page.html", images)
    text = re.sub(
        r"(?s)<style>.*?</style>|data:[^\"]*", "", (tmp_path / "page.html").read_text("utf-8")
    )
    assert "Background of the images" in text
    assert re.findall(r"(?i)\b(?:channel|wall|chip|pump|mains|lamp)s?\b", text) == []


def test_a_page_is_replaced_but_no_other_file(demo, shown, tmp_path):
    background, _ = shown
    page = tmp_path / "page.html"
    write_report(background, page)
    before = page.read_bytes()
    with pytest.raises(ValueError, match=r"^frames: "):
        write_report(background, page, np.zeros((3, 80, 320), np.uint8))
    assert page.read_bytes() == before
    page.write_text("<!DOCTYPE html><title>old</title>")
    write_report(background, page)
    assert len(page.read_bytes()) > 100_000
    content = demo.read_bytes()
    with pytest.raises(FileExistsError, match=r"demo\.rtdc: is no HTML page"):
        write_report(background, demo)
    assert demo.read_bytes() == content
    assert os.listdir(tmp_path) == [page.name]


def test_names_that_cannot_be_written(tmp_path):
    with pytest.raises(IsADirectoryError, match="is a folder"):
        check_report(tmp_path)
    with pytest.raises(FileNotFoundError, match="the folder does not exist"):
        check_report(tmp_path / "gone" / "page.html")


# What stands where -------------------------------------------------------------------------------


def plain(markup):
    """Return a page as words, without its tags, styles and scripts."""
    markup = re.sub("(?s)<(style|script)>.*?</\\1>", "", markup)
    return " ".join(html.unescape(re.sub("<[^>]*>", " ", markup)).split())


def sections(path):
    """Return the sections of a page by their headings, as words."""
    text = path.read_text(encoding="utf-8")
    found = re.findall("(?s)<section id=[^>]*><h2>(.*?)</h2>(.*?)</section>", text)
    return {title: plain(content) for title, content in found}


def rows(path):
    """Return the rows of all tables of a page."""
    text = path.read_text(encoding="utf-8")
    found = re.findall('<th scope="row">(.*?)</th><td>(.*?)</td>', text)
    return {plain(name.replace("<wbr>", "")): plain(value) for name, value in found}


def captions(page):
    return re.findall("<figcaption>(.*?)</figcaption>", page.read_text(encoding="utf-8"))


def test_the_sections_of_a_page_on_a_measurement(shown, demo):
    background, page = shown
    text = page.read_text(encoding="utf-8")
    said = sections(page)
    assert list(said) == [
        "What is left of the frames",
        "Frames before and after",
        "Numbers",
        "Background series",
        "Pictures",
        "Parameters",
        "Measurement",
        "Versions",
    ]
    count, kept = len(background.series), len(background.images)
    duration = background.time[-1]
    assert "<title>demo.rtdc – background</title>" in text
    assert f'<meta name="generator" content="sparsemed {sparsemed.__version__}">' in text
    assert '<code id="ppid">sparsemed:k=100^s=0.5^t=0^f=0.8^o=1</code>' in text
    summary = f"400 frames of 80 × 320 pixels in {duration:.3g} s; {kept} of {count} background"
    assert f">{summary} images kept.<br>" in text
    made = re.search(f"Made by sparsemed {re.escape(sparsemed.__version__)} on (.*?) UTC", text)[1]
    age = datetime.now(UTC) - datetime.strptime(made + "+0000", "%Y-%m-%d %H:%M%z")
    assert age.total_seconds() < 3600
    found = rows(page)
    with h5py.File(demo) as h5:
        metadata = {f"{name}": f"{value}" for name, value in h5.attrs.items()}
    assert {name: found.pop(name) for name in metadata} == metadata
    assert f"Metadata of the file ({len(metadata)})" in said["Measurement"]
    assert {name: found.pop(name) for name in ("sparsemed", "numpy", "matplotlib", "Python")} == {
        "sparsemed": sparsemed.__version__,
        "numpy": np.__version__,
        "matplotlib": matplotlib.__version__,
        "Python": platform.python_version(),
    }
    names = {name for name in found if name in said["Measurement"]}
    assert names == {
        "File",
        "Size of the file",
        "Background in the file",
        "Frames",
        "Image size",
        "Duration",
        "Frames per second",
        "Background images",
    }
    assert found["File"] == f"{demo}"
    assert found["Size of the file"] == f"{demo.stat().st_size / 1e6:.1f} MB"
    assert found["Frames"] == "400"
    assert found["Image size"] == "80 × 320 pixels (height × width), uint8"
    assert found["Duration"] == f"{duration:.3g} s"
    assert found["Frames per second"] == (
        f"{399 / duration:.3g} recorded, of 2,000 that the camera took"
    )
    assert found["Background images"] == f"{count}, of which {kept} are kept"


def test_the_parameters_of_a_page_and_their_defaults(shown, tmp_path, unillustrated):
    said = sections(shown[1])["Parameters"]
    assert re.search(r"kernel_size [^(]*median of 100 \(default: 200\)", said)
    assert re.search(r"split_time [^(]* 0\.5 \(default: 1\.0\)", said)
    assert re.search(r"frac_cleansing [^(]* 0\.8 \(default\)", said)
    assert said.endswith(
        "To write it to a file: sparsemed compute demo.rtdc -k kernel_size=100 -k split_time=0.5"
    )
    images = np.full((9, 40, 60), 90, dtype=np.uint8)
    images[:, 30:] = 255
    write_report(compute_background(images), tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "▲ Look here" in text
    assert "sparsemed compute" not in text  # there is no file to name
    assert "sparsemed report" not in text


def test_the_headline_counts_the_numbers_and_lists_them(tmp_path, monkeypatch, unillustrated):
    def found(*good):
        return [
            Finding(f"{n}", f"T{n}", n, f"<{n}>", v, f"E{n}", "" if v == GOOD else f"A{n}")
            for n, v in enumerate(good)
        ]

    background, _ = made_up(3, (30, 20), 5)
    said = []
    cases = (
        (GOOD, GOOD),
        (GOOD, CANNOT_TELL),
        (LOOK_HERE,),
        (GOOD, LOOK_HERE, CANNOT_TELL, LOOK_HERE),
    )
    for good in cases:
        judged = View(background, None), tuple(found(*good))
        monkeypatch.setattr("sparsemed.report.examine", lambda *_, j=judged, **__: j)
        write_report(background, tmp_path / "page.html")
        text = (tmp_path / "page.html").read_text(encoding="utf-8")
        head = re.search('(?s)<div class="headline (.*?)" id="headline">(.*?)</div>', text)
        said.append((head[1], plain(head[2]), sections(tmp_path / "page.html")["Numbers"]))
    assert said == [
        (
            "good",
            "✓ Good All 2 numbers are as they should be.",
            "✓ good T0 <0> E0 ✓ good T1 <1> E1",
        ),
        (
            "look",
            "? Cannot tell Whether this background is good cannot be told: T1: A1",
            "? cannot tell T1 <1> E1 What to do: A1 ✓ good T0 <0> E0",
        ),
        (
            "look",
            "▲ Look here 1 of 1 numbers calls for a look: T0: <0> What to do: A0",
            "▲ look here T0 <0> E0 What to do: A0",
        ),
        (
            "look",
            "▲ Look here 3 of 4 numbers call for a look: T1: <1> T3: <3> T2: A2 "
            "What to do: A1 What to do: A3",
            "▲ look here T1 <1> E1 What to do: A1 ▲ look here T3 <3> E3 What to do: A3 "
            "? cannot tell T2 <2> E2 What to do: A2 ✓ good T0 <0> E0",
        ),
    ]
    assert text.count('<li class="look">') == 3
    assert text.count('<li class="good"><details>') == 1


def test_slides_say_what_they_show_and_on_which_scale(tmp_path):
    background, frames = made_up(5, (30, 20), 21)
    frames = np.array(frames)
    frames[:, 25:] += np.arange(21, dtype=np.uint8)[:, None, None]
    path = tmp_path / "page.html"
    write_report(background, path, frames)
    fates = ["kept", "kept", "kept", "✕ dropped", "kept"]
    slides = [
        f"Image {n + 1} of 5, at {n} s: {fate} (score {background.score[n]:.3f}, threshold 0.900)"
        for n, fate in enumerate(fates)
    ]
    frame = worst(View(background, take_sample(background, frames)))
    numbers = _around(21, 12, frame)
    assert set(range(max(0, frame - 3), min(21, frame + 4))) <= set(numbers.tolist())
    of_series, slides = slides, []
    for number in numbers:
        offset = f"{background.offsets[number]:+.2f}".replace("-", "−")
        slides.append(f"Frame {number}, at {number / 4:.3g} s: brightness offset {offset}")
    assert captions(path) == slides + of_series
    page, said = read(path), sections(path)
    low, high = np.quantile(background.series, [0.001, 0.999])
    assert "before cleansing. Dropped images have a dashed frame" in said["Background series"]
    assert f"Black is {low:.4g}, white is {high:.4g}. Image 1" in said["Background series"]
    both = np.concatenate([frames[numbers], background[numbers]])
    low, high = np.quantile(both, [0.001, 0.999])
    left = frames[numbers] - background[numbers].astype(float)
    left -= background.offsets[numbers, None, None]
    reach = 5
    note = (
        "grey is 0, black is −5 or less, white is +5 or more. Raw frame and background: black is "
        f"{low:.4g}, white is {high:.4g}. "
        f"raw background corrected Frame {numbers[0]}"
    )
    assert note in said["Frames before and after"]
    for place, number in enumerate(numbers):
        shown = page.images[f"Frame {number}, raw"]
        expected = (frames[number] - low) * 255 / (high - low)
        np.testing.assert_array_equal(shown, np.clip(expected.round(), 0, 255))
        shown = page.images[f"Frame {number} less background"]
        expected = (left[place] + reach) * 255 / (2 * reach)
        np.testing.assert_array_equal(shown, np.clip(expected.round(), 0, 255))
    assert {alt for alt in page.images if alt.startswith("Background image ")} == {
        f"Background image {n + 1}, {fate}" for n, fate in enumerate(fates)
    }
    for image in page.all("img"):
        height, width = page.images[image["alt"]].shape[:2]
        assert (int(image["height"]), int(image["width"])) == (height, width)
    sliders = page.all("input")
    image = np.flatnonzero(background.kept)[background.frame_index[frame]]
    assert [(each["min"], each["max"], each["value"], each["aria-label"]) for each in sliders] == [
        ("0", f"{len(numbers) - 1}", f"{numbers.tolist().index(frame)}", "Frame"),
        ("0", "4", f"{image}", "Background image"),
    ]
    assert [(each["value"], each["aria-label"]) for each in page.all("button")] == [
        ("-1", "Frame before"),
        ("1", "Frame after"),
        ("-1", "Background image before"),
        ("1", "Background image after"),
    ]
    assert [each["aria-label"] for each in page.all("ol")] == ["Frames", "Background images"]


def test_marks_are_at_their_place_and_long_for_dropped_images(tmp_path, unillustrated):
    background, _ = made_up(5, (30, 20), 4)
    write_report(background, tmp_path / "page.html")
    assert read(tmp_path / "page.html").all("path") == [
        {"class": "kept", "d": "M0 0v5M250 0v5M500 0v5M1000 0v5", "stroke-width": "5"},
        {"class": "dropped", "d": "M750 0v16", "stroke-width": "5"},
    ]
    background, _ = made_up(3, (30, 20), 4)
    write_report(background, tmp_path / "page.html")
    assert [each["class"] for each in read(tmp_path / "page.html").all("path")] == ["kept"]


def test_pictures_are_those_there_are_data_for_and_say_their_numbers(tmp_path):
    background, frames = made_up(5, (30, 20), 21)
    low, high = background.offsets.min(), background.offsets.max()
    expected = [
        "Background images in the order of time: 5, of which 1 are dropped",
        "Cleansing score of each background image, and the threshold, 0.9",
        f"Brightness offset of each frame over time, from {low:.3g} to {high:.3g} grey values",
        "Noise of the first rows over time, before and after the background is subtracted",
    ]
    without = dataclasses.replace(background, offsets=None, threshold=np.inf)
    off = [expected[0], "Cleansing score of each background image; cleansing was off"]
    for each, images, named in [(background, frames, expected), (without, None, off)]:
        write_report(each, tmp_path / "page.html", images)
        page = read(tmp_path / "page.html")
        regions = [div["aria-label"] for div in page.all("div") if div.get("class") == "wide"]
        assert regions[-len(named) :] == named == [i["alt"] for i in page.all("img")][-len(named) :]
        assert regions == named
        pictures = [page.images[label] for label in regions]
        assert {picture.shape[1] for picture in pictures} == {8 * 150}
    assert captions(tmp_path / "page.html")[0].endswith(
        f": kept (score {background.score[0]:.3g}; all are kept)"
    )
    write_report(without, tmp_path / "page.html", frames)
    assert "Frame 20, at 5 s" in captions(tmp_path / "page.html")


@pytest.fixture
def unillustrated(monkeypatch):
    """Leave out what takes longest."""
    monkeypatch.setattr("sparsemed.report.page.pictures_section", lambda *_: "")


def test_many_images_and_large_ones_are_said_to_be_some_and_shrunk(tmp_path, unillustrated):
    background, frames = made_up(70, (200, 501), 2000)
    background = dataclasses.replace(
        background, time=np.zeros(2000), kept=np.ones(70, bool), images=background.series
    )
    path = tmp_path / "page.html"
    write_report(background, path, frames)
    said, found, page = sections(path), rows(path), read(path)
    assert "60 of 70 are shown." in said["Background series"]
    for name in ("Background series", "Frames before and after"):
        assert "Images are shown at 1/2 of their size." in said[name]
    first = page.images["Background image 1, kept"]
    assert first.shape == (100, 250)
    low, high = np.quantile(background.series[spread(70, 60)], [0.001, 0.999])
    means = background.series[0, :, :500].reshape(100, 2, 250, 2).mean(axis=(1, 3))
    expected = np.clip(((means - low) * 255 / (high - low)).round(), 0, 255)
    np.testing.assert_allclose(first, expected, atol=1)
    assert (found["Frames"], found["Duration"]) == ("2,000", "0 s")
    assert found["Frames per second"] == "unknown"
    assert ">2,000 frames of 200 × 501 pixels in 0 s; 70 of 70 background images kept.<br>" in (
        path.read_text(encoding="utf-8")
    )


def test_only_more_than_so_many_pixels_are_shrunk():
    assert [
        shrinkage(np.empty((1, *shape)))
        for shape in [(250, 400), (250, 401), (1000, 400), (1000, 401)]
    ] == [1, 2, 2, 3]
    assert [shrunk_note(1), shrunk_note(3)] == ["", " Images are shown at 1/3 of their size."]
    # one side may be shorter than the square
    page = Page(grey_picture(np.array([[0, 20, 40, 60, 99]]), 0, 60, 2, "a"))
    assert page.images["a"].tolist() == [[42, 212]]


def test_what_is_too_long_is_cut_and_times_have_as_many_digits_as_they_need():
    assert markup.shown("x" * 300) == "x" * 300
    assert markup.shown("x" * 301) == "x" * 300 + "…"
    assert [markup.seconds(t) for t in (0, 0.1234, 9.99, 10, 1234.56)] == [
        "0 s",
        "0.123 s",
        "9.99 s",
        "10.0 s",
        "1234.6 s",
    ]
    assert markup.table([("a:b", "<c>")]) == (
        '<table><tbody><tr><th scope="row">a:<wbr>b</th><td>&lt;c&gt;</td></tr></tbody></table>'
    )
    assert markup.remark("<x>") == '<p class="note">&lt;x&gt;</p>'


def test_what_the_page_says_of_a_background_in_the_file(demo, tmp_path, warned):
    path = tmp_path / "in.rtdc"
    shutil.copy(demo, path)
    background = compute_background(path, kernel_size=9)
    sample = take_sample(background)
    ours = "sparsemed:k=9^s=1^t=0^f=0.8^o=1"
    with h5py.File(path, "a") as h5:
        stored = background[:]
        stored[sample.numbers[[3, 7]]] += 1
        h5["events/image_bg"] = stored
        del h5.attrs["imaging:frame rate"]
    offsets = background.offsets[sample.numbers, None, None]
    left = [
        np.abs(sample.frames - np.float64(image) - added).mean()
        for image, added in ((stored[sample.numbers], 0), (background[sample.numbers], offsets))
    ]

    def said(sample=sample):
        return dict(read_facts(background, sample).rows)["Background in the file"]

    assert said() == (
        "without PPID: of other parameters than the one on this page; on "
        f"average it leaves {left[0]:.3g} grey values of a frame, and the one on this page "
        f"{left[1]:.3g}"
    )
    with h5py.File(path, "a") as h5:
        h5.attrs["pipeline:dcnum background"] = ours
    assert said() == f"{ours}: computed anew for this page, and different in 2 of 96 frames"
    assert said(None) == f"{ours}: computed anew for this page"
    with h5py.File(path, "a") as h5:
        del h5["events/image_bg"]
        h5["events/image_bg"] = stored[:, :, 1:]
        h5["events/image_bg"].attrs["dcnum ppid background"] = ours.encode()
    assert said() == f"{ours}: computed anew for this page"
    names = [name for name, _ in read_facts(background, sample).rows]
    assert names == ["File", "Size of the file", "Background in the file"]
    said_before = warned()
    path.unlink()
    facts = read_facts(background, sample)
    assert facts == Facts([("File", f"{path} (could not be read any more)")])
    (text,) = warned()[len(said_before) :]
    assert text.startswith("The report has no facts about the measurement: ")


def test_metadata_are_in_the_order_of_their_names(tmp_path):
    path = tmp_path / "in.rtdc"
    with h5py.File(path, "w", track_order=True) as h5:
        h5["events/image"] = np.full((9, 24, 30), 90, np.uint8)
        h5.attrs.update({"setup:b": 1, "experiment:z": 2, "setup:a": 3})
    facts = read_facts(compute_background(path), None)
    assert facts.metadata == [("experiment:z", 2), ("setup:a", 3), ("setup:b", 1)]


# The command ------------------------------------------------------------------------------------


def test_the_page_is_next_to_the_measurement(demo, tmp_path):
    path = tmp_path / "in.rtdc"
    shutil.copy(demo, path)
    before = path.read_bytes()
    result = report(path)
    first, second, *_ = result.output.splitlines()
    assert first == f"{tmp_path / 'in_report.html'}: cannot tell"
    assert second.startswith("cannot tell: Enough to judge from")
    assert path.read_bytes() == before
    page = read(tmp_path / "in_report.html")
    assert "sparsemed:k=200^s=1^t=0^f=0.8^o=1" in page.text["code"]
    assert "none; the one on this page was computed for the page" in page.text["td"]


def test_the_commands_on_the_page_name_the_file_as_a_shell_takes_it(demo, tmp_path):
    path = tmp_path / "a cell's.rtdc"
    shutil.copy(demo, path)
    report(path, "-o", tmp_path / "page.html", "-k", "kernel_size=3")
    said = read(tmp_path / "page.html").text["code"]
    name = shlex.quote(path.name)
    assert f"sparsemed compute {name} -k kernel_size=3" in said
    odd = compute_command(Parameters(), Path("/a/-x.rtdc"), Path("/b/c d.rtdc"), Path("/a"))
    assert odd == "sparsemed compute ./-x.rtdc -o '../b/c d.rtdc'"
    assert f"sparsemed report {name} -k kernel_size=…" in said


def test_the_command_on_a_page_works_where_the_page_lies_and_tries_are_remembered(
    demo, tmp_path, monkeypatch
):
    path, pages = tmp_path / "data" / "in.rtdc", tmp_path / "pages"
    path.parent.mkdir()
    shutil.copy(demo, path)
    report(path, "-k", "kernel_size=20", "-o", pages)
    monkeypatch.chdir(pages)
    page = read(pages / "in_report.html")
    (command,) = re.findall("sparsemed compute .* -k kernel_size=20", page.text["code"])
    assert invoke(*shlex.split(command)[1:]).exit_code == 0
    assert "Tried before" not in page.text["p"]

    # the result has its place, so that the measurement stands for it
    report(path, "-k", "kernel_size=30", "-o", pages)
    page = read(pages / "in_bg_report.html")
    assert "Tried before: kernel_size=20: good." in page.text["p"]
    command = command.replace("=20", "=30")
    assert command in page.text["code"]
    assert invoke(*shlex.split(command)[1:]).exit_code == 0
    report(path, "-o", pages)
    assert "sparsemed:k=30^" in read(pages / "in_bg_report.html").text["code"]
    report(path, "-k", "kernel_size=200", "-o", pages)
    text = read(pages / "in_bg_report.html").text["p"]
    assert "Tried before: kernel_size=20: good; kernel_size=30: good." in text

    # another measurement of that name is not the same
    other = tmp_path / "other" / "in.rtdc"
    other.parent.mkdir()
    shutil.copy(demo, other)
    with h5py.File(other, "a") as h5:
        h5.attrs["experiment:time"] = "01:02:03"
        h5.attrs["experiment:date"] = "2026-01-01"
        h5.attrs["setup:identifier"] = "another"
    report(other, "-o", pages)
    assert "Tried before" not in read(pages / "in_report.html").text["p"]


def test_pages_without_tries_or_with_broken_ones_are_no_obstacle(tmp_path):
    page = tmp_path / "page.html"
    for content in ("", "[[1]]", "{", "null", "[[&quot;m&quot;, &quot;p&quot;, &quot;good&quot;]]"):
        page.write_text(f'<!doctype html><meta name="{NAME}" content="{content}">')
        found = read_tries([tmp_path / "gone.html", page], "m")
        assert found == ([Try("m", "p", "good")] if "good" in content else [])
        assert read_tries([page], "another") == []
    many = [Try("m", f"kernel_size={number}", "good") for number in range(30)]
    for each in many:
        kept = with_another(read_tries([page], "m"), each)
        page.write_text(f'<meta name="{NAME}" content="{html.escape(as_text(kept))}">')
    assert read_tries([page], "m") == many[-MOST:]


def test_a_measurement_with_a_background_is_shown_with_its_parameters(demo, tmp_path):
    path, page = tmp_path / "in.rtdc", tmp_path / "page.html"
    shutil.copy(demo, path)
    assert invoke("compute", path, "--in-place", "-k", "kernel_size=50").exit_code == 0
    stored = "sparsemed:k=50^s=1^t=0^f=0.8^o=1"

    report(path, "-o", page)
    assert stored in read(page).text["code"]
    assert f"{stored}: computed anew for this page, and equal in all 96" in read(page).text["td"]

    report(path, "-o", page, "-k", "split_time=0.5")
    assert "sparsemed:k=50^s=0.5^" in read(page).text["code"]
    assert f"{stored}: of other parameters than the one on this page" in read(page).text["td"]
    left = re.search("leaves ([0-9.]+) grey values .* this page ([0-9.]+)", read(page).text["td"])
    assert 0 < float(left[1]) < 9
    assert float(left[2]) == pytest.approx(float(left[1]), rel=0.2)

    with h5py.File(path, "a") as h5:
        h5["basin_events/image_bg"][...] += 1
    report(path, "-o", page)
    assert "and different in 96 of 96 frames" in read(page).text["td"]

    with h5py.File(path, "a") as h5:
        h5["basin_events/image_bg"].attrs["dcnum ppid background"] = "rollmed:k=100^b=10000"
    report(path, "-o", page)
    assert "sparsemed:k=200^s=1^" in read(page).text["code"]
    assert "rollmed:k=100^b=10000: of other parameters" in read(page).text["td"]


def test_the_name_of_the_page_is_checked_before_the_work(demo, tmp_path):
    path, page = tmp_path / "in.rtdc", tmp_path / "notes.txt"
    path.write_text("no measurement, which would show later")
    page.write_text("precious")
    result = invoke("report", path, "-o", page)
    assert (result.exit_code, result.output) == (
        1,
        f"Error: {page}: is no HTML page, and is not replaced; choose another name\n",
    )
    assert page.read_text() == "precious"


def test_warnings_say_what_they_are_about(demo, tmp_path):
    path = tmp_path / "in\x1b[2J.rtdc"
    shutil.copy(demo, path)
    result = report(path, "-k", "kernel_size=500")
    shown = f"{tmp_path / 'in'}\\x1b[2J.rtdc"
    assert result.stderr == (
        f"Warning: {shown}: kernel_size 500 is more than the 400 frames: all frames are used\n"
    )


def test_a_result_next_to_its_measurement(demo, tmp_path):
    shutil.copy(demo, tmp_path / "in.rtdc")
    assert invoke("compute", tmp_path / "in.rtdc").exit_code == 0
    report(tmp_path / "in_bg.rtdc")
    text = read(tmp_path / "in_bg_report.html").text["td"]
    assert f"{tmp_path / 'in.rtdc'}: events/image" in text
    assert "equal in all 96 frames compared" in text


def test_several_files_and_folders_with_one_that_fails(demo, tmp_path):
    data, reports = tmp_path / "data", tmp_path / "reports"
    (data / "deep").mkdir(parents=True)
    shutil.copy(demo, data / "a.rtdc")
    shutil.copy(demo, data / "deep" / "b.rtdc")
    (data / "c.rtdc").touch()
    assert invoke("compute", data / "a.rtdc", "-k", "kernel_size=50").exit_code == 0
    result = invoke("report", "-r", data, "-o", f"{reports}/")
    assert result.exit_code == 1
    pages = [reports / "a_bg_report.html", reports / "deep" / "b_report.html"]
    lines = [line for line in result.stdout.splitlines() if "report.html" in line]
    assert lines == [f"{pages[0]}: good", f"{pages[1]}: cannot tell"]
    error, failed, which, last = result.stderr.splitlines()
    assert error.startswith(f"Error: {data / 'c.rtdc'}: cannot be read as an HDF5 file: it is emp")
    assert [failed, which] == ["1 of 3 pages failed:", f"  {data / 'c.rtdc'}"]
    assert re.fullmatch(r"3 pages in [0-9.]+ s: 1 cannot tell, 1 good, 1 failed", last)
    assert sorted(page for page in reports.rglob("*.html")) == pages
    assert "sparsemed:k=50^" in read(pages[0]).text["code"]


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (["{folder}/gone.rtdc"], "gone.rtdc: there is no such file", 1),
        (["{in}", "-o", "{in}"], "is no HTML page, and is not replaced", 1),
        (["{in}", "-k", "kernel=3", "-o", "{folder}/a.html"], "did you mean 'kernel_size'", 2),
    ],
)
def test_errors_are_one_line(demo, tmp_path, arguments, message, code):
    result = invoke("report", *(a.format(**{"in": demo, "folder": tmp_path}) for a in arguments))
    assert result.exit_code == code
    assert result.output.startswith("Error: ")
    assert message in result.output
    assert result.output.count("\n") == 1
    assert os.listdir(tmp_path) == []


def test_matplotlib_that_is_not_installed(demo, tmp_path):
    code = f"""
import sys
sys.modules["matplotlib"] = None
from sparsemed.cli import main
main(["report", {os.fspath(demo)!r}, "-o", {os.fspath(tmp_path / "page.html")!r}])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: a report needs matplotlib (")
    assert done.stderr.endswith("pip install matplotlib\n")
    assert done.stderr.count("\n") == 1


# In a browser -----------------------------------------------------------------------------------


def current(page, viewer):
    """Return what the visitor sees: caption and image of the slide, and what a reader hears."""
    slide = page.locator(f"#{viewer} .slide:visible")
    assert slide.count() == 1
    heard = page.locator(f"#{viewer} input").get_attribute("aria-valuetext")
    caption = slide.locator("figcaption").inner_text()
    assert heard == caption
    return caption, slide.locator("img").first.get_attribute("src")


@pytest.mark.parametrize(("viewer", "word"), [("series", "Image 2 of"), ("frames", "Frame ")])
def test_the_slider_moves(visit, shown, viewer, word):
    page = visit(shown[1])
    slider = page.locator(f"#{viewer} input")
    slider.press("Home")  # it opens at the worst
    first = current(page, viewer)
    slider.press("ArrowRight")
    second = current(page, viewer)
    assert second[0].startswith(word)
    assert second[0] != first[0]
    assert second[1] != first[1]
    page.locator(f"#{viewer} button").first.click()
    assert current(page, viewer) == first
    slider.press("End")
    last = current(page, viewer)
    assert slider.input_value() == slider.get_attribute("max")
    page.locator(f"#{viewer} button").last.click()  # there is none after the last
    assert current(page, viewer) == last
    box = slider.bounding_box()
    page.mouse.click(box["x"] + 2, box["y"] + box["height"] / 2)
    assert current(page, viewer) == first


def test_all_images_can_be_seen(visit, shown):
    page = visit(shown[1])
    page.wait_for_load_state("load")
    widths = page.evaluate(
        "Promise.all([...document.images].map(async (image) => {"
        " await image.decode(); return image.naturalWidth; }))"
    )
    assert len(widths) > 30
    assert min(widths) >= 300


def test_a_hostile_measurement_does_nothing(visit, hostile):
    page = visit(hostile)
    assert page.title().startswith("<img src=x")
    assert page.locator("h1").inner_text().startswith("<img src=x onerror=alert(1)>")
    current(page, "series")


def test_without_javascript(visit, shown):
    page = visit(shown[1], java_script_enabled=False)
    first = page.locator("#series .slide").first
    box, strip = first.bounding_box(), page.locator("#series .strip").bounding_box()
    assert abs(box["width"] - strip["width"]) < 2  # the first image fills the strip, others follow
    assert first.locator("img").is_visible()
    assert page.locator("#series .controls").is_hidden()


@pytest.mark.parametrize("width", [320, 390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_the_screen(visit, hostile, width, scheme):
    page = visit(hostile, viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.locator("summary").last.click()
    assert page.evaluate("document.documentElement.scrollWidth") == width
    first = page.locator("#left img")  # on a phone a narrow one, with letters of the same size
    assert first.bounding_box()["width"] <= width
    drawn = first.evaluate("image => new URL(image.currentSrc).href !== image.src")
    assert drawn == (width < 640)
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (colour == "rgb(255, 255, 255)") == (scheme == "light")


def test_in_print(visit, shown):
    page = visit(shown[1], color_scheme="dark")
    page.emulate_media(media="print")
    assert page.locator(".controls:visible").count() == 0
    assert page.locator("#series .slide:visible").count() == 1
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert colour == "rgb(255, 255, 255)"
    assert page.locator("details[open]").count() == 0
    assert page.pdf(format="A4").startswith(b"%PDF")
    assert page.locator("details:not([open])").count() == 0


def test_sheets_are_full(visit, tmp_path):
    background, frames = made_up(20, (300, 300), 100)
    write_report(background, tmp_path / "page.html", frames)
    sheets = visit(tmp_path / "page.html").pdf(format="A4").count(b"/Type /Page\n")
    assert 0 < sheets <= 7  # 9 if frames are as large as on the screen and stay together


def test_text_is_safe_between_tags_and_within_quotes():
    assert (
        markup.escaped("""<a b="c" d='e'>&""") == "&lt;a b=&quot;c&quot; d=&#x27;e&#x27;&gt;&amp;"
    )


def test_what_a_stored_background_leaves_counts_its_own_offsets(tmp_path):
    path = tmp_path / "in.rtdc"
    light = np.where(np.arange(60) % 2, 8, 0)
    frames = (100 + light[:, None, None]) * np.ones((60, 30, 20))
    with h5py.File(path, "w") as h5:
        h5["events/image"] = frames.astype(np.uint8)
        h5["events/time"] = np.arange(60.0)
        h5["events/image_bg"] = np.full((60, 30, 20), 97, np.uint8)
        h5["events/bg_off"] = light.astype(float)
    background = compute_background(path, kernel_size=9)
    sample = take_sample(background)
    said = dict(read_facts(background, sample).rows)["Background in the file"]
    assert "on average it leaves 3 grey values of a frame, and the one on this page 0" in said


def test_the_top_of_a_page_has_the_command_that_does_what_is_advised(tmp_path, monkeypatch):
    path = tmp_path / "in.rtdc"
    make_measurement(path, case="cells")
    report(path)
    monkeypatch.chdir(tmp_path)
    box = re.search('<div class="headline.*?</div>', (tmp_path / "in_report.html").read_text())[0]
    (command,) = re.findall("<code>(.*?)</code>", box)
    assert command == "sparsemed compute in.rtdc -k kernel_size=500"
    assert "kernel_size=500. Tried on a part of the frames, this leaves" in box
    assert invoke(*shlex.split(command)[1:]).exit_code == 0
    assert report(path).stdout.startswith(f"{tmp_path / 'in_bg_report.html'}: good")
    assert "Tried before: defaults: look here" in (tmp_path / "in_bg_report.html").read_text()
