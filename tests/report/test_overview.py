import base64
import html
import re
from functools import partial

import imagecodecs
import numpy as np
import pytest

from sparsemed.report.overview import _COLUMNS, MOST_ROWS, Entry, make_overview
from sparsemed.report.pictures import THUMBNAIL_BYTES, thumbnail

NOISE = np.random.default_rng(0).integers(0, 256, size=(200, 400), dtype=np.uint8)

HOSTILE = (
    "</script><script>document.title='owned'</script><img src=x onerror=alert(1)>\u202e\x1b[2J"
)

ENTRIES = [
    Entry(
        "M10.rtdc",
        "data",
        "good",
        (),
        ("Flicker: 0 %",),
        frames=2000,
        kept=8,
        windows=10,
        seconds=2.5,
        megabytes_per_second=100.0,
        thumbnail=thumbnail(NOISE),
    ),
    Entry(
        "M9.rtdc",
        "data",
        "look here",
        ("Streaks: in 3 % → measure for longer",),
        ("a: 1",),
        frames=90000,
        kept=9,
        windows=10,
        seconds=0.5,
        megabytes_per_second=7.0,
        link="../data/M9_report.html",
        thumbnail=thumbnail(NOISE[:80]),
    ),
    Entry("M11.rtdc", "data", "waiting"),
    Entry(f"M1{HOSTILE}.rtdc", HOSTILE, "failed", (HOSTILE, "x" * 5000)),
    Entry("M2.rtdc", "data", "cannot tell", ("few frames",), frames=100, kept=1, windows=2),
    Entry("M3.rtdc", "data", "not judged", frames=1000, kept=10),
]


def page_of(folder, entries=ENTRIES):
    path = folder / "index.html"
    text = make_overview(entries, "6 measurements", f"All are done {HOSTILE}", "sparsemed:k=7")
    path.write_text(text, encoding="utf-8", errors="replace")
    return path


@pytest.mark.parametrize(
    "shape", [(80, 320), (1, 1), (1, 5000), (3000, 2), (1024, 1280), (250, 250)]
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_thumbnail_is_small_whatever_the_image(shape, dtype):
    image = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype=dtype)
    for each in (image, np.zeros_like(image)):
        stored = base64.b64decode(thumbnail(each).partition(",")[2])
        assert len(stored) <= THUMBNAIL_BYTES
        height, width = imagecodecs.jpeg8_decode(stored).shape
        assert 1 <= height <= 80
        assert 1 <= width <= 160


def test_a_thumbnail_shows_the_image():
    image = np.full((160, 320), 40, np.uint8)
    image[:, 160:] = 60
    shown = imagecodecs.jpeg8_decode(base64.b64decode(thumbnail(image).partition(",")[2]))
    assert shown.shape == (80, 160)
    assert shown[:, :70].max() < 10
    assert shown[:, 90:].min() > 245


def test_the_page_is_bounded(tmp_path):
    """The largest that 2,000 measurements can make, and more of them make it no larger."""
    picture = thumbnail(NOISE)
    worst = [
        Entry(
            f"{number:05d}" + "n" * 95,
            "f" * 200,
            "look here",
            ("r" * 400,) * 5,
            ("n" * 40,) * 13,
            frames=10**9,
            kept=10**5,
            windows=10**6,
            seconds=1e5,
            megabytes_per_second=1e4,
            link="l" * 300,
            thumbnail=picture,
        )
        for number in range(MOST_ROWS + 1)
    ]
    size = page_of(tmp_path, worst[:MOST_ROWS]).stat().st_size
    assert size < 15e6
    page = page_of(tmp_path, worst)
    assert page.stat().st_size < size + 500
    assert "1 more, with no worse verdicts" in page.read_text("utf-8")


# In a browser -----------------------------------------------------------------------------------


@pytest.fixture
def visit(visit, tmp_path):
    """Return a function that opens the overview."""
    return partial(visit, page_of(tmp_path))


def names(page):
    found = page.locator("#measurements tbody th").evaluate_all(
        "heads => heads.map(head => head.firstChild.textContent)"
    )
    return [re.match(r"M[0-9]+", name)[0] for name in found]


def test_what_calls_for_a_look_comes_first_also_without_javascript(visit):
    page = visit(java_script_enabled=False)
    assert names(page) == ["M1", "M9", "M2", "M3", "M10", "M11"]
    assert page.locator(".sorting").is_hidden()
    assert page.locator("#headline").inner_text().split() == [
        *("1", "✗", "failed", "1", "▲", "look", "here", "1", "?", "cannot", "tell"),
        *("1", "not", "judged", "1", "✓", "good", "1", "waiting"),
    ]


