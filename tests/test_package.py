"""What holds for the package as a whole: who may import whom, and what importing costs."""

import ast
import copy
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import sparsemed
from docs.rooms import draw_rooms, floors_of, imports, own_imports, read_calls, read_modules

ROOT = Path(sparsemed.__file__).parent
HEAVY = (
    "numpy",
    "numba",
    "scipy",
    "h5py",
    "hdf5plugin",
    "imagecodecs",
    "matplotlib",
    "dcnum",
    "tqdm",
    "dask",
    "distributed",
)

MODULES = read_modules()


@pytest.mark.parametrize("room", ["sparsemed", "sparsemed.cli"])
def test_importing_the_package_imports_nothing_heavy(room):
    code = f"import sys, {room}; print([m for m in {HEAVY} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


JOB = """
import sys
import numpy as np
import sparsemed

images = np.arange(400, dtype=np.uint8).reshape(100, 2, 2)
with sparsemed.BackgroundSparseMed(images, sys.argv[1], kernel_size=10) as job:
    job.process()
print([name for name in ("matplotlib", "scipy.linalg", "scipy.ndimage", "numba.np.arraymath",
                         "dask", "distributed", "tqdm") if name in sys.modules])

from numba import njit

assert njit(lambda matrix: np.dot(matrix, matrix))(np.eye(2)).tolist() == [[1, 0], [0, 1]]
"""


def test_a_job_imports_nothing_that_it_does_not_need(tmp_path):
    for name in ("one.rtdc", "two.rtdc"):  # the first may have to compile the kernel
        command = [sys.executable, "-c", JOB, tmp_path / name]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


def test_dcnum_and_matplotlib_are_never_needed():
    code = """
import sys
for name in ("dcnum", "dclab", "matplotlib", "tifffile", "zarr"):
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


def test_type_checkers_are_told_the_same_names_as_python():
    for_types = next(node for node in MODULES["__init__"].body if isinstance(node, ast.If))
    assert ast.unparse(for_types.test) == "TYPE_CHECKING"
    told = {
        each.asname: node.module
        for node in for_types.body
        if isinstance(node, ast.ImportFrom)
        for each in node.names
    }
    assert told == sparsemed._MODULES  # "import x as x": what it is for others, too


def test_every_form_of_import_is_seen():
    code = """
import sparsemed
import sparsemed.storage.disk as d
from sparsemed import background, compute_background
from sparsemed.storage import disk
from sparsemed.hdf5.commit import new_file
def late():
    from sparsemed.quality import assess
