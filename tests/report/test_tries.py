"""What was tried for a measurement before, as pages remember it."""

import html

import pytest

from sparsemed.report.tries import HEAD_BYTES, MOST, NAME, Try, as_text, read_tries, with_another

SOME = [Try("m", f"kernel_size={n}", "look here") for n in range(5)]


def page(path, tries, before=""):
    """Write the beginning of a page that remembers tries."""
    path.write_text(f'{before}<meta name="{NAME}" content="{html.escape(as_text(tries))}">')
    return path


def test_the_last_tries_are_remembered_each_once():
    tries = []
    for number in range(MOST + 5):
        tries = with_another(tries, Try("m", f"kernel_size={number}", "good"))
    assert [each.parameters for each in tries] == [f"kernel_size={n}" for n in range(5, MOST + 5)]
    again = with_another(tries, tries[3]._replace(verdict="look here"))
    assert again == [*tries[:3], *tries[4:], tries[3]._replace(verdict="look here")]


def test_pages_are_read_in_their_order_and_of_one_measurement(tmp_path):
    other = Try("other", "kernel_size=9", "good")
    later = SOME[1]._replace(verdict="good")
    first = page(tmp_path / "first.html", [*SOME, other])
    second = page(tmp_path / "second.html", [later])
    assert read_tries([first], "m") == SOME
    assert read_tries([first], "other") == [other]
    assert read_tries([first, second], "m") == [SOME[0], *SOME[2:], later]
    assert read_tries([second, first], "m") == SOME
    many = page(tmp_path / "many.html", [Try("m", str(n), "good") for n in range(MOST + 2)])
    assert [each.parameters for each in read_tries([many], "m")] == [
        str(n) for n in range(2, MOST + 2)
    ]


@pytest.mark.parametrize("content", ["", "{", "5", '["one"]', '[["m", "a"]]', "[1]"])
def test_pages_that_remember_nothing_are_passed_over(tmp_path, content):
    broken = tmp_path / "broken.html"
    broken.write_text(f'<meta name="{NAME}" content="{html.escape(content)}">')
    fine = page(tmp_path / "fine.html", SOME)
    assert read_tries([tmp_path / "gone.html", broken, fine], "m") == SOME
    far = page(tmp_path / "far.html", SOME, before=" " * HEAD_BYTES)
    assert read_tries([far], "m") == []
