import sys
import unicodedata

import pytest

from sparsemed.printable import printable, quoted


def test_all_that_can_be_seen_stays():
    text = "Zelle_5 µm, 80 × 320 – «日本» ✓ …"
    assert printable(text) == text


@pytest.mark.parametrize("kind", ["Cc", "Cf", "Cs", "Co", "Zl", "Zp"])
def test_nothing_of_a_kind_is_left(kind):
    """Control and format characters, halves of characters, private ones, ends of lines."""
    them = [c for c in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(c) == kind]
    assert them
    shown = printable("".join(them))
    assert shown.isprintable()
    assert shown.startswith("\\")
    shown.encode()


def test_what_is_long_is_cut():
    assert quoted("x" * 200) == f"'{'x' * 200}'"
    assert quoted("x" * 201) == f"'{'x' * 200}…'"
    assert quoted("\x1b" * 10**6) == "'" + r"\x1b" * 50 + "…'"
