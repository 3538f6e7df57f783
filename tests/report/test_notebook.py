import dataclasses
import re
from base64 import b64decode
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import imagecodecs
import matplotlib.image
import numpy as np

from sparsemed import compute_background
from sparsemed.report.pictures import png
from sparsemed.storage.identity import Identity


def of_file(background, name):
    identity = Identity(Path(name), Path(name), "measurement", len(background))
    return dataclasses.replace(background, identity=identity)


def test_png_holds_the_image():
    image = np.random.default_rng(0).integers(0, 256, (7, 12)).astype(np.uint8)
    read = matplotlib.image.imread(BytesIO(png(image)))
    np.testing.assert_array_equal((read * 255).round().astype(np.uint8), image)


class Parts(HTMLParser):
    """Tags that are open, and pictures."""

    def __init__(self):
        super().__init__()
        self.open, self.pictures = [], []

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.pictures.append(dict(attrs)["src"])
        else:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_table_says_what_the_background_is_made_of():
    images = np.random.default_rng(0).integers(90, 99, (100, 40, 700)).astype(np.uint8)
    images[50:] += 80
    background = compute_background(images, time=np.arange(100) / 10, kernel_size=10)
    html = background._repr_html_()
    parts = Parts()
    parts.feed(html)
    assert parts.open == []
    text = re.sub("<[^>]*>", " ", html)
    assert "100 of 40 × 700" in text
    kept = len(background.images)
    assert f"{kept} kept, {10 - kept} dropped" in text
    assert "kernel_size=10" in text
    thumbnails = [
        matplotlib.image.imread(BytesIO(b64decode(source.removeprefix("data:image/png;base64,"))))
        for source in parts.pictures
    ]
    assert [image.shape for image in thumbnails] == [(14, 234)] * 4
    assert thumbnails[0].mean() < 0.2  # one scale for all
    assert thumbnails[-1].mean() > 0.8


def test_the_table_of_one_constant_image_escapes_names():
    images = np.full((3, 40, 60), 7, dtype=np.uint16)
    background = compute_background(images, offset_correction=False)
    odd = of_file(background, "a<b>&c.rtdc")
    html = odd._repr_html_()
    assert "a&lt;b&gt;&amp;c.rtdc" in html
    assert html.count("<img") == 1
    odd = of_file(background, "\u202e<script>\x1b\u2028.rtdc")
    assert r"\u202e&lt;script&gt;\x1b\u2028.rtdc" in odd._repr_html_()


def test_thumbnails_are_of_images_that_were_kept_and_say_when():
    images = np.random.default_rng(0).integers(90, 99, (100, 40, 30)).astype(np.uint8)
    background = compute_background(images, time=np.arange(100) / 10, kernel_size=10)
    kept = np.array([0, 0, 1, 1, 0, 1, 0, 1, 1, 0], bool)
    offsets = np.linspace(-1.26, 2.34, 100)
    background = dataclasses.replace(
        background, kept=kept, images=background.series[kept], offsets=offsets
    )
    html = background._repr_html_()
    times = [f"{background.step_times[number]:.4g} s" for number in (2, 3, 7, 8)]
    assert re.findall("<figcaption>(.*?)</figcaption>", html) == times
    assert re.findall('alt="background image at (.*?)"', html) == times
    rows = re.findall('<th style="[^"]*">(.*?)</th><td style="[^"]*">(.*?)</td>', html)
    assert rows == [
        ("source", "an array"),
        ("frames", "100 of 40 × 30, 9.9 s"),
        ("background images", "5 kept, 5 dropped"),
        ("offsets", "−1.3 to +2.3 grey values"),
        ("parameters", str(background.parameters)),
    ]
    parts = Parts()
    parts.feed(html)
    shown = background.series[[2, 3, 7, 8]].astype(float)
    grey = (shown - shown.min()) * 255 / np.ptp(shown)
    for source, expected in zip(parts.pictures, grey, strict=True):
        png = b64decode(source.removeprefix("data:image/png;base64,"))
        np.testing.assert_array_equal(imagecodecs.png_decode(png), expected.round())
