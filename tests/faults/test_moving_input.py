"""A measurement that somebody changes while it is read."""

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from faults.refusing import can_refuse

import sparsemed
from sparsemed import BackgroundSparseMed
from sparsemed.frames.arrays import ArrayFrames
from sparsemed.rtdc.basins import file_record, store_record

pytestmark = pytest.mark.skipif(os.name == "nt", reason="open files cannot be changed there")

FRAMES = 1900  # several reads, so that there is something left after the first
STORED = {
    "chunks": {"chunks": (10, 96, 96), "fletcher32": True},
    "contiguous": {},
}


@pytest.fixture(params=STORED)
def path(request, tmp_path):
    path = tmp_path / "in.rtdc"
    write(path, 0, **STORED[request.param])
    return path


def write(path, seed, **options):
    images = np.random.default_rng(seed).integers(0, 256, (FRAMES, 96, 96), dtype=np.uint8)
    if "chunks" in options:
        options["maxshape"] = (None, 96, 96)
    with h5py.File(path, "w", libver="v110") as h5:
        h5["events/time"] = np.arange(FRAMES) / 10
        h5.create_dataset("events/image", data=images, **options)


@pytest.fixture(autouse=True)
def every_report(monkeypatch):
    monkeypatch.setattr("sparsemed.progress.PAUSE", 0)


def elsewhere(code, path):
    """Run code, in another program that ignores locks where HDF5 has a part in it."""
    if "opened" not in code:
        exec(code, {"os": os, "path": f"{path}"})
        return
    start = "import h5py, os, sys; path = sys.argv[1]\n"
    start += "def opened(): return h5py.File(path, 'r+', locking=False)\n"
    subprocess.run([sys.executable, "-c", start + code, f"{path}"], check=True)


CHANGES = {
    "truncated": "os.truncate(path, os.path.getsize(path) * 2 // 3)",
    "appended to": "with opened() as h5: h5['more'] = range(9)",
    "overwritten": "with opened() as h5: h5['events/image'][1500:] = 7",
    "bytes overwritten": "f = open(path, 'r+b'); f.seek(5_000_000); f.write(bytes(99)); f.close()",
    "removed": "os.remove(path)",
    "replaced": "os.replace(path + '.other', path)",
}


def run_while(path, change, output, changes=None):
    """Compute, and have another program change the measurement after the first frames.

    Or a file that the measurement leads to.
    """
    changed = []

    def act(fraction):
        if fraction and not changed:
            changed.append(fraction)
            elsewhere(change, changes or path)

    job = BackgroundSparseMed(path, output, kernel_size=20, num_cpus=1)
    with job:
        note = job._note_progress
        job._note_progress = lambda fraction: (note(fraction), act(fraction))
        job.process()
    return changed


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("in_place", [False, True])
def test_changes_are_noticed(path, tmp_path, change, in_place):
    if change == "replaced":
        write(path.with_name("in.rtdc.other"), 1)
    output = path if in_place else tmp_path / "out.rtdc"
    with pytest.raises(OSError, match="frames") as caught:
        run_while(path, CHANGES[change], output)
    assert f"{path}: " in str(caught.value)
    assert {entry.name for entry in tmp_path.iterdir()} <= {"in.rtdc", "in.rtdc.other"}
    if path.exists():
        with open(path, "rb") as file:
            assert b"image_bg" not in file.read()


def by_basin(h5, other):
    store_record(h5, file_record("b", None, [str(other)], None, None), {})


def by_link(h5, other):
    h5["events/image"] = h5py.ExternalLink(str(other), "/events/image")


def by_virtual_dataset(h5, other):
    layout = h5py.VirtualLayout((FRAMES, 96, 96), "u1")
    layout[:] = h5py.VirtualSource(str(other), "events/image", (FRAMES, 96, 96), "u1")
    h5["events"].create_virtual_dataset("image", layout)


def by_storage(h5, other):
    with h5py.File(other) as theirs:
        start = theirs["events/image"].id.get_offset()
    where = [(str(other), start, FRAMES * 96 * 96)]
    h5["events"].create_dataset("image", (FRAMES, 96, 96), "u1", external=where)


@pytest.mark.parametrize("way", [by_basin, by_link, by_virtual_dataset, by_storage])
@pytest.mark.parametrize("change", ["bytes overwritten", "replaced"])
def test_changes_of_the_file_with_the_images_are_noticed(tmp_path, way, change):
    raw, path = tmp_path / "raw.rtdc", tmp_path / "in.rtdc"
    write(raw, 0)
    if change == "replaced":
        write(raw.with_name("raw.rtdc.other"), 1)
    with h5py.File(path, "w") as h5:
        h5.create_group("events")
        way(h5, raw)
    before = path.read_bytes()
    for output in (tmp_path / "out.rtdc", path):
        with pytest.raises(OSError, match=f"{raw}: was changed, replaced or removed"):
            run_while(path, CHANGES[change], output, changes=raw)
        if change == "replaced":
            write(raw.with_name("raw.rtdc.other"), 1)
    assert path.read_bytes() == before
    assert not (tmp_path / "out.rtdc").exists()


