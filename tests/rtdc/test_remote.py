"""Measurements in a network: the same bits as of files, few requests, and wrong bytes never."""

import gc
import io
import json
import mmap
import multiprocessing
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from dcnum.write import create_with_basins
from frames.test_chunks import FILTERS
from parity.cases import make_images
from patience import PATIENCE

import sparsemed
from benchmarks.remote import data_begins, rounds_before
from benchmarks.serving import serving
from sparsemed.cli import main
from sparsemed.frames.chunks import ChunkFrames
from sparsemed.frames.source import Batch
from sparsemed.inputs import open_again
from sparsemed.quality.excerpt import take_excerpt
from sparsemed.quality.sample import take_sample
from sparsemed.rtdc.basins import read_basins, store_record
from sparsemed.rtdc.frames import measurement_frames
from sparsemed.rtdc.info import info
from sparsemed.rtdc.measurement import Measurement
from sparsemed.storage import connections, remote


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(remote, "PAUSES", (0.01, 0.01, 0.01, 0.01))
    with serving() as server:
        yield server


def write(path, images, *, rate=1000.0, libver="latest", **options):
    """Write a measurement."""
    with h5py.File(path, "w", libver=libver) as h5:
        h5.attrs["experiment:run identifier"] = "one"
        h5.attrs["imaging:frame rate"] = rate
        h5["events/frame"] = np.arange(len(images)) + 5
        h5["events/time"] = np.arange(len(images)) / rate
        h5.create_dataset("events/image", data=images, **options)
    return path.read_bytes()


SETTINGS = {"kernel_size": 20, "split_time": 0.02}


def same(one, other):
    return (
        np.array_equal(one.images, other.images)
        and np.array_equal(one.series, other.series)
        and np.array_equal(one.frame_index, other.frame_index)
        and np.array_equal(one.offsets, other.offsets)
        and np.array_equal(one.time, other.time)
    )


LAYOUTS = {
    **{name: {"chunks": (7, 40, 30), **filters} for name, filters in FILTERS.items()},
    "tiled": {"chunks": (5, 19, 16), "compression": "gzip"},
    "growing": {"chunks": (3, 40, 30), "maxshape": (None, 40, 30), "compression": "lzf"},
    "in one piece": {},
    "only HDF5 knows": {"chunks": (7, 40, 30), "scaleoffset": 0},
}


@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_the_bits_are_those_of_the_file(server, tmp_path, layout, libver):
    for seed, dtype in enumerate(("u1", ">u2")):
        images = make_images(np.random.default_rng(seed), (150, 40, 30)).astype(dtype)
        path = tmp_path / f"{seed}.rtdc"
        server.put("/M 1.rtdc", write(path, images, libver=libver, **layout))
        found = sparsemed.compute_background(server.url("/M 1.rtdc"), **SETTINGS)
        assert same(found, sparsemed.compute_background(path, **SETTINGS))


@pytest.mark.parametrize("layout", [*FILTERS, "tiled", "in one piece", "only HDF5 knows"])
def test_the_bits_are_those_of_the_file_in_a_store_too(object_store, tmp_path, monkeypatch, layout):
    import boto3

    for name, value in object_store.items():
        monkeypatch.setenv(name, value)
    images = make_images(np.random.default_rng(3), (150, 40, 30))
    content = write(tmp_path / "a.rtdc", images, **LAYOUTS[layout])
    client = boto3.client("s3", endpoint_url=object_store["AWS_ENDPOINT_URL"])
    client.put_object(Bucket="cells", Key=f"day 1/{layout}.rtdc", Body=content)
    client.close()
    found = sparsemed.compute_background(f"s3://cells/day 1/{layout}.rtdc", **SETTINGS)
    assert same(found, sparsemed.compute_background(tmp_path / "a.rtdc", **SETTINGS))
    found.save(tmp_path / "bg.rtdc")
    (record,) = records(tmp_path / "bg.rtdc")
    assert record["format"] == "s3"
    assert record["urls"][0].startswith(f"{object_store['AWS_ENDPOINT_URL']}/cells/day%201/")


def test_the_fast_path_reads_it(server, tmp_path):
    images = make_images(np.random.default_rng(0), (150, 40, 30))
    server.put("/M001.rtdc", write(tmp_path / "a.rtdc", images, chunks=(7, 40, 30)))
    with Measurement(server.url("/M001.rtdc")) as measurement:
        assert isinstance(measurement_frames(measurement, 2), ChunkFrames)
        assert str(measurement.path) == server.url("/M001.rtdc")


