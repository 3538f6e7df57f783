import json
import logging
import signal
import subprocess
import sys
import threading
import time

import dcnum
import h5py
import numpy as np
import pytest
from dcnum.feat import feat_background
from dcnum.feat.feat_background import Background, get_available_background_methods
from dcnum.feat.feat_background import BackgroundSparseMed as Theirs
from dcnum.logic import DCNumJobRunner, DCNumPipelineJob
from dcnum.meta import ppid
from dcnum.read import HDF5Data
from dcnum.write import HDF5Writer, create_with_basins
from parity.compare import differences_of_runs
from rings import few_of

import sparsemed.dcnum
from sparsemed.dcnum import register, unregister
from sparsemed.install_hint import how_to_install

pytestmark = pytest.mark.usefixtures("dcnum_may_compile")

QUICK = {"debug": True, "feature_kwargs": {"haralick": False}}
"""Threads instead of processes, and without the features that take longest."""


@pytest.fixture
def registered():
    register()
    yield
    unregister()


@pytest.fixture(autouse=True)
def _nothing_is_left_behind():
    yield
    found = get_available_background_methods()["sparsemed"]
    unregister()
    assert found is Theirs


def make_job(path, folder, **settings):
    folder.mkdir()
    settings = {"background_kwargs": {"kernel_size": 20}, "num_procs": 2} | settings
    return DCNumPipelineJob(path_in=path, path_out=folder / "out.rtdc", **settings)


WAIT = 120
"""Seconds for a job of some hundred frames; they take one or two."""


def run(job):
    """Run a job. dcnum waits forever where a thread of its own has failed."""
    runner = DCNumJobRunner(job)
    runner.daemon = True
    runner.start()
    threading.Thread.join(runner, WAIT)  # its own join closes the log, whether it ended or not
    if runner.is_alive():
        log = runner.path_log.read_text("utf-8")
        pytest.fail(f"dcnum's job hangs: {runner.get_status()}\n{log[-3000:]}")
    runner.close()
    assert runner.state == "done"
    return job["path_out"]


def log_of(path, kind="log"):
    with h5py.File(path) as h5:
        last = max(name for name in h5["logs"] if name.startswith(f"dcnum-{kind}-"))
        return [line.decode() for line in h5["logs"][last]]


# whole jobs ----------------------------------------------------------------------------------


def run_with_both(path, tmp_path, **settings):
    """Run a job with dcnum's class and with ours; return both outputs."""
    theirs = run(make_job(path, tmp_path / "theirs", **settings))
    register()
    try:
        ours = run(make_job(path, tmp_path / "ours", **settings))
    finally:
        unregister()
    says = "sparsemed.BackgroundSparseMed: This is sparsemed"
    assert not [line for line in log_of(theirs) if says in line]
    assert [line for line in log_of(ours) if f"{says} {sparsemed.__version__}" in line]
    return theirs, ours


@pytest.mark.slow
def test_a_job_gives_the_same(measurement, tmp_path):
    theirs, ours = run_with_both(measurement, tmp_path)
    with HDF5Data(ours) as data, h5py.File(ours) as h5:
        assert {"image_bg", "bg_off", "deform", "bright_avg", "tex_asm_avg", "mask"} <= {
            *data.keys()
        }
        assert len(data) == h5.attrs["pipeline:dcnum yield"] > 100
        assert h5.attrs["pipeline:dcnum background"] == "sparsemed:k=20^s=1^t=0^f=0.8^o=1"
    assert differences_of_runs(theirs, ours) == []


@pytest.mark.parametrize(
    "settings",
    few_of(
        [
            {"data_kwargs": {"index_mapping": slice(20, 200, 3)}},
            {"basin_strategy": "drain", "background_kwargs": {"offset_correction": False}},
            {
                "segmenter_code": "thresh",
                "background_kwargs": {"split_time": 0.3, "kernel_size": 900},
            },
        ],
        few=1,
    ),
    ids=str,
)
def test_jobs_of_other_kinds_give_the_same(measurement, tmp_path, settings):
    theirs, ours = run_with_both(measurement, tmp_path, **QUICK, **settings)
    assert differences_of_runs(theirs, ours) == []


