"""What people who work on sparsemed run: ``nox --list`` tells, ``nox -s lint`` runs one of it."""

import os
import shutil
import subprocess
import tarfile
import tomllib
import zipfile
from pathlib import Path

import nox
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

nox.options.sessions = ["lint", "types", "docs", "tests"]

PROJECT = tomllib.loads(Path("pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]

# Each dependency is exercised by one of these at least, and all of them take about a minute. With
# what they need alone, it takes half as long to install.
MINIMUM_TOOLS = ["pytest", "pytest-xdist", "hypothesis", "dclab", "zstandard", "dask", "xarray"]
MINIMUM = [
    "tests/kernels/test_median.py",
    "tests/frames/test_codecs.py",
    "tests/hdf5/test_commit.py",
    "tests/method",
    "tests/parity/test_random_cases.py",
    "tests/cli",
    "tests/plotting",
    "tests/report/test_notebook.py",
    "tests/report/test_report.py::test_the_page_has_all_that_is_promised",
]

# The full ring of tests: the slow ones, too, and ten times as many random examples.
FULL = ["-m", "not soak", "--hypothesis-profile=full"]

# What dcnum itself tests its class with; of its other tests, any can be named on the command line.
DOWNSTREAM = [
    "test_feat_background_base.py",
    "test_feat_background_bg_sparsemed.py",
    "test_meta_ppid_bg.py",
]


def needed(tool: str) -> str:
    """Return what the extra ``test`` says of a tool, with its version."""
    return next(each for each in EXTRAS["test"] if Requirement(each).name == tool)


@nox.session(reuse_venv=True)
def tests(session: nox.Session) -> None:
    """Run the default ring of tests, and doctests; what comes after -- goes to pytest."""
    session.install("-e", ".[test]")
    session.run("pytest", *session.posargs)


@nox.session(reuse_venv=True)
def full(session: nox.Session) -> None:
    """Run the full ring of tests, and tell how much of the code they reach."""
    session.install("-e", ".[test]", "pytest-cov>=6")
    session.run("pytest", *FULL, "--cov", *session.posargs)


@nox.session(reuse_venv=True)
def soak(session: nox.Session) -> None:
    """Run the long tests: kills, broken files and random cases by the thousand."""
    session.install("-e", ".[test]")
    session.run(
        "pytest",
        "-m",
        "soak or hypothesis",
        "--hypothesis-profile=soak",
        "--override-ini=faulthandler_timeout=7200",
        *session.posargs,
    )


@nox.session(reuse_venv=True)
def lint(session: nox.Session) -> None:
    """Look for what ruff does not like, and how it would write it."""
    session.install(needed("ruff"))
    session.run("ruff", "check", *session.posargs)
    session.run("ruff", "format", "--check", *session.posargs)


@nox.session(reuse_venv=True)
def types(session: nox.Session) -> None:
    """Check types."""
    session.install("-e", ".[test]")  # what dependencies say of their types counts, too
    session.run("mypy", *session.posargs)


@nox.session(reuse_venv=True)
def docs(session: nox.Session) -> None:
    """Build the documentation into build/docs; a warning is an error."""
    session.install("-e", ".[docs]")
    session.run(
        "sphinx-build", "--fail-on-warning", "--keep-going", "--quiet", "docs", "build/docs"
    )


@nox.session
def minimum(session: nox.Session) -> None:
    """Run some tests with the oldest versions that pyproject.toml allows."""
    lowest = [Requirement(each) for each in PROJECT["dependencies"] + EXTRAS["plot"]]
    for each in lowest:
        (bound,) = each.specifier
        assert bound.operator == ">=", f"{each}: only a lowest version is expected here"
        each.specifier = SpecifierSet(f"=={bound.version}")
    # A lowest version that would have to be compiled is too low.
    names = ",".join(requirement.name for requirement in lowest)
    extras, tools = ".[plot,stacks,chipstream,dask]", map(needed, MINIMUM_TOOLS)
    session.install("-e", extras, *tools, *map(str, lowest), "--only-binary", names)
    # Old versions warn of what newer ones among their dependencies will not do any more.
    session.run("pytest", "-W", "default", *(session.posargs or MINIMUM))


@nox.session
def wheel(session: nox.Session) -> None:
    """Build what people download, look into it, install it and use it.

    What passed is copied to a folder that is named after --, such as dist.
    """
    session.install("build", "twine")
    folder = Path(session.create_tmp()).resolve()
    shutil.rmtree(folder)
    folder.mkdir()
    session.run("python", "-m", "build", "--outdir", str(folder / "dist"))
    (built,), (source,) = ((folder / "dist").glob(kind) for kind in ("*.whl", "*.tar.gz"))
    session.run("twine", "check", "--strict", str(built), str(source))
    version = built.name.split("-")[1]
    check_wheel(session, built)
    check_source(session, source)

    # An environment that holds nothing else, and a folder from which the checkout is not in sight
    session.run("python", "-m", "venv", str(folder / "fresh"))
    scripts = folder / "fresh" / ("Scripts" if os.name == "nt" else "bin")
    python, sparsemed = (str(scripts / name) for name in ("python", "sparsemed"))
    with session.chdir(folder):
        session.run(python, "-m", "pip", "install", "-q", f"{built}[plot]", external=True)
        session.run(python, "-c", INSTALLED, version, external=True)
        session.run(sparsemed, "--help", external=True)
        session.run(sparsemed, "demo", "--out", "demo", external=True)
        session.run(sparsemed, "report", "demo/demo.rtdc", external=True)
    assert (folder / "demo" / "demo_bg_report.html").stat().st_size > 100_000
    for target in session.posargs:
        shutil.copytree(folder / "dist", target)


INSTALLED = """
import sys, importlib.metadata, sparsemed
assert "fresh" in sparsemed.__file__, sparsemed.__file__
versions = sys.argv[1], sparsemed.__version__, importlib.metadata.version("sparsemed")
assert len(set(versions)) == 1, versions
"""


def files_of_git(*folders: str) -> set[str]:
    """Return the files in folders of the checkout, less those that git ignores."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *folders]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {name for name in listed.split("\0") if Path(name).is_file()}


def check_wheel(session: nox.Session, path: Path) -> None:
    """See that the wheel holds all of the package, and nothing else but what is said of it."""
    with zipfile.ZipFile(path) as file:
        found = {name for name in file.namelist() if ".dist-info/" not in name}
    compare(session, path, found, files_of_git("sparsemed"))


def check_source(session: nox.Session, path: Path) -> None:
    """See that the source distribution holds what is needed to test, measure and describe it."""
    with tarfile.open(path) as file:
        found = {each.name.partition("/")[2] for each in file if each.isfile()}
    folders = ["sparsemed", "tests", "docs", "benchmarks", "examples"]
    others = {"pyproject.toml", "noxfile.py", "LICENSE", "CITATION.cff"}
    others |= {".gitignore", "PKG-INFO"}  # hatchling always adds these
    compare(session, path, found, files_of_git(*folders, ":(glob)*.md") | others)


def compare(session: nox.Session, path: Path, found: set[str], expected: set[str]) -> None:
    """Fail if files are missing, or more of them than expected."""
    if found != expected:
        missing, more = sorted(expected - found), sorted(found - expected)
        session.error(f"{path.name}: missing are {missing}, and not expected {more}")
    session.log(f"{path.name} holds {len(found)} files, as it should")


@nox.session(reuse_venv=True)
def downstream(session: nox.Session) -> None:
    """Run what dcnum tests its own class with, with sparsemed in its place."""
    session.install("-e", ".", needed("dcnum"), needed("pytest"))
    folder = Path(session.create_tmp()).resolve()
    shutil.rmtree(folder)
    folder.mkdir()
    session.run(
        "python",
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--no-binary",
        ":all:",
        "--dest",
        str(folder),
        needed("dcnum"),
    )
    (source,) = folder.glob("dcnum-*.tar.gz")
    with tarfile.open(source) as file:
        # only the tests: the package is installed
        wanted = [each for each in file if each.name.split("/")[1:2] == ["tests"]]
        file.extractall(folder, members=wanted, filter="data")
    (there,) = folder.glob("dcnum-*/tests")
    (there / "pytest.ini").write_text("[pytest]\n")  # or else pytest finds our settings
    plugin = Path("tests/parity").resolve()
    with session.chdir(there):
        session.run(
            "pytest",
            "-rs",
            "-p",
            "downstream",
            *(session.posargs or DOWNSTREAM),
            # dcnum's tests want one thread, which Numba has to know when it is imported; and they
            # turn its compiler off, for the sake of coverage.
            env={"PYTHONPATH": str(plugin), "NUMBA_NUM_THREADS": "1", "NUMBA_DISABLE_JIT": "0"},
        )
