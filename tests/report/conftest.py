"""A browser that opens pages, and hears what is wrong in them."""

import os
import shutil

import pytest
from patience import PATIENCE

MILLISECONDS = PATIENCE * 1000 / 5
"""How long a browser may take for a step."""


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    program = next(filter(None, map(shutil.which, names)), None)
    with playwright.sync_playwright() as driver:
        if program is None and not os.path.exists(driver.chromium.executable_path):
            pytest.skip("no browser: apt-get install chromium, or playwright install chromium")
        browser = driver.chromium.launch(executable_path=program, timeout=MILLISECONDS)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser):
    """Return a function that opens a page; in the end nothing may have gone wrong in it."""
    contexts, complaints, requests = [], [], []

    def open_page(path, **options):
        contexts.append(browser.new_context(**options))
        contexts[-1].set_default_timeout(MILLISECONDS)
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
