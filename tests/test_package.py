"""What holds for the package as a whole."""

import subprocess
import sys
from pathlib import Path

import pytest

import sparsemed

HEAVY = (
    "numpy", "numba", "scipy", "h5py", "hdf5plugin", "imagecodecs", "matplotlib", "dcnum", "tqdm"
)  # fmt: skip


@pytest.mark.parametrize("room", ["sparsemed", "sparsemed.cli"])
def test_importing_the_package_imports_nothing_heavy(room):
    code = f"import sys, {room}; print([m for m in {HEAVY} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


def test_dcnum_and_matplotlib_are_never_needed():
    code = """
import sys
for name in ("dcnum", "dclab", "matplotlib"):
    sys.modules[name] = None
import sparsemed.cli, sparsemed.demo
for name in sparsemed.__all__:
    getattr(sparsemed, name)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_is_there_and_documented():
    for name in sparsemed.__all__:
        assert getattr(sparsemed, name).__doc__
    assert set(dir(sparsemed)) == set(sparsemed.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = sparsemed.nonsense


FLOORS = [
    {
        "parameters",
        "cores",
        "compiling",
        "progress",
        "printable",
        "stopping",
        "frames",
        "frames.codecs",
        "rtdc.commit",
    },
    {"frames.arrays", "frames.chunks", "rtdc.entries"},
    {"frames.opening"},
    {"median", "timeline", "cleansing", "brightness", "rtdc.basins"},
    {"rtdc.pipeline_id", "rtdc.measurement", "scan"},
    {"rtdc.output", "quality"},
    {"plotting", "summary"},
    {"background"},
    {"job", "demo", "info", "selection"},
    {"dcnum", "report"},
    {"cli"},
]


def test_rooms_only_call_rooms_below():
    """Which room may import which, from the top of the house to its foundation."""
    root = Path(sparsemed.__file__).parent
    floor_of = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    for path in root.rglob("*.py"):
        room = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        if room in ("__init__", "__main__", "rtdc"):
            continue
        lines = (line.split() for line in path.read_text(encoding="utf-8").splitlines())
        imports = {words[1].removeprefix("sparsemed.") for words in lines
                   if words[:1] == ["from"] and words[1].startswith("sparsemed.")}  # fmt: skip
        for imported in imports:
            assert floor_of[imported] < floor_of[room], f"{room} must not import {imported}"


def test_dcnum_and_chipstream_are_imported_in_one_place_each():
    root = Path(sparsemed.__file__).parent
    lines = [
        (path.stem, line.split()[1].partition(".")[0])
        for path in root.rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.lstrip().startswith(("import ", "from "))
    ]
    assert {room for room, imported in lines if imported == "dcnum"} == {"dcnum"}
    assert {room for room, imported in lines if imported == "chipstream"} == {"cli"}


def test_the_pure_rooms_know_no_files():
    root = Path(sparsemed.__file__).parent
    for room in ("median", "timeline", "cleansing", "brightness", "scan", "background"):
        assert "h5py" not in [
            line.split()[1]
            for line in (root / f"{room}.py").read_text(encoding="utf-8").splitlines()
            if line.startswith(("import ", "from "))
        ]
