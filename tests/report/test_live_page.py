"""The page on a recording: what it shows, and that a browser shows it anew."""

import re

import numpy as np
import pytest

from sparsemed.quality.finding import judge
from sparsemed.report.live_page import LivePage, LiveState
from sparsemed.storage import disk

IMAGE = np.random.default_rng(0).integers(80, 120, (40, 60), np.uint8)
BRIGHTNESS = np.column_stack([np.arange(9.0), np.linspace(100, 101, 9)])
FOUND = (judge("a", "All is well", 1, "one", "What is well.", ""),)
POOR = (*FOUND, judge("b", "Focus", 2, "two", "What is sharp.", "turn <the> knob"))


def state(frames, findings=FOUND, image=IMAGE, brightness=BRIGHTNESS, end=""):
    return LiveState([("Frames", f"{frames:,}")], image, brightness, findings, end)


def test_what_it_shows(tmp_path):
    page = LivePage(tmp_path / "live", "<b>in</b>\udcff.rtdc")  # as of a file of another system
    page.write(state(1000, POOR))
    text = (tmp_path / "live" / "index.html").read_text("utf-8")
    for part in ("1,000", "At 8.0 s.", "100.0 to 101.0 grey values", "Focus", "Look here"):
        assert part in text
    assert "&lt;b&gt;in&lt;/b&gt;" in text
    assert "turn &lt;the&gt; knob" in text
    assert "<b>in" not in text
    assert text.count("<script") == 1
    assert text.rindex("Focus") < text.rindex("All is well")  # what calls for a look comes first
    points = re.search('<polyline points="([^"]*)"', text)[1].split()
    first, last = (tuple(map(float, points[place].split(","))) for place in (0, -1))
    assert (first[0], last[0]) == (10, 790)
    assert first[1] - last[1] == pytest.approx(80 / 1.2, abs=0.2)  # it rises, by 1 of 2 · 0.6


def test_what_is_not_there_yet(tmp_path):
    LivePage(tmp_path, "in.rtdc").write(state(3, (), None, np.empty((0, 2))))
    text = (tmp_path / "index.html").read_text("utf-8")
    assert "There is none yet." in text
    assert "<polyline" not in text


@pytest.mark.parametrize("image", [np.zeros((40, 60), np.uint8), np.full((4, 5), 9, np.uint16)])
def test_even_images_and_constant_brightness(tmp_path, image):
    LivePage(tmp_path, "in.rtdc").write(state(3, image=image, brightness=np.ones((2, 2))))
    assert "nan" not in (tmp_path / "index.html").read_text("utf-8")


def test_of_many_images_some_are_shown(tmp_path):
    many = np.column_stack([np.arange(36_000.0), np.ones(36_000)])
    LivePage(tmp_path, "in.rtdc").write(state(3, brightness=many))
    assert (tmp_path / "index.html").stat().st_size < 40_000


def test_only_such_a_page_is_replaced(tmp_path):
    LivePage(tmp_path, "in.rtdc").write(state(3))
    LivePage(tmp_path, "other.rtdc").write(state(4))
    (tmp_path / "index.html").write_text(f"<!doctype html>{1000 * ' '}mine, live from the lab")
    with pytest.raises(FileExistsError, match=r"index\.html: is no page on a recording"):
        LivePage(tmp_path, "in.rtdc")
    with pytest.raises(FileExistsError):
        LivePage(tmp_path / "index.html", "in.rtdc")


def test_a_folder_that_is_read_only(tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "can_create_in", lambda _: False)  # root may write everywhere
    with pytest.raises(PermissionError, match=r"is read-only; choose another folder with --page"):
        LivePage(tmp_path / "new", "in.rtdc")


@pytest.mark.slow
def test_a_browser_shows_it_anew_and_stops_in_the_end(tmp_path, browser):
    path = tmp_path / "index.html"
    page = LivePage(tmp_path, "in.rtdc")
    page.write(state(1000))
    complaints = []
    with browser.new_context() as context:
        shown = context.new_page()
        shown.on("console", lambda message: complaints.append(message.text))
        shown.goto(path.as_uri())
        assert shown.locator("#facts td").inner_text() == "1,000"
        page.write(state(2000))
        shown.locator("#facts td", has_text="2,000").wait_for(timeout=20_000)
        page.write(state(3000, end="It is over"))
        shown.locator("#facts td", has_text="3,000").wait_for(timeout=20_000)
        page.write(state(4000))
        shown.wait_for_timeout(2500)
        assert shown.locator("#facts td").inner_text() == "3,000"
        assert shown.locator("img").evaluate("image => image.naturalWidth") == 60
    assert complaints == []


@pytest.mark.slow
def test_a_card_that_was_opened_stays_open(tmp_path, browser):
    """Until it is closed; a verdict that turns meanwhile does not matter."""
    path = tmp_path / "index.html"
    other = judge("c", "Cells", 1, "one", "What cells are.", "")
    page = LivePage(tmp_path, "in.rtdc")
    page.write(state(1000, (*FOUND, other)))
    complaints = []
    with browser.new_context() as context:
        shown = context.new_page()
        shown.on("console", lambda message: complaints.append(message.text))
        shown.goto(path.as_uri())
        shown.locator("summary", has_text="All is well").click()
        for frames, found in ((2000, (other, *FOUND)), (3000, POOR), (4000, (*FOUND, other))):
            page.write(state(frames, found))
            shown.locator("#facts td", has_text=f"{frames:,}").wait_for(timeout=20_000)
            assert shown.locator("details[open] b").all_inner_texts() == ["All is well"]
        shown.locator("summary", has_text="All is well").click()
        page.write(state(5000))
        shown.locator("#facts td", has_text="5,000").wait_for(timeout=20_000)
        assert shown.locator("details[open]").count() == 0
    assert complaints == []