@pytest.mark.slow
def test_a_measurement_of_basins_gives_the_same(measurement, tmp_path):
    create_with_basins(tmp_path / "basin.rtdc", [measurement])
    with HDF5Writer(tmp_path / "mapped.rtdc", mode="w") as writer:
        with h5py.File(measurement) as h5:
            writer.h5.attrs.update(h5.attrs)
        writer.h5.attrs["experiment:event count"] = 120
        writer.store_basin(
            "half", paths=[measurement], features=["image", "time"], mapping=np.arange(0, 240, 2)
        )
    # dcnum computes no offsets of mapped images
    settings = QUICK | {"background_kwargs": {"kernel_size": 20, "offset_correction": False}}
    for name in ("basin", "mapped"):
        (tmp_path / name).mkdir()
        theirs, ours = run_with_both(tmp_path / f"{name}.rtdc", tmp_path / name, **settings)
        assert differences_of_runs(theirs, ours) == []


def test_an_existing_background_is_used_again(measurement, tmp_path):
    theirs, ours = run_with_both(measurement, tmp_path, **QUICK)
    time.sleep(1)  # dcnum names logs by the second, and keeps those of its input
    again = {}
    for first in (theirs, ours):
        for second in ("theirs", "ours"):
            if second == "ours":
                register()
            try:
                output = run(make_job(first, first.parent / second, **QUICK))
            finally:
                unregister()
            tasks = json.loads("\n".join(log_of(output, "job")))["tasks"]
            assert tasks == {"background": False, "segmentation": False}
            again[first, second] = output
    for first in (theirs, ours):
        assert differences_of_runs(again[first, "theirs"], again[first, "ours"]) == []


@pytest.mark.usefixtures("registered")
def test_progress(measurement, tmp_path, monkeypatch):
    runner = DCNumJobRunner(make_job(measurement, tmp_path / "out", **QUICK))
    states, done = [], []

    def note_and_look(job, fraction):
        note(job, fraction)
        states.append(runner.get_status()["state"])
        done.append(runner._progress_bg.value)
        assert job.get_progress() == done[-1]

    monkeypatch.setattr("sparsemed.frames.chunks.BATCH_BYTES", 1)  # chunk by chunk
    note = sparsemed.dcnum.BackgroundSparseMed._note_progress
    monkeypatch.setattr("sparsemed.dcnum.BackgroundSparseMed._note_progress", note_and_look)
    with runner:
        runner.run()
    assert set(states) == {"background"}
    assert done == sorted(done)
    assert done[0] == 0
    assert 0 < done[1] < done[-1] < 1  # what is left is writing
    assert runner._progress_bg.value == 1


@pytest.mark.usefixtures("registered")
def test_ctrl_c_during_the_background(measurement, tmp_path, monkeypatch):
    def press_ctrl_c(*arguments):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("sparsemed.method.series.median_images", press_ctrl_c)
    runner = DCNumJobRunner(make_job(measurement, tmp_path / "out", **QUICK))
    runner.run()  # dcnum takes it as a wish to stop, and cleans up
    assert runner.state == "background"
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.usefixtures("registered")
def test_errors_are_those_of_the_runner(measurement, tmp_path):
    job = make_job(measurement, tmp_path / "out", background_kwargs={"split_time": -1}, **QUICK)
    runner = DCNumJobRunner(job)
    with pytest.raises(ValueError, match="split_time must be a number above 0"):
        runner.run()
    runner.close()
    assert runner.state == "error"


# the registry --------------------------------------------------------------------------------


def test_register_and_unregister():
    methods = dict(get_available_background_methods())
    for _ in range(2):
        register()
        assert issubclass(sparsemed.dcnum.BackgroundSparseMed, Background)
        ours = {"sparsemed": sparsemed.dcnum.BackgroundSparseMed}
        assert get_available_background_methods() == methods | ours
        get_available_background_methods.cache_clear()
        assert get_available_background_methods() == methods | ours
    for _ in range(2):
        unregister()
        assert get_available_background_methods() == methods
        get_available_background_methods.cache_clear()
        assert get_available_background_methods() == methods


