"""Fixtures that many tests share."""

import shutil

import pytest

from benchmarks.measurements import NotAvailableError, generate_measurement, real_measurement


@pytest.fixture
def real(tmp_path):
    """Return a function that gives a copy of a real measurement, by name."""

    def copy_of(name):
        try:
            path = real_measurement(name)
        except NotAvailableError as reason:
            pytest.skip(f"{reason}")
        copy = tmp_path / f"{name}.rtdc"
        shutil.copyfile(path, copy)
        return copy

    return copy_of


@pytest.fixture(scope="session")
def measurement(tmp_path_factory):
    """Return a measurement made from real frames; it is shared, so do not write to it."""
    path = tmp_path_factory.mktemp("measurement") / "in.rtdc"
    try:
        generate_measurement(path, 250, 50)
    except NotAvailableError as reason:
        pytest.skip(f"{reason}")
    return path
