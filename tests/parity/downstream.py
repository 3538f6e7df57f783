"""pytest plugin that puts sparsemed in the place of dcnum's class in dcnum's own tests.

`nox -s downstream` fetches these tests and runs them with it.
"""

import pytest
from dcnum.feat import feat_background
from dcnum.feat.feat_background import bg_sparse_median

import sparsemed.dcnum
from sparsemed.dcnum import BackgroundSparseMed

DO_NOT_APPLY = {
    "test_median_sparsemend_worker": "runs a worker of dcnum's process pool; sparsemed has none",
}

processed = []


def process(job, progress=None, _process=BackgroundSparseMed.process):
    """Take note that it was sparsemed that computed the background."""
    processed.append(job)
    _process(job, progress)


def shared_input_raw(job):
    """As long as dcnum's window of frames in shared memory, where tests of other things look."""
    height, width = job.image_shape
    return range(job.kernel_size * height * width)


def pytest_configure():
    BackgroundSparseMed.process = process
    BackgroundSparseMed.shared_input_raw = property(shared_input_raw)
    for module in (feat_background, bg_sparse_median):
        module.BackgroundSparseMed = BackgroundSparseMed
    sparsemed.dcnum.register()


def pytest_collection_modifyitems(items):
    for item in items:
        if reason := DO_NOT_APPLY.get(item.name):
            item.add_marker(pytest.mark.skip(reason=reason))


def pytest_sessionfinish(session):
    print(f"\nsparsemed computed {len(processed)} backgrounds")
    if not processed:
        session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED
