import base64
import os
import re
import shlex
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import click.testing
import h5py
import imagecodecs
import numpy as np
import pytest

from sparsemed import SparseBackground, compute_background
from sparsemed.cli import main
from sparsemed.demo import make_measurement
from sparsemed.report import check_report, write_report

VOID = {"meta", "link", "img", "br", "input", "path", "wbr"}


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
    SCRIPT, '"><img src=x onerror=alert(1)>', "</style><style>* { display: none }</style>", "&amp;",
    "</title></textarea><svg onload=alert(1)>", "<!--", "]]>", "javascript:alert(1)",
    "${script} $frac{", r"$\frac{$", "\u202egnp.exe\u2066", "\u2028alert(1)",
    "a\0\x1b[2Jb\r\n", "\ud800",
]  # fmt: skip


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
    assert len(page.slides) == len(background.series) + 10
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
    with h5py.File(demo) as h5:
        frame = h5["events/image"][0]
    raw, below = images["Frame 0, raw"].astype(int), images["Background of frame 0"].astype(int)
    # one scale for both, linear between black and white
    inside = (raw > 0) & (raw < 255)
    slope, base = np.polyfit(raw[inside], frame[inside], 1)
    assert abs(raw * slope + base - frame)[inside].max() < 1
    inside = (below > 0) & (below < 255)
    assert abs(below * slope + base - background[0])[inside].max() < 1
    # grey is 0
    corrected = images["Frame 0 less background"].astype(float) - 127.5
    difference = background.subtract(frame[np.newaxis])[0]
    assert np.corrcoef(corrected.ravel(), difference.ravel())[0, 1] > 0.99
    assert abs(corrected[abs(difference) < 0.2]).max() <= 1.5
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
    assert len(less) == 10
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
    [
        (2000, (80, 320), np.uint8, 60, 10),
        (40, (500, 900), np.uint16, 36, 6),
        (1, (30, 20), np.uint8, 1, 10),
    ],
)
def test_the_size_is_bounded(tmp_path, count, shape, dtype, shown, frames_shown):
    background, frames = made_up(count, shape, 4000, dtype)
    path = tmp_path / "page.html"
    write_report(background, path, frames)
    assert path.stat().st_size < 4e6
    page = read(path)
    series = re.findall("Image ([0-9]+) of", page.text["figcaption"])
    assert (len(series), series[0], series[-1]) == (shown, "1", str(count))
    assert len(page.slides) == shown + frames_shown
    steps = np.diff([int(number) for number in series])
    assert np.ptp(steps) <= 1 if len(steps) else count == 1
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


def test_a_page_is_replaced_but_no_other_file(demo, shown, tmp_path):
    background, _ = shown
    page = tmp_path / "page.html"
    write_report(background, page)
    before = page.read_bytes()
    with pytest.raises(ValueError, match="images"):
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


# The command ------------------------------------------------------------------------------------


def test_the_page_is_next_to_the_measurement(demo, tmp_path):
    path = tmp_path / "in.rtdc"
    shutil.copy(demo, path)
    before = path.read_bytes()
    result = report(path)
    assert result.output.startswith(f"{tmp_path / 'in_report.html'}: SparseBackground(400 frames")
    assert path.read_bytes() == before
    page = read(tmp_path / "in_report.html")
    assert "sparsemed:k=200^s=1^t=0^f=0.8^o=1" in page.text["code"]
    assert "none; the one on this page was computed for it" in page.text["td"]


def test_the_commands_on_the_page_name_the_file_as_a_shell_takes_it(demo, tmp_path):
    path = tmp_path / "a cell's.rtdc"
    shutil.copy(demo, path)
    report(path, "-o", tmp_path / "page.html", "-k", "kernel_size=3")
    said = read(tmp_path / "page.html").text["code"]
    name = shlex.quote(path.name)
    assert f"sparsemed compute {name} -k kernel_size=3" in said
    assert f"sparsemed report {name} -k kernel_size=…" in said


