import os
import unicodedata
from pathlib import Path

import pytest

from sparsemed.rtdc.search import as_spelled, places_of

HERE = Path("/home/results")


def found(*paths):
    """Return the places to look at, as text; those from the working folder aside."""
    places = list(places_of(list(paths), HERE))
    return [place.as_posix() for place in places if Path.cwd() not in place.parents]


@pytest.mark.skipif(os.name == "nt", reason="paths of POSIX")
@pytest.mark.parametrize(
    ("path", "places"),
    [
        ("/raw/a.rtdc", ["/raw/a.rtdc", "/home/results/a.rtdc"]),
        ("a.rtdc", ["/home/results/a.rtdc"]),
        ("../raw/a.rtdc", ["/home/results/../raw/a.rtdc", "/home/results/a.rtdc"]),
        (
            r"..\raw\a.rtdc",
            [
                r"/home/results/..\raw\a.rtdc",
                "/home/results/../raw/a.rtdc",
                r"/home/results/..\raw\a.rtdc",
                "/home/results/a.rtdc",
            ],
        ),
        (r"C:\raw\a.rtdc", [r"/home/results/C:\raw\a.rtdc", "/home/results/a.rtdc"]),
        ("C:/raw/a.rtdc", ["/home/results/C:/raw/a.rtdc", "/home/results/a.rtdc"]),
        (
            r"\\server\share\a.rtdc",
            [r"/home/results/\\server\share\a.rtdc", "/home/results/a.rtdc"],
        ),
        ("file:///raw/a%20b.rtdc", ["/raw/a b.rtdc", "/home/results/a b.rtdc"]),
        ("file:///C:/raw/a.rtdc", ["/home/results/C:/raw/a.rtdc", "/home/results/a.rtdc"]),
        ("file:a.rtdc", ["/home/results/a.rtdc"]),
        ("FILE://server/share/a.rtdc", ["/share/a.rtdc", "/home/results/a.rtdc"]),
    ],
)
def test_places(path, places):
    assert found(path) == list(dict.fromkeys(places))


def test_recorded_paths_come_before_bare_names_and_the_working_folder_comes_last():
    places = list(places_of(["b/a.rtdc", "c/a.rtdc"], HERE))
    assert places == [
        HERE / "b/a.rtdc",
        HERE / "c/a.rtdc",
        HERE / "a.rtdc",
        Path("b/a.rtdc").absolute(),
        Path("c/a.rtdc").absolute(),
    ]


@pytest.mark.parametrize("path", [3, None, [], "", "file:", "..", "/"])
def test_what_names_no_file(path):
    assert [place for place in places_of([path], HERE) if place.name.endswith(".rtdc")] == []


@pytest.mark.parametrize(("on_disk", "asked"), [("NFC", "NFD"), ("NFD", "NFC"), ("NFD", "NFD")])
def test_names_are_the_same_however_they_are_spelled(tmp_path, on_disk, asked):
    folder, name = "Mäuse", "Probe ü.rtdc"
    real = tmp_path / unicodedata.normalize(on_disk, folder) / unicodedata.normalize(on_disk, name)
    real.parent.mkdir()
    real.touch()
    spelled = tmp_path / unicodedata.normalize(asked, folder) / unicodedata.normalize(asked, name)
    assert as_spelled(spelled).samefile(real)
    assert as_spelled(spelled.with_name("Probe ö.rtdc")) is None
    assert as_spelled(tmp_path / "gone" / spelled.name) is None


def test_folders_are_not_listed_for_plain_names(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "listdir", None)
    (tmp_path / "a.rtdc").touch()
    assert as_spelled(tmp_path / "a.rtdc") == tmp_path / "a.rtdc"
    assert as_spelled(tmp_path / "b.rtdc") is None