@pytest.mark.parametrize("change", ["truncated", "overwritten", "removed"])
def test_backgrounds_of_arrays_and_paths(path, change):
    changed = []

    def act(fraction):
        if fraction and not changed:
            changed.append(fraction)
            elsewhere(CHANGES[change], path)

    with pytest.raises(OSError, match=f"{path}: .*frames"):
        sparsemed.compute_background(path, kernel_size=20, num_cpus=1, progress=act)


def test_a_dataset_whose_file_becomes_shorter(path):
    """HDF5 takes for zeros what is not there."""
    time = np.arange(FRAMES) / 10
    with h5py.File(path) as h5:
        images = h5["events/image"]

        def cut(fraction):
            if 0 < fraction < 0.5:
                os.truncate(path, os.path.getsize(path) * 2 // 3)

        with pytest.raises(OSError, match=r"frames: .*the file has become shorter"):
            sparsemed.compute_background(images, time, kernel_size=20, num_cpus=1, progress=cut)


@pytest.mark.parametrize("is_view", [False, True])
@pytest.mark.parametrize("is_all_read", [False, True])
def test_a_mapped_file_that_becomes_shorter(tmp_path, is_view, is_all_read):
    """Looking at frames that are gone would end the process: it is not done."""
    path = tmp_path / "frames.raw"
    np.ones((FRAMES, 96, 96), np.uint8).tofile(path)
    images = np.memmap(path, np.uint8, "r", shape=(FRAMES, 96, 96))
    if is_view:
        images = np.asarray(images)[5:]
    frames = ArrayFrames(images, "here")
    out = np.empty((10, 96, 96), np.uint8)
    last = "some frames may be wrong" if is_all_read else r"frames 1000 to 1009 cannot be read"
    refused = pytest.raises(OSError, match=f"here: {last}, the file has become shorter")
    with refused, frames.reading() as read:
        read(0, 10, out)
        os.truncate(path, 10_000)
        if not is_all_read:
            read(1000, 1010, out)


@pytest.mark.parametrize("is_view", [False, True])
def test_a_mapped_file_that_becomes_longer(tmp_path, is_view):
    """A camera may still write: the frames that were mapped stay what they are."""
    path = tmp_path / "frames.raw"
    expected = np.random.default_rng(0).integers(0, 256, (60, 9, 7), dtype=np.uint8)
    expected.tofile(path)
    images = np.memmap(path, np.uint8, "r", shape=expected.shape)
    frames = ArrayFrames(images[5:].view(np.ndarray) if is_view else images, "here")
    found = np.empty(frames.shape, np.uint8)
    with frames.reading() as read:
        read(0, 10, found[:10])
        with open(path, "ab") as file:
            file.write(b"more" * 99)
        read(10, len(found), found[10:])
    np.testing.assert_array_equal(found, expected[5:] if is_view else expected)


@pytest.mark.skipif(not can_refuse(), reason="the numbers of system calls are not known here")
def test_a_stale_file_handle(tmp_path):
    """What a file server answers when it has forgotten the file."""
    path = tmp_path / "in.rtdc"
    write(path, 0, **STORED["chunks"])
    code = """
import errno, sys
import sparsemed.progress
from faults.refusing import refuse

def forget(fraction):
    if fraction and not refused:
        refused.append(fraction)
        refuse("preadv", errno.ESTALE)
        refuse("preadv2", errno.ESTALE)

refused = []
sparsemed.progress.PAUSE = 0
try:
    sparsemed.compute_background(sys.argv[1], kernel_size=20, num_cpus=1, progress=forget)
except OSError as error:
    assert error.errno == errno.ESTALE
    print(error)
"""
    environment = {**os.environ, "PYTHONPATH": f"{Path(__file__).parents[1]}"}
    done = subprocess.run(
        [sys.executable, "-c", code, f"{path}"], capture_output=True, text=True, env=environment
    )
    assert done.stderr == ""
    assert f"{path}: events/image: frames " in done.stdout
    assert "cannot be read (Stale file handle)" in done.stdout


def test_the_working_folder_may_change(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = {"kernel_size": 20, "split_time": 50}
    expected = sparsemed.compute_background(path, **settings)
    found = sparsemed.compute_background("in.rtdc", progress=lambda _: os.chdir("/"), **settings)
    np.testing.assert_array_equal(found.images, expected.images)