def test_a_measurement_with_a_background_is_shown_with_its_parameters(demo, tmp_path):
    path, page = tmp_path / "in.rtdc", tmp_path / "page.html"
    shutil.copy(demo, path)
    assert invoke("compute", path, "--in-place", "-k", "kernel_size=50").exit_code == 0
    stored = "sparsemed:k=50^s=1^t=0^f=0.8^o=1"

    report(path, "-o", page)
    assert stored in read(page).text["code"]
    assert f"{stored}: computed anew for this page, and equal in all 48" in read(page).text["td"]

    report(path, "-o", page, "-k", "split_time=0.5")
    assert "sparsemed:k=50^s=0.5^" in read(page).text["code"]
    assert f"{stored}: other parameters than those of this page" in read(page).text["td"]

    with h5py.File(path, "a") as h5:
        h5["basin_events/image_bg"][...] += 1
    report(path, "-o", page)
    assert "and different in 48 of 48 frames" in read(page).text["td"]

    with h5py.File(path, "a") as h5:
        h5["basin_events/image_bg"].attrs["dcnum ppid background"] = "rollmed:k=100^b=10000"
    report(path, "-o", page)
    assert "sparsemed:k=200^s=1^" in read(page).text["code"]
    assert "rollmed:k=100^b=10000: other parameters" in read(page).text["td"]


def test_the_name_of_the_page_is_checked_before_the_work(demo, tmp_path):
    path, page = tmp_path / "in.rtdc", tmp_path / "notes.txt"
    path.write_text("no measurement, which would show later")
    page.write_text("precious")
    result = invoke("report", path, "-o", page)
    assert (result.exit_code, result.output) == (
        1, f"Error: {page}: is no HTML page and is not replaced; give another name\n"
    )  # fmt: skip
    assert page.read_text() == "precious"


def test_warnings_say_what_they_are_about(demo, tmp_path):
    path = tmp_path / "in\x1b[2J.rtdc"
    shutil.copy(demo, path)
    result = report(path, "-k", "kernel_size=500")
    shown = f"{tmp_path / 'in'}\\x1b[2J.rtdc"
    assert result.stderr == (
        f"Warning: {shown}: kernel_size 500 is more than the 400 frames there are: all are used\n"
    )


def test_a_result_next_to_its_measurement(demo, tmp_path):
    shutil.copy(demo, tmp_path / "in.rtdc")
    assert invoke("compute", tmp_path / "in.rtdc").exit_code == 0
    report(tmp_path / "in_bg.rtdc")
    text = read(tmp_path / "in_bg_report.html").text["td"]
    assert f"{tmp_path / 'in.rtdc'}: events/image" in text
    assert "equal in all 48 frames compared" in text


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (["{folder}/gone.rtdc"], "gone.rtdc: there is no such file", 1),
        (["{in}", "-o", "{in}"], "is no HTML page and is not replaced", 1),
        (["{in}", "-k", "kernel=3", "-o", "{folder}/a.html"], "unknown parameter 'kernel'", 2),
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
    assert done.stderr.endswith('): pip install "sparsemed[plot]"\n')
    assert done.stderr.count("\n") == 1


# In a browser -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    program = next(filter(None, map(shutil.which, names)), None)
    with playwright.sync_playwright() as driver:
        if program is None and not os.path.exists(driver.chromium.executable_path):
            pytest.skip("no browser: apt-get install chromium, or playwright install chromium")
        browser = driver.chromium.launch(executable_path=program)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser):
    """Return a function that opens a page; in the end nothing may have gone wrong in it."""
    contexts, complaints, requests = [], [], []

    def open_page(path, **options):
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(path.as_uri())
        requests.remove(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []
    assert [url for url in requests if not url.startswith("data:")] == []


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
    first = current(page, viewer)
    slider = page.locator(f"#{viewer} input")
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
    widths = page.evaluate("Promise.all([...document.images].map(async (image) => {"
                           " await image.decode(); return image.naturalWidth; }))")  # fmt: skip
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
