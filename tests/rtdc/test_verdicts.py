"""The verdict lies beside the background, is replaced with it, and never told of another."""

import shutil

import dclab
import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from dclab.rtdc_dataset import RTDCWriter

from sparsemed import BackgroundSparseMed, compute_background, compute_files, load
from sparsemed.cli import main
from sparsemed.demo import make_measurement
from sparsemed.quality import overall
from sparsemed.rtdc import verdicts
from sparsemed.rtdc.info import info
from sparsemed.rtdc.verdicts import COLUMNS, LOG, TABLE, VERDICT

SETTINGS = {"kernel_size": 9, "split_time": 0.1}


@pytest.fixture
def raw(tmp_path):
    make_measurement(tmp_path / "raw.rtdc", count=90)
    return tmp_path / "raw.rtdc"


def computed(raw, output=None, **settings):
    """Compute as the command line does, and return what became of it."""
    options = {"in_place": True} if output is None else {"output": output}
    (result,) = compute_files([raw], **options, **(SETTINGS | settings))
    assert result.error is None
    return result


def kept(path):
    """Return the names of what a file holds of a verdict."""
    with h5py.File(path) as h5:
        return [name for name in VERDICT if name in h5]


@pytest.mark.parametrize("name", ["out.rtdc", "raw.rtdc"])
def test_dclab_shows_it(raw, name):
    with RTDCWriter(raw, mode="append") as writer:
        writer.store_log("camera", ["of the measurement"])
        writer.store_table("pump", {"pressure": np.arange(3.0)})
    result = computed(raw, None if name == "raw.rtdc" else raw.with_name(name))
    with dclab.new_dataset(raw.with_name(name)) as data:
        assert data.logs["camera"] == ["of the measurement"]
        np.testing.assert_array_equal(data.tables["pump"]["pressure"].ravel(), np.arange(3.0))
        lines = data.logs["sparsemed-verdict"]
        table = data.tables["sparsemed-verdict"]
        assert lines[0] == f"verdict: {result.verdict}"
        said = "\n".join(lines[1:])
        assert all(str(finding) in said for finding in result.findings)
        assert table.keys() == COLUMNS
        assert [key.decode() for key in table["key"]] == [each.key for each in result.findings]
        np.testing.assert_array_equal(table["value"], [each.value for each in result.findings])
        data.export.hdf5(raw.with_name("export.rtdc"), ["image_bg"], logs=True, tables=True)
    with dclab.new_dataset(raw.with_name("export.rtdc")) as data:
        assert lines in [data.logs[name] for name in data.logs]


@pytest.mark.parametrize("in_place", [False, True])
def test_it_is_read_back_whole(raw, in_place):
    output = raw if in_place else raw.with_name("out.rtdc")
    first = computed(raw, None if in_place else output)
    again = computed(raw, None if in_place else output)
    assert (first.status, again.status) == ("done", "skipped")
    assert again.verdict == first.verdict == overall(first.findings)
    np.testing.assert_equal(again.findings, first.findings)  # where NaN equals NaN
    np.testing.assert_equal(load(output).findings, first.findings)


@pytest.mark.parametrize("in_place", [False, True])
def test_another_run_replaces_it(raw, in_place):
    output = raw if in_place else raw.with_name("out.rtdc")
    computed(raw, None if in_place else output)
    second = computed(raw, None if in_place else output, kernel_size=31)
    np.testing.assert_equal(load(output).findings, second.findings)
    with h5py.File(output) as h5:
        assert list(h5["logs"]).count("sparsemed-verdict") == 1
        assert "replaced by sparsemed" not in h5


def test_a_result_with_a_verdict_is_written_anew(raw):
    output = raw.with_name("out.rtdc")
    computed(raw, output)
    size = output.stat().st_size
    for kernel_size in (31, 9):
        computed(raw, output, kernel_size=kernel_size)
    assert output.stat().st_size == pytest.approx(size, abs=64)  # the time of writing may differ
    with h5py.File(output, "a") as h5:
        h5["logs/note"] = [b"of somebody"]
    computed(raw, output, kernel_size=31)
    with h5py.File(output) as h5:
        assert h5["logs/note"][0] == b"of somebody"


def test_saving_what_was_found(raw, tmp_path):
    background = compute_background(raw, **SETTINGS)
    background.save(tmp_path / "plain.rtdc")
    assert kept(tmp_path / "plain.rtdc") == []
    assert load(tmp_path / "plain.rtdc").findings == ()
    findings = background.quality(try_cures=False)
    background.save(tmp_path / "judged.rtdc", findings=findings)
    loaded = load(tmp_path / "judged.rtdc")
    np.testing.assert_equal(loaded.findings, findings)
    loaded.save(tmp_path / "copy.rtdc")
    np.testing.assert_equal(load(tmp_path / "copy.rtdc").findings, findings)
    loaded.save(tmp_path / "copy.rtdc", findings=())
    assert kept(tmp_path / "copy.rtdc") == []
    background.save(tmp_path / "judged.rtdc")
    assert kept(tmp_path / "judged.rtdc") == []