"""
    assert set(own_imports(ast.parse(code), MODULES)) == {
        "__init__",
        "storage.disk",
        "background",
        "hdf5.commit",
        "quality",
    }


def test_private_names_stay_in_their_module():
    for name, module in MODULES.items():
        for node in ast.walk(module):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sparsemed."):
                private = [each.name for each in node.names if re.match("_[^_]", each.name)]
                assert not private, f"{name}: {private}"


def test_no_property_is_computed_under_a_lock_of_its_class():
    """`functools.cached_property` has one until Python 3.11, which a forked child may wait for."""
    users = {
        name
        for name, module in MODULES.items()
        for node in ast.walk(module)
        if "cached_property" in (getattr(node, "attr", ""), getattr(node, "name", ""))
    }
    assert users == set()


FREE = {
    "parameters",
    "printable",
    "progress",
    "version",
    "warned",
    "install_hint",
    "keywords",
    "lazy",
}
"""Rooms that import nothing of ours, and that all may import."""


def contract(room):
    """Return what a folder may import, as its docstring ends: "May import: a, b (why), c."."""
    text = " ".join(ast.get_docstring(MODULES[room]).rpartition("May import: ")[2].split())
    assert text.endswith("."), room
    names = re.sub(r" \([^)]*\)", "", text[:-1]).split(", ")
    return set() if names == ["nothing"] else set(names)


def test_folders_import_what_they_say_they_may_and_nothing_else():
    calls = read_calls(MODULES)
    assert all(not calls[room] for room in FREE)
    for room, others in calls.items():
        if (ROOT / room).is_dir():
            assert others - FREE == contract(room), f"{room}: what it imports, and may import"


def test_rooms_only_call_rooms_below():
    floors = floors_of(read_calls(MODULES))  # which fails where they call each other
    assert max(floors, key=floors.get) == "__main__"
    shown = {text.get_text().rstrip("/") for text in draw_rooms().axes[0].texts}
    assert set(floors) - {"__init__", "__main__", "version"} <= shown


def test_nobody_imports_the_front_door_of_the_package_but_those_who_live_outside():
    outside = {"__init__", "frozen.hook-sparsemed"}  # which PyInstaller runs
    for name, tree in MODULES.items():
        assert name in outside or "__init__" not in own_imports(tree, MODULES), name


def test_no_module_imports_itself_in_a_circle():
    ahead = {name: set(own_imports(tree, MODULES)) - {name} for name, tree in MODULES.items()}
    ahead.pop("__init__")
    while ahead:
        free = {name for name, others in ahead.items() if not others & set(ahead)}
        assert free, f"these import each other: {sorted(ahead)}"
        for name in free:
            ahead.pop(name)


def test_siblings_do_not_import_their_front_door():
    folders = {name for name in MODULES if (ROOT / name / "__init__.py").is_file()}
    for name, tree in MODULES.items():
        folder = name.rpartition(".")[0]
        assert folder not in folders or folder not in own_imports(tree, MODULES), name


@pytest.mark.parametrize(
    ("package", "rooms"),
    [
        ("numba", {"kernels"}),
        ("matplotlib", {"plotting"}),
        ("dcnum", {"dcnum"}),
        ("chipstream", {"cli"}),
        ("click", {"cli"}),
        ("tifffile", {"frames"}),
        ("zarr", {"frames"}),
        ("distributed", {"executors"}),
        ("tqdm", {"progress", "cli"}),
        ("PyInstaller", {"frozen"}),
        ("h5py", {"hdf5", "frames", "rtdc", "demo"}),
    ],
)
def test_what_comes_from_elsewhere_has_its_rooms(package, rooms):
    for name, tree in MODULES.items():
        without_types = copy.deepcopy(tree)
        for node in ast.walk(without_types):  # types alone cost nothing
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                node.body = [ast.Pass()]
        found = {imported.partition(".")[0] for imported in imports(without_types)}
        assert package not in found or name.partition(".")[0] in rooms, name


def test_storage_and_parameters_need_nothing_but_python_and_locks():
    code = """
import sys, sparsemed.storage.disk, sparsemed.storage.stored, sparsemed.printable
print([name for name in ("numpy", "h5py") if name in sys.modules])
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


def test_documented_paths_and_pickles_of_results_stay():
    from sparsemed.demo import make_measurement
    from sparsemed.parameters import Parameters
    from sparsemed.plotting import plot, plot_frame, plot_noise, plot_offsets, plot_score
    from sparsemed.quality import Finding, Sample, assess, flicker_events, take_sample, wall_noise
    from sparsemed.report import check_report, write_report

    for each in (
        make_measurement,
        Parameters,
        plot,
        plot_frame,
        plot_noise,
        plot_offsets,
        plot_score,
        Finding,
        Sample,
        assess,
        flicker_events,
        take_sample,
        wall_noise,
        check_report,
        write_report,
    ):
        assert callable(each)
    background = sparsemed.compute_background(np.full((9, 40, 60), 7, np.uint8))
    stored = pickle.dumps(background)
    assert b"sparsemed.result" in stored
    assert b"SparseBackground" in stored
    again = pickle.loads(stored)
    assert type(again) is sparsemed.SparseBackground
    np.testing.assert_array_equal(again[3], background[3])


@pytest.mark.parametrize(
    ("name", "line"), [("CITATION.cff", "version: {}"), ("CHANGELOG.md", "## {} (")]
)
def test_what_names_the_newest_version_agrees_with_the_package(name, line):
    text = (ROOT.parent / name).read_text("utf-8")
    first = next(each for each in text.splitlines() if each.startswith(line.partition("{")[0]))
    assert first.startswith(line.format(sparsemed.__version__))
