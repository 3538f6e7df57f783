"""Fixtures that many tests share."""

import shutil

import pytest

from benchmarks.measurements import NotAvailableError, real_measurement


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