def grainy(count, height=80, width=100):
    return np.random.default_rng(1).integers(0, 255, (count, height, width), np.uint8)


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_few_requests_wait_for_each_other(server, tmp_path, libver):
    """Each takes a while, and those that are made together count once."""
    path = tmp_path / "a.rtdc"
    options = {"chunks": (1, 80, 100), "maxshape": (None, 80, 100), "compression": "lzf"}
    served = server.put("/M001.rtdc", write(path, grainy(2000), libver=libver, **options))
    server.delay = 0.1
    sparsemed.compute_background(server.url("/M001.rtdc"))
    done = [(each.came, each.went, each.begin, each.stop) for each in served.requests]
    first = max(data_begins(path), 2**20)
    assert rounds_before(done, first) <= 5


def test_without_offsets_little_is_read(server, tmp_path):
    path = tmp_path / "a.rtdc"
    content = write(path, grainy(6000), chunks=(40, 80, 100), compression="lzf")
    served = server.put("/M001.rtdc", content)
    sparsemed.compute_background(
        server.url("/M001.rtdc"), kernel_size=200, split_time=1, offset_correction=False
    )
    assert served.received < 0.3 * len(content)


@pytest.mark.parametrize("change", ["etag", "size", "cut", "forbidden"])
def test_what_changes_in_the_middle_is_an_error(server, tmp_path, change):
    content = write(tmp_path / "a.rtdc", grainy(3000), chunks=(40, 80, 100))

    def fault(request):
        if request.begin > len(content) // 2:
            if change == "etag":
                served.etag = '"two"'
            elif change == "size":
                served.data = content + b"more"
            elif change == "forbidden":
                request.send(403, {})
                return True
            else:
                request.send(206, {**request.about, "Content-Length": "99999"}, b"9")
                request.hang_up()
                return True
        return False

    served = server.put("/M001.rtdc", content, fault=fault)
    with pytest.raises(OSError, match=r"M001.rtdc") as caught:
        sparsemed.compute_background(server.url("/M001.rtdc"))
    told = {"etag": "was changed", "size": "was changed", "forbidden": "link has expired"}
    assert told.get(change, "announces") in str(caught.value)


def test_a_server_that_tells_no_version_is_warned_of(server, tmp_path):
    content = write(tmp_path / "a.rtdc", grainy(50), chunks=(40, 80, 100))
    server.put("/M001.rtdc", content, etag=None, modified=None)
    with pytest.warns(sparsemed.BackgroundWarning, match="go unnoticed"):
        sparsemed.compute_background(server.url("/M001.rtdc"), kernel_size=5)


def test_what_is_no_hdf5_is_told(server):
    server.put("/M001.rtdc", b"<html>Please log in</html>" * 1000)
    with pytest.raises(OSError, match=r"M001.rtdc: cannot be read as an HDF5 file"):
        sparsemed.compute_background(server.url("/M001.rtdc?sig=secret"))


COMPUTING = """
import sys
from sparsemed.cli import main
from sparsemed.storage import connections

connections.SILENCE_SECONDS = connections.CONNECT_SECONDS = 600.0
main(["compute", sys.argv[1], "-q"])
"""

