"""What fuzzing has found so far; see codecs.py and records.py for how to find more."""

from pathlib import Path

import pytest
from fuzz import codecs, records

CORPUS = Path(__file__).parent / "corpus"


@pytest.mark.parametrize("target", [codecs, records], ids=["codecs", "records"])
def test_the_corpus(target):
    files = sorted((CORPUS / target.__name__.split(".")[-1]).iterdir())
    assert files
    for file in files:
        try:
            target.check(file.read_bytes())
        except Exception as error:
            raise AssertionError(f"{file}") from error