@pytest.mark.parametrize(
    ("column", "first", "second"),
    [
        ("Verdict", "M11 M10 M3 M2 M9 M1", "M1 M9 M2 M3 M10 M11"),
        ("Measurement", "M1 M2 M3 M9 M10 M11", "M11 M10 M9 M3 M2 M1"),
        ("Frames", "M9 M10 M3 M2 M1 M11", "M2 M3 M10 M9 M1 M11"),  # what is not known comes last
        ("Images kept", "M2 M10 M9 M1 M3 M11", "M9 M10 M2 M1 M3 M11"),
        ("Seconds", "M10 M9 M1 M2 M3 M11", "M9 M10 M1 M2 M3 M11"),
        ("MB/s", "M9 M10 M1 M2 M3 M11", "M10 M9 M1 M2 M3 M11"),
    ],
)
def test_a_click_sorts_and_another_turns_it_around(visit, column, first, second):
    page = visit()
    head = page.locator("#measurements thead button", has_text=column)
    for order in (first, second):
        head.click()
        assert names(page) == order.split()
        sorted_by = page.locator("#measurements thead th[aria-sort]")
        assert sorted_by.inner_text().startswith(column)
        assert page.locator("select").input_value() == head.get_attribute("value")


def test_on_a_phone_one_chooses_what_to_sort_by(visit):
    page = visit(viewport={"width": 390, "height": 844})
    assert page.locator("thead").is_hidden()
    page.locator("select").select_option("Frames")
    assert names(page)[0] == "M9"
    row = page.locator("#measurements tbody tr").first
    assert row.locator(".frames").inner_text() == "90,000"
    assert row.locator("img").is_visible()
    box = row.bounding_box()
    assert box["width"] <= 390


@pytest.mark.parametrize("width", [320, 390, 800, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_the_screen(visit, width, scheme):
    page = visit(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.locator("summary").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") == width
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (colour == "rgb(255, 255, 255)") == (scheme == "light")


def test_the_head_of_each_printed_sheet_names_its_columns(visit):
    page = visit()
    page.emulate_media(media="print")
    assert page.locator("thead button:visible").count() == 0
    shown = page.locator("thead th[abbr]").evaluate_all(
        "heads => heads.map((head) => getComputedStyle(head, '::after').content)"
    )
    assert shown == [f'"{name}"' for _, kind, name in _COLUMNS if kind != "picture"]


def test_thumbnails_are_seen_and_text_does_nothing(visit):
    page = visit()
    widths = page.evaluate(
        "Promise.all([...document.images].map(async (image) => {"
        " await image.decode(); return image.naturalWidth; }))"
    )
    assert len(widths) == 2
    assert min(widths) > 100
    assert page.title() == "6 measurements"
    assert "<script>" in page.locator("#measurements tbody th").first.inner_text()
    assert page.locator("a").get_attribute("href") == "../data/M9_report.html"


@pytest.mark.parametrize(
    ("verdicts", "kind"),
    [
        (["good", "good"], "good"),
        (["good", "waiting", "not judged"], "good"),
        (["good", "failed"], "look"),
        (["good", "look here"], "look"),
        (["good", "cannot tell"], "look"),
        ([], "good"),
    ],
)
def test_the_headline_is_good_if_nothing_calls_for_a_look(verdicts, kind):
    entries = [Entry(f"{n}.rtdc", "data", verdict) for n, verdict in enumerate(verdicts)]
    assert f'<div class="headline {kind}"' in make_overview(entries, "T", "S", "P")


def test_numbers_of_a_column_have_the_same_digits():
    entries = [
        Entry("a.rtdc", "data", "good", kept=16, windows=20, seconds=12.3),
        Entry("b.rtdc", "data", "good", kept=1600, windows=2000, seconds=0.25),
    ]
    page = make_overview(entries, "T", "S", "P")
    for text in ("16 of 20", "1,600 of 2,000", "12.30", "0.25"):
        assert f">{text}</td>" in page


@pytest.mark.parametrize(
    ("verdict", "link"), [("look here", None), ("good", None), ("look here", "x")]
)
def test_where_pages_are_to_lie_is_said_if_one_is_missing(verdict, link):
    page = make_overview([Entry("a.rtdc", "data", verdict, link=link)], "T", "S", "P")
    assert ("links it here if" in page) == ((verdict, link) == ("look here", None))


def test_a_folder_and_a_name_are_text():
    page = make_overview([Entry("<i>.rtdc", "<b>", "good")], "<u>", "<s>", "<q>")
    for tag in ("<i>", "<b>", "<u>", "<s>", "<q>"):
        assert page.count(html.escape(tag)) >= 1
        assert tag not in page.replace("<b>1</b>", "")