SERVICE = "/api/3/action/dcserv"
IDENTIFIER = "b1404eb5-f661-4920-be79-5ff4e85915d5"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("waits_for", "answered", "under_way", "layout"),
    [
        ("an answer", 1, 1, {}),  # to HDF5, which reads an index
        ("an answer", 8, 16, {}),
        ("an answer", 10, 1, LAYOUTS["only HDF5 knows"]),  # in another thread
        ("a greeting", 10, 1, LAYOUTS["only HDF5 knows"]),
        ("DCOR", 10, 1, LAYOUTS["only HDF5 knows"]),
    ],
)
def test_ctrl_c_ends_what_is_under_way(server, tmp_path, waits_for, answered, under_way, layout):
    """Be it 16 requests, and be they answered after ten minutes."""
    options = {**layout, "chunks": (40, 80, 100)}
    content = write(tmp_path / "a.rtdc", grainy(9000), **options)
    is_silent = threading.Event()
    silent = socket.create_server(("127.0.0.1", 0))

    def hang(request):
        request.hang_up()  # the next one needs another connection
        if len(served.requests) <= answered:
            return False
        if waits_for == "DCOR":
            request.send(403, {})
        elif waits_for == "a greeting":
            request.send(302, {"Location": f"https://127.0.0.1:{silent.getsockname()[1]}/"})
            is_silent.set()
        else:
            if len(served.requests) >= answered + under_way:
                is_silent.set()
            server.is_over.wait(600)
        return True

    def dcor(page):
        if len(served.requests) > answered:
            is_silent.set()
            server.is_over.wait(600)
        link = {"name": "resource-1", "urls": [server.url("/M001.rtdc?signature=1")]}
        page.send(200, {}, json.dumps({"success": True, "result": [link]}).encode())

    served = server.put("/M001.rtdc", content, fault=hang)
    server.pages[SERVICE] = dcor
    address = server.url(f"{SERVICE}?id={IDENTIFIER}" if waits_for == "DCOR" else "/M001.rtdc")
    command = [sys.executable, "-c", COMPUTING, address]
    with (
        silent,
        subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process,
    ):
        try:
            assert is_silent.wait(PATIENCE)
            time.sleep(0.2)
            began = time.monotonic()
            process.send_signal(signal.SIGINT)
            _, error = process.communicate(timeout=PATIENCE / 10)
            print(f"from signal to end: {time.monotonic() - began:.2f} s")
        finally:
            process.kill()
    assert (process.returncode, error) == (130, "Interrupted: no file is half written\n")