def test_of_an_array(tmp_path):
    frames = np.random.default_rng(0).integers(0, 255, (90, 24, 30), np.uint8)
    background = compute_background(frames, time=np.arange(90) / 90, **SETTINGS)
    findings = background.quality(frames, try_cures=False)
    for _ in range(2):
        background.save(tmp_path / "out.rtdc", findings=findings)
    with h5py.File(tmp_path / "out.rtdc") as h5:
        assert h5[LOG][0].decode() == f"verdict: {overall(findings)}"


@pytest.mark.parametrize("in_place", [False, True])
def test_the_class_writes_none_and_removes_that_on_another_background(raw, in_place):
    output = raw if in_place else raw.with_name("out.rtdc")
    computed(raw, None if in_place else output)
    assert kept(output) == list(VERDICT)
    with BackgroundSparseMed(raw, output, kernel_size=31) as job:
        job.process()
    assert kept(output) == []


def test_that_in_a_measurement_is_not_taken_over(raw):
    computed(raw)
    for way in ("class", "save"):
        output = raw.with_name(f"{way}.rtdc")
        if way == "class":
            with BackgroundSparseMed(raw, output, kernel_size=31) as job:
                job.process()
        else:
            compute_background(raw, kernel_size=31).save(output)
        assert kept(output) == []


def _other_ppid(h5):
    h5["basin_events/image_bg"].attrs["dcnum ppid background"] = "sparsemed:k=7^s=1^t=0^f=0.8^o=1"


def _no_table(h5):
    del h5[TABLE]
    h5[TABLE] = np.arange(5)


def _other_words(h5):
    table = h5[TABLE][()]
    table["verdict"] = b"splendid"
    h5[TABLE][...] = table


def _elsewhere(h5):
    del h5[TABLE]
    h5[TABLE] = h5py.ExternalLink("other.rtdc", TABLE)


@pytest.mark.parametrize("change", [_other_ppid, _no_table, _other_words, _elsewhere])
def test_what_is_not_its_verdict_is_not_told(raw, change):
    output = raw.with_name("out.rtdc")
    computed(raw, output)
    shutil.copy(output, raw.with_name("other.rtdc"))
    with h5py.File(output, "a") as h5:
        change(h5)
    assert load(output).findings == ()


def test_without_a_pipeline_identifier_it_may_be_of_any_background(raw):
    output = raw.with_name("out.rtdc")
    computed(raw, output)
    assert info(output).findings
    with h5py.File(output, "a") as h5:
        for name in ("basin_events/image_bg", TABLE):
            del h5[name].attrs["dcnum ppid background"]
    assert info(output).findings == ()


def test_a_table_of_any_length_is_none_of_ours(raw, monkeypatch):
    output = raw.with_name("out.rtdc")
    count = len(computed(raw, output).findings)
    for most, rows in ((count, count), (count - 1, 0)):
        monkeypatch.setattr(verdicts, "MOST_ROWS", most)
        assert len(load(output).findings) == rows


def test_logs_that_lead_elsewhere_are_not_written_to(raw):
    with h5py.File(raw.with_name("other.h5"), "w") as h5:
        h5.create_group("logs")
    before = raw.with_name("other.h5").read_bytes()
    with h5py.File(raw, "a") as h5:
        if "logs" in h5:
            del h5["logs"]
        h5["logs"] = h5py.ExternalLink("other.h5", "logs")
    result = computed(raw)
    assert any("no verdict is stored" in text for text in result.warnings)
    assert raw.with_name("other.h5").read_bytes() == before
    np.testing.assert_equal(load(raw).findings, result.findings)


def test_the_summary_of_another_folder_has_it(raw, tmp_path):
    line = ["compute", str(raw), "-k", "kernel_size=9", "-k", "split_time=0.1", "--summary"]
    rows = []
    for name in ("first", "second"):
        assert CliRunner().invoke(main, [*line, str(tmp_path / name)]).exit_code == 0
        rows.append((tmp_path / name / "summary.csv").read_text("utf-8-sig").splitlines())
    head, first = (row.split(",") for row in rows[0][:2])
    second = rows[1][1].split(",")
    assert rows[1][0].split(",") == head
    assert (first[0], second[0]) == ("done", "skipped")
    assert first[1] == second[1] != ""
    numbers = head.index("warnings") + 1
    for one, other in zip(first[numbers - len(head) :], second[numbers - len(head) :], strict=True):
        assert one == other or float(one) == float(other)  # 10 is read as 10.0