def test_what_sparsemed_logs_goes_where_dcnum_logs_only_while_registered(caplog):
    logger = logging.getLogger("sparsemed.background")
    caplog.set_level(logging.INFO, logger="dcnum")
    for use, expected in ((unregister, []), (register, ["said"]), (unregister, [])):
        use()
        caplog.clear()
        logger.info("said")
        assert caplog.messages == expected


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"kernel_size": 150, "offset_correction": False},
        {"split_time": 0.5, "frac_cleansing": 1},
    ],
    ids=str,
)
def test_pipeline_identifiers(settings):
    ours = get_available_background_methods()["sparsemed"]
    identifier = Theirs.get_ppid_from_ppkw(settings)
    assert ours.get_ppid_code() == Theirs.get_ppid_code()
    assert ours.get_ppid_from_ppkw(settings) == identifier
    back = Background.get_ppkw_from_ppid(identifier)
    assert ours.get_ppkw_from_ppid(identifier) == back
    assert back.items() >= settings.items()


# other versions of dcnum ---------------------------------------------------------------------


@pytest.mark.parametrize("version", ["0.30.1", "0.32.0", "0.310.0", "1.0"])
def test_an_unknown_version_is_a_warning(monkeypatch, version):
    monkeypatch.setattr(dcnum, "__version__", version)
    with pytest.warns(UserWarning, match=f"tested with dcnum 0.31, not with {version}"):
        register()
    assert get_available_background_methods()["sparsemed"] is not Theirs
    unregister()


@pytest.mark.parametrize("version", ["0.31", "0.31.0", "0.31.7"])
def test_tested_versions_are_no_warning(monkeypatch, version):
    monkeypatch.setattr(dcnum, "__version__", version)
    register()
    unregister()


def more_arguments(self, input_data, output_path, kernel_size=200, shear=1):
    """An __init__ of some other dcnum."""


def other_default(*, kernel_size: int = 201):
    """A check_user_kwargs of some other dcnum."""


@pytest.mark.parametrize(
    ("owner", "name", "value", "said"),
    [
        (Background, "estimate", lambda _: None, r"a background method does \(estimate\)"),
        (Theirs, "__init__", more_arguments, "the arguments of __init__"),
        (Theirs, "check_user_kwargs", staticmethod(other_default), "of check_user_kwargs"),
        (ppid, "DCNUM_PPID_GENERATION", "14", "its pipeline generation"),
        (Background, "get_ppid_from_ppkw", lambda _: "sparsemed:kernel=200", "identifiers"),
        (feat_background, "get_available_background_methods", lambda: {}, "its registry"),
        (HDF5Data, "extract_basin_dicts", lambda *_: [], "how it reads backgrounds"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_another_layout_is_an_error(monkeypatch, owner, name, value, said):
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, value, raising=False)
        with pytest.raises(ImportError, match=said) as caught:
            register()
    message = str(caught.value)
    assert f"dcnum {dcnum.__version__}, which differs in" in message
    assert message.endswith(how_to_install("dcnum==0.31.*"))
    assert get_available_background_methods()["sparsemed"] is Theirs


@pytest.mark.parametrize("gone", ["DCNUM_PPID_GENERATION", "HDF5Data"])
def test_a_part_of_dcnum_that_is_gone_is_an_error(gone):
    code = f"""
import dcnum.meta.ppid, dcnum.read
for module in (dcnum.meta.ppid, dcnum.read):
    vars(module).pop({gone!r}, None)
import sparsemed.dcnum
sparsemed.dcnum.register()
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    last = run.stderr.splitlines()[-1]
    assert last.startswith("ImportError: sparsemed cannot take its place in dcnum 0.31")
    assert last.endswith(how_to_install("dcnum==0.31.*"))


def test_a_registry_that_does_not_find_the_class_is_an_error(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Background, "__subclasses__", lambda: [Theirs], raising=False)
        with pytest.raises(ImportError, match="differs in its registry of background methods"):
            register()
    get_available_background_methods.cache_clear()
    assert get_available_background_methods()["sparsemed"] is Theirs


def test_without_dcnum():
    code = "import sys; sys.modules['dcnum'] = None; import sparsemed.dcnum"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    last = run.stderr.splitlines()[-1]
    assert last == f"ImportError: dcnum is not installed: {how_to_install('dcnum==0.31.*')}"