@pytest.mark.slow
def test_garbage_of_h5py_can_be_collected_while_hdf5_reads(server, tmp_path):
    """Its collection waits for HDF5's lock, which is held by who reads."""
    content = write(tmp_path / "a.rtdc", grainy(500), chunks=(10, 80, 100), compression="gzip")
    served = server.put("/M001.rtdc", content)
    is_over = threading.Event()

    def litter():
        while not is_over.is_set():
            h5 = h5py.File(io.BytesIO(), "w")
            circle = [h5.create_group("a")]
            circle.append(circle)
            del circle, h5
            gc.collect()

    threads = [threading.Thread(target=litter, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    server.delay = 0.002
    done = []

    def compute():
        for _ in range(3):
            done.append(sparsemed.compute_background(server.url("/M001.rtdc"), **SETTINGS))

    worker = threading.Thread(target=compute, daemon=True)
    worker.start()
    worker.join(60)
    is_over.set()
    for thread in threads:
        thread.join(10)
    assert not worker.is_alive()
    assert len(done) == 3
    assert len(served.requests) > 6


@pytest.mark.slow
def test_no_more_is_held_than_for_files(server, tmp_path):
    """Ahead are 64 MiB at most."""
    content = write(tmp_path / "a.rtdc", grainy(30_000), chunks=(40, 80, 100))
    server.put("/M001.rtdc", content)
    assert len(content) > 200 * 2**20
    del content
    tracemalloc.start()
    try:
        with Measurement(server.url("/M001.rtdc")) as measurement:
            frames = measurement_frames(measurement, 2)
            batches = [(a, min(a + frames.batch, 30_000)) for a in range(0, 30_000, frames.batch)]
            with frames.reading([Batch(a, b, 80) for a, b in batches]) as read:
                out = np.empty((frames.batch, 80, 100), np.uint8)
                for a, b in batches:
                    read(a, b, out[: b - a])
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 100 * 2**20


MEASURING = """
import sys, sparsemed
from pathlib import Path

sparsemed.compute_background(sys.argv[1])
print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
"""


def write_sparse(path, count):
    """Write a measurement whose frames take no room, as all of their bytes are zero."""
    create = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    create.set_chunk((40, 80, 400))
    create.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    create.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    with h5py.File(path, "w", libver="latest") as h5:
        h5["events/time"] = np.arange(count) / 1000
        space = h5py.h5s.create_simple((count, 80, 400))
        h5py.h5d.create(h5["events"].id, b"image", h5py.h5t.STD_U8LE, space, create)


@pytest.mark.soak
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells the peak of memory")
def test_ten_gigabytes_take_as_little_memory_as_those_of_a_file(server, tmp_path):
    path = tmp_path / "a.rtdc"
    write_sparse(path, 312_500)
    assert path.stat().st_size > 10**10
    peaks = {}
    with (
        open(path, "rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        server.put("/M001.rtdc", content)
        for source in (path, server.url("/M001.rtdc")):
            command = [sys.executable, "-W", "ignore", "-c", MEASURING, source]
            run = subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE)
            peaks[source] = int(run.stdout) / 1024
    near, far = peaks.values()
    print(f"peaks of memory: {near:.0f} MiB of the file, {far:.0f} MiB of the server")
    assert far < near + 160  # 64 MiB ahead, and an index of at most 64 MiB


# Results, and what they refer to


def computed(server, tmp_path, name="/M001.rtdc", **served):
    """Compute the background of a measurement on the server, and of the same as a file."""
    images = make_images(np.random.default_rng(0), (150, 40, 30))
    path = tmp_path / "local.rtdc"
    server.put(name, write(path, images, chunks=(7, 40, 30)), **served)
    return sparsemed.compute_background(server.url(name), **SETTINGS), path


def records(path):
    with h5py.File(path) as h5:
        return [basin.record for basin in read_basins(h5) if not basin.is_internal]


def test_dclab_opens_images_and_background_together(server, tmp_path, monkeypatch):
    dclab = pytest.importorskip("dclab")
    found, path = computed(server, tmp_path, name="/raw data/M1.rtdc")
    output = tmp_path / "M1_bg.rtdc"
    found.save(output)
    (record,) = records(output)
    assert record == {
        "type": "remote",
        "format": "http",
        "urls": [server.url("/raw%20data/M1.rtdc")],
        "features": ["frame", "image", "time"],
        "identifier": "one",
        "mapping": "same",
        "perishable": False,
        "name": "M1.rtdc",
        "description": f"Created by sparsemed {sparsemed.__version__}",
    }
    # dclab asks for all of it to learn its length, and leaves that unread
    monkeypatch.setattr(dclab.http_utils, "ETagNotInResponseHeaderWarning", UserWarning)
    with warnings.catch_warnings(), dclab.new_dataset(output) as dataset, h5py.File(path) as h5:
        warnings.simplefilter("ignore")
        for number in (0, 77, 149):
            np.testing.assert_array_equal(dataset["image"][number], h5["events/image"][number])
            np.testing.assert_array_equal(dataset["image_bg"][number], found[number])


def test_a_result_is_loaded_with_the_frames_of_the_network(server, tmp_path):
    found, _ = computed(server, tmp_path)
    found.save(tmp_path / "bg.rtdc")
    again = sparsemed.load(tmp_path / "bg.rtdc", basins="network")
    np.testing.assert_array_equal(again.images, found.images)
    np.testing.assert_array_equal(again.time, found.time)
    np.testing.assert_array_equal(take_sample(again).frames, take_sample(found).frames)
    found.report(tmp_path / "report.html")
    assert server.url("/M001.rtdc") in (tmp_path / "report.html").read_text("utf-8")


def part_to_try_settings_on(background):
    with open_again(background) as given:
        return take_excerpt(given, background.time, 1000)


@pytest.mark.parametrize("block", [10, 100])
def test_frames_for_a_page_come_together(server, tmp_path, block):
    """Each block once, and in few rounds."""
    images = grainy(2000)
    content = write(tmp_path / "a.rtdc", images, chunks=(block, 80, 100), compression="lzf")
    served = server.put("/M001.rtdc", content)
    background = sparsemed.compute_background(server.url("/M001.rtdc"))
    server.delay = 0.1
    for read in (take_sample, part_to_try_settings_on):
        served.requests.clear()
        found = read(background)
        if read is take_sample:
            np.testing.assert_array_equal(found.frames, images[found.numbers])
        rounds, until = 0, 0.0
        for each in sorted(served.requests, key=lambda each: each.went):
            if each.came >= until:
                rounds, until = rounds + 1, each.went
        assert rounds < 16
        assert served.received < 1.2 * len(content) + 10**6


def test_no_secret_gets_into_a_result(server, tmp_path, caplog):
    images = make_images(np.random.default_rng(0), (150, 40, 30))
    server.put("/M001.rtdc", write(tmp_path / "a.rtdc", images, chunks=(7, 40, 30)))
    address = server.url("/M001.rtdc?X-Amz-Signature=s3cr3t").replace("//", "//me:passw0rd@")
    with caplog.at_level("DEBUG"):
        found = sparsemed.compute_background(address, **SETTINGS)
        with pytest.warns(sparsemed.BackgroundWarning, match="put a copy .* as M001.rtdc"):
            found.save(tmp_path / "bg.rtdc")
        found.report(tmp_path / "page.html")
    told = (tmp_path / "bg.rtdc").read_bytes() + (tmp_path / "page.html").read_bytes()
    told += f"{found!r} {found.source} {found.warnings} {caplog.text}".encode()
    assert b"s3cr3t" not in told
    assert b"passw0rd" not in told
    (record,) = records(tmp_path / "bg.rtdc")
    assert record["paths"] == ["M001.rtdc"]
    shutil.copy(tmp_path / "a.rtdc", tmp_path / "M001.rtdc")
    np.testing.assert_array_equal(sparsemed.load(tmp_path / "bg.rtdc").time, found.time)


def test_a_result_of_another_measurement_is_refused(server, tmp_path):
    found, _ = computed(server, tmp_path)
    found.save(tmp_path / "bg.rtdc")
    found.save(tmp_path / "bg.rtdc")
    images = make_images(np.random.default_rng(1), (150, 40, 30))
    content = write(tmp_path / "b.rtdc", images, chunks=(7, 40, 30))
    with h5py.File(tmp_path / "b.rtdc", "a") as h5:
        h5.attrs["experiment:run identifier"] = "two"
    content = (tmp_path / "b.rtdc").read_bytes()
    server.put("/M002.rtdc", content)
    other = sparsemed.compute_background(server.url("/M002.rtdc"), **SETTINGS)
    with pytest.raises(ValueError, match="belongs to"):
        other.save(tmp_path / "bg.rtdc")


# Many measurements


def test_addresses_are_computed_into_the_working_folder(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in range(3):
        images = make_images(np.random.default_rng(number), (150, 40, 30))
        content = write(tmp_path / "a.rtdc", images, chunks=(7, 40, 30))
        server.put(f"/raw/M {number}.rtdc", content)
    addresses = [server.url(f"/raw/M {number}.rtdc?x={number}") for number in range(3)]
    run = lambda **more: list(sparsemed.compute_files(addresses, **more, **SETTINGS))  # noqa: E731
    assert [each.status for each in run()] == ["done"] * 3
    assert sorted(path.name for path in tmp_path.glob("*_bg.rtdc")) == [
        f"M {number}_bg.rtdc" for number in range(3)
    ]
    served = server.objects["/raw/M 1.rtdc"]
    served.requests.clear()
    assert [each.status for each in run()] == ["skipped"] * 3
    assert served.received < len(served.data) / 2 + 10**6
    served.etag = '"two"'
    assert [each.status for each in run()] == ["skipped", "done", "skipped"]
    assert [each.status for each in run(redo=True, output=tmp_path / "other")] == ["done"] * 3
    assert (tmp_path / "other" / "M 2_bg.rtdc").exists()
    with pytest.raises(ValueError, match="cannot be changed"):
        run(in_place=True)


def test_progress_goes_by_the_size_of_objects(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sparsemed.progress.PAUSE", 0)
    sizes = []
    for name, count in (("a", 50), ("b", 350)):
        content = write(tmp_path / "file", grainy(count), chunks=(10, 80, 100))
        server.put(f"/{name}.rtdc", content)
        sizes.append(len(content))
    told, ended = [], []
    addresses = [server.url(f"/{name}.rtdc") for name in "ab"]
    for _ in sparsemed.compute_files(addresses, progress=told.append, kernel_size=7):
        ended.append(told[-1])
    assert ended[0] == pytest.approx(sizes[0] / sum(sizes))


@pytest.mark.slow
def test_addresses_are_computed_on_a_cluster(server, tmp_path, monkeypatch):
    """By workers of one's own; what is done stays, parts are told by sizes."""
    distributed = pytest.importorskip("distributed")
    monkeypatch.chdir(tmp_path)
    addresses = []
    for number in range(4):
        images = make_images(np.random.default_rng(number), (100 + 50 * number, 40, 30))
        content = write(tmp_path / f"{number}.rtdc", images, chunks=(7, 40, 30))
        server.put(f"/raw/M{number}.rtdc", content)
        addresses.append(server.url(f"/raw/M{number}.rtdc?signature=s3cr3t{number}"))
    settings = [word for name, value in SETTINGS.items() for word in ("-k", f"{name}={value}")]

    def statuses(*more):
        command = ["compute", *addresses, *more, "--json", "--num-cpus", "2", *settings]
        run = CliRunner().invoke(main, command)
        assert "s3cr3t" not in run.output
        rows = [json.loads(line) for line in run.stdout.splitlines()]
        return {row["input"].rpartition("/")[2][:2]: row["status"] for row in rows}

    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
    ) as cluster:
        dask = ("--dask", cluster.scheduler_address)
        parts = [statuses(*dask, "--shard", f"{part}/2", "-o", "parts") for part in (1, 2)]
        assert parts[0] | parts[1] == dict.fromkeys(("M0", "M1", "M2", "M3"), "done")
        assert not parts[0].keys() & parts[1].keys()
        assert statuses("--dask", "local", "--summary", "night", "-o", "parts") == dict.fromkeys(
            ("M0", "M1", "M2", "M3"), "skipped"
        )
        server.objects["/raw/M1.rtdc"].etag = '"two"'
        server.objects["/raw/M2.rtdc"].data += b"more"
        again = statuses(*dask, "--summary", "night", "-o", "parts")
        assert again == {"M0": "skipped", "M1": "done", "M2": "done", "M3": "skipped"}
        assert statuses(*dask, "--redo", "-o", "parts") == dict.fromkeys(again, "done")
        (alone,) = sparsemed.compute_files(
            addresses[3], "alone.rtdc", executor=cluster.get_client(), **SETTINGS
        )
        assert alone.status == "done"
    summary = (tmp_path / "night" / "summary.json").read_text("utf-8")
    assert "s3cr3t" not in summary + (tmp_path / "night" / "index.html").read_text("utf-8")
    rows = json.loads(summary)["measurements"]
    assert sorted(row["status"] for row in rows) == ["done", "done", "skipped", "skipped"]
    for number in range(4):
        local = sparsemed.compute_background(tmp_path / f"{number}.rtdc", **SETTINGS)
        for result in ("alone.rtdc",) * (number == 3) + (f"parts/M{number}_bg.rtdc",):
            with h5py.File(tmp_path / result) as h5:
                np.testing.assert_array_equal(h5["basin_events/image_bg"], local.images)
                np.testing.assert_array_equal(h5["events/bg_off"], local.offsets)


def test_the_class_of_dcnum_takes_an_address(server, tmp_path):
    found, path = computed(server, tmp_path)
    outputs = [tmp_path / "far.rtdc", tmp_path / "near.rtdc"]
    for source, output in zip((server.url("/M001.rtdc"), path), outputs, strict=True):
        with sparsemed.BackgroundSparseMed(source, output, **SETTINGS) as job:
            job.process()
    with h5py.File(outputs[0]) as far, h5py.File(outputs[1]) as near:
        for name in ("basin_events/image_bg", "events/bg_off", "events/basinmap0"):
            np.testing.assert_array_equal(far[name], near[name])
    assert same(sparsemed.load(outputs[0], basins="network"), sparsemed.load(outputs[1]))
    np.testing.assert_array_equal(sparsemed.load(outputs[0], basins="network").time, found.time)


def test_the_command_line_takes_addresses(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = write(tmp_path / "a.rtdc", grainy(300), chunks=(7, 80, 100))
    server.put("/M001.rtdc", content)
    address = server.url("/M001.rtdc?sig=s3cr3t")
    shown = server.url("/M001.rtdc")
    run = CliRunner().invoke(main, ["info", address])
    assert run.exit_code == 0, run.output
    assert shown in run.output
    command = ["compute", address, "--summary", "night", "--json", "-k", "kernel_size=20"]
    run = CliRunner().invoke(main, command)
    assert run.exit_code == 0, run.output
    assert json.loads(run.stdout)["input"] == shown
    assert "s3cr3t" not in run.output + (tmp_path / "night" / "summary.json").read_text("utf-8")
    assert (tmp_path / "M001_bg.rtdc").exists()
    run = CliRunner().invoke(main, ["report", address])
    assert run.exit_code == 0, run.output
    page = (tmp_path / "M001_report.html").read_text("utf-8")
    assert "s3cr3t" not in page + run.output
    run = CliRunner().invoke(main, ["compute", server.url("/none.rtdc?sig=s3cr3t")])
    assert run.exit_code == 1
    assert "no such file on the server" in run.output
    assert "s3cr3t" not in run.output
    run = CliRunner().invoke(main, ["compute", "a.rtdc", "-o", address])
    assert run.exit_code == 2
    assert "name a file on this machine" in run.output


@pytest.mark.slow
def test_parts_are_computed_elsewhere(server, tmp_path):
    found, _ = computed(server, tmp_path)
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as executor:
        apart = sparsemed.compute_background(
            server.url("/M001.rtdc"), executor=executor, ranges=3, **SETTINGS
        )
    assert same(found, apart)


# Files that lead to the network


def referring(tmp_path, url, format_="http", name="referring.rtdc"):
    """Write a file whose images are in a network."""
    path = tmp_path / name
    record = {
        "type": "remote", "format": format_, "urls": [url], "name": "raw", "description": "",
        "features": ["image"], "mapping": "same", "identifier": "one",
    }  # fmt: skip
    with h5py.File(path, "w") as h5:
        h5.attrs["experiment:run identifier"] = "one"
        h5["events/time"] = np.arange(150) / 1000
        store_record(h5, record, {})
    return path


def test_nothing_is_asked_for_unless_that_is_wanted(server, tmp_path):
    _, path = computed(server, tmp_path)
    served = server.objects["/M001.rtdc"]
    served.requests.clear()
    file = referring(tmp_path, server.url("/M001.rtdc"))
    for basins in ("any", "same-folder", "off"):
        with pytest.raises(ValueError, match="is not followed"):
            sparsemed.compute_background(file, basins=basins)
        assert info(file, basins).basins[0].problem
    assert not served.requests
    assert info(file, "network").basins[0].problem is None
    found = sparsemed.compute_background(file, basins="network", **SETTINGS)
    np.testing.assert_array_equal(
        found.images, sparsemed.compute_background(path, **SETTINGS).images
    )


def test_a_public_file_does_not_lead_into_this_network(server, tmp_path, monkeypatch):
    """Be it by a basin in a network, or by one on the disk."""
    _, path = computed(server, tmp_path)
    with serving() as other:
        # the one port counts as public, the other as what it is
        is_here = lambda url, _: url.port == server.port  # noqa: E731
        monkeypatch.setattr(connections, "leads_to_public", is_here)
        server.put("/public.rtdc", referring(tmp_path, other.url("/M001.rtdc")).read_bytes())
        served = other.put("/M001.rtdc", path.read_bytes())
        with pytest.raises(OSError, match="not followed"):
            sparsemed.compute_background(server.url("/public.rtdc"), basins="network")
        assert not served.requests
    file = tmp_path / "file.rtdc"
    create_with_basins(file, [path])
    server.put("/file.rtdc", file.read_bytes())
    with pytest.raises(ValueError, match="on this machine, and is not followed"):
        sparsemed.compute_background(server.url("/file.rtdc"), basins="network")
    with h5py.File(file, "a") as h5:
        del h5["basins"]
        h5["events/image"] = h5py.ExternalLink(str(path), "events/image")
    server.put("/link.rtdc", file.read_bytes())
    with pytest.raises(ValueError, match="on this machine, and is not followed"):
        sparsemed.compute_background(server.url("/link.rtdc"), basins="network")


def test_services_of_the_machine_are_never_asked(tmp_path):
    file = referring(tmp_path, "http://169.254.169.254/latest")
    with pytest.raises(OSError, match=r"169.254.169.254, which is not followed"):
        sparsemed.compute_background(file, basins="network")


def test_keys_go_to_ones_own_store_alone(server, tmp_path, monkeypatch):
    _, path = computed(server, tmp_path, name="/cells/M001.rtdc")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    file = referring(tmp_path, server.url("/cells/M001.rtdc"), "s3")
    for endpoint, is_signed in ((server.url("/"), True), ("http://127.0.0.1:9/", False)):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        served = server.put("/cells/M001.rtdc", path.read_bytes())
        sparsemed.compute_background(file, basins="network", **SETTINGS)
        assert any("X-Amz-Signature" in each.query for each in served.requests) is is_signed


def test_basins_that_lead_in_a_circle_end(server, tmp_path):
    url = server.url("/a.rtdc")
    server.put("/a.rtdc", referring(tmp_path, url).read_bytes())
    with pytest.raises(ValueError, match="leads back to"):
        sparsemed.compute_background(url, basins="network")
