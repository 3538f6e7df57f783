"""What the benchmarks are made of. Nothing here is timed."""

import itertools
import json
import os
import platform
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="the benchmarks need matplotlib")
pytest.importorskip("psutil", reason="the benchmarks need psutil")

import click

import sparsemed
from benchmarks import (
    chipstream,
    commit,
    decode_floor,
    end_to_end,
    kernel,
    layouts,
    live,
    many,
    remote,
    scaling,
    stacks,
    verdict,
)
from benchmarks.__main__ import RESULTS, machine_name, processor
from benchmarks.figure import draw
from benchmarks.growth import slope
from benchmarks.measurements import NotAvailableError, generate_measurement
from benchmarks.pages import BLOCKS, marks, write_block, write_blocks
from benchmarks.tables import (
    chipstream_table,
    cores_table,
    live_table,
    remote_table,
    stacks_table,
    table,
    verdict_table,
)
from sparsemed.frames.arrays import ArrayFrames
from sparsemed.hdf5.commit import changed_file
from sparsemed.method.ranges import range_count

ROOT = Path(__file__).parent.parent

BEGIN, END = marks(BLOCKS[0].title)


def contender(seconds, peak=2**20):
    return {
        "seconds": seconds,
        "seconds_inside": [each / 2 for each in seconds],
        "peak_bytes": peak,
        "peak_bytes_with_workers": 3 * peak,
    }


def points(counts, seconds):
    return [
        {"count": count, "seconds": [each], "peak_bytes": 2**20}
        for count, each in zip(counts, seconds, strict=True)
    ]


@pytest.fixture
def results():
    """Return small results of all parts."""
    # The ratios of the rounds are 4, 4 and 2; that of the medians is 3.
    measurement = {
        "frames": 20_000,
        "rate": 1000,
        "compression": "zstd",
        "contenders": {
            "dcnum": contender([4.0, 8.0, 6.0], 100 * 2**20),
            "sparsemed": contender([1.0, 2.0, 3.0], 50 * 2**20),
            "decode floor": contender([0.5, 1.0, 1.0]),
        },
        "warm": {
            "dcnum": [3.0, 7.0, 5.0],
            "sparsemed": [0.5, 1.0, 2.0],
            "decode floor": [0.4, 0.5, 0.5],
        },
    }
    return {
        "machine": "small",
        "cores": 2,
        "processor": {"name": "Some Processor", "instructions": "AVX2"},
        "versions": {"dcnum": "0.31.0", "chipstream": "0.11.0"},
        "end-to-end": {
            "start-up": {
                "import": [0.01],
                "first result": [0.5],
                "first result, compiling": [5.0],
                "of several, compiling": [9.0],
            },
            "measurements": [measurement, measurement | {"compression": "gzip"}],
        },
        "layouts": [
            {
                "title": "in one piece",
                "frames": 20_000,
                "compression": "no filter",
                "warm": measurement["warm"],
            }
        ],
        "kernel": {
            "window": {
                kernel.COPY: [2e-4, 4e-4],
                "np.partition": [0.05, 0.07],
                "sparsemed, 1 thread": [1e-3, 1e-3],
                "torch.kthvalue": [0.2, 0.2],
            },
            "window of 16 bits": {
                kernel.COPY: [4e-4, 4e-4],
                "np.partition": [0.008, 0.008],
                "sparsemed, 1 thread": [0.01, 0.01],
            },
            "avx512": False,
            "overlaps": [
                {"overlap": 0, "threads": 2, "seconds": [6e-4]},
                {"overlap": 0.975, "threads": 2, "seconds": [1e-4]},
            ],
        },
        "growth": {
            "frames_of_windows_and_cores": 20_000,
            "frames": points([1000, 10_000], [0.3, 1.2]),
            "windows": points([20, 400], [1.0, 1.5]),
            "cores": points([1, 2], [2.0, 1.0]),
            "seconds_of_few_frames": [0.2],
            "slope": 1.0,
        },
        "pinned": {
            "frames": 20_000,
            "rate": 1000,
            "counts": [1, 2],
            "seconds": {
                "dcnum": [[4.0], [4.0]],
                "sparsemed": [[2.0], [1.0]],
                "decode floor": [[1.5], [1.0]],
            },
        },
        "verdict": [
            {
                "title": "20,000 frames at 1000/s in a file",
                "background": {"seconds": [0.4, 0.4, 0.8], "core_seconds": [0.8, 0.8, 1.6]},
                "verdict": {"seconds": [0.04, 0.02, 0.16], "core_seconds": [0.04, 0.02, 0.16]},
            }
        ],
        "remote": {
            "frames": 8000,
            "dclab_frames": 320,
            "size": 150_000_000,
            "cases": [
                {
                    "delay": 0.06,
                    "rate": 50e6,
                    "seconds": {"directly": [4.0], "copied": [6.0], "dclab": [2.0]},
                    "directly": {"requests": 90, "bytes": 151_000_000, "rounds": 3},
                    "without offsets": {"seconds": 1.0, "bytes": 30_000_000},
                }
            ],
        },
        "stacks": {
            "times": [
                {
                    "count": count,
                    "side": 512,
                    "bits": 8,
                    "seconds": {"np.median": slow, "sparsemed, 1 thread": [0.1, 0.1, 0.1]},
                }
                for count, slow in ((201, [1.0, 2.0, 3.0]), (3, [0.05, 0.06, 0.06]))
            ],
            "memory": [
                {
                    "count": 201,
                    "side": 512,
                    "bits": 8,
                    "bytes": 50 * 2**20,
                    "beyond": {"np.median": 60 * 2**20, "sparsemed, 1 thread": 2**20},
                }
            ],
        },
        "chipstream": [
            {
                "frames": 5000,
                "rate": 50,
                "compression": "zstd",
                "seconds": {
                    "dcnum": {"whole": [50.0, 40.0], "background": [5.0, 5.0]},
                    "sparsemed": {"whole": [32.0, 32.0], "background": [0.8, 0.8]},
                },
            }
        ],
    }


def test_table_shows_the_median_of_the_ratios_of_rounds(results):
    rows = table(results).splitlines()
    row_of_gzip = [row for row in rows if row.startswith("| 20,000 frames at 1000/s, gzip")]
    row = row_of_gzip[0]
    assert "| 6.00 s | 2.00 s | 1.00 s | 1.00 s | **4.0×** | 2.0× |" in row
    assert "| 100 MiB (300 MiB) | 50 MiB |" in row
    assert row_of_gzip[1] == (
        "| 20,000 frames at 1000/s, gzip | 5.00 s | 1.00 s | 500 ms | **6.0×** | 2.0× |"
    )
    assert (
        "| 20,000, in one piece, no filter | 5.00 s | 1.00 s | 500 ms | **6.0×** | 2.0× |" in rows
    )
    assert "| **sparsemed, 1 thread** | 1.00 ms | 60× | 3.8× | 10.0 ms | 0.80× | 25× |" in rows
    assert "| torch.kthvalue | 200 ms | 0.30× | 750× |  |  |  |" in rows
    assert "| 97.5 % | 2 | 100 µs |" in rows


def test_table_of_stacks_says_where_sparsemed_is_slower(results):
    said = stacks_table(results)
    assert "| np.median | 2.00 s (20×) | **60.0 ms** (0.60×) |" in said
    assert "| sparsemed, 1 thread | **100 ms** (1.0×) | 100 ms (1.0×) |" in said
    assert said.count("sparsemed is slower") == 1
    assert "Of 3 of 512 × 512, 8 bits, sparsemed is slower than np.median." in said
    assert "| program | 201 of 512 × 512, 8 bits (50 MiB) |" in said
    assert "| np.median | 60 MiB |" in said


def test_table_of_chipstream_shows_the_share_of_the_background(results):
    assert chipstream_table(results).splitlines()[-1] == (
        "| 5,000 frames at 50/s, zstd | 40.0 s – 50.0 s | 5.00 s (11.2 %) | 32.0 s "
        "| 0.80 s (2.5 %) | 4.20 s (9.4 %) |"
    )


def page_with(*blocks):
    between = "\n\nbetween\n\n".join("\nearlier\n".join(marks(block.title)) for block in blocks)
    return f"before\n\n{between}\n\nafter\n"


def test_table_of_live_shows_portions_and_memory(results):
    case = {"portion": 20, "split_time": 0.1, "frames_per_second": [5e4, 6e4, 9e4]}
    hour = {"frames": 9000, "grown_bytes": 3 * 2**20, "image_bytes": 2**20, "entry_bytes": 2**21}
    results["live"] = {
        "rate": 3000,
        "shape": [80, 400],
        "cases": [case | {"slow_push": [0.001, 0.002, 0.009]}],
        "hour": hour,
    }
    said = live_table(results)
    assert "medians of 3 rounds" in said
    assert "| 20 | 0.1 | 60,000 | 2.00 ms |" in said
    assert "Over 9,000 frames" in said
    assert "grew by 3 MiB: 1 MiB of images, and 2 MiB of times" in said


def test_frames_are_pushed_and_memory_is_watched(monkeypatch):
    frames = np.random.default_rng(0).integers(0, 256, (300, 4, 5), np.uint8)
    assert (live.push_all(frames, 650, 20, 0.1) > 0).all()
    assert len(live.push_all(frames, 650, 20, 0.1)) == 32
    monkeypatch.setattr(live, "RATE", 100)
    found = live.memory_of(frames, 4000)
    assert (found["entry_bytes"], found["image_bytes"]) == (64_000, 40 * 20)


def test_write_blocks_replaces_what_is_between_the_markers(results, tmp_path):
    page = tmp_path / "page.md"
    (block,) = (block for block in BLOCKS if block.table is chipstream_table)
    page.write_text(page_with(block, BLOCKS[0]), encoding="utf-8")
    write_blocks(page, results)
    once = page.read_text(encoding="utf-8")
    write_blocks(page, results)
    assert page.read_text(encoding="utf-8") == once
    first, _ = marks(block.title)
    assert once.startswith(f"before\n\n{first}\n\n{chipstream_table(results)}\n\n")
    assert "\n\nbetween\n\n" in once
    assert once.endswith(f"{BEGIN}\n\n{table(results)}\n\n{END}\n\nafter\n")
    assert "earlier" not in once


def test_write_blocks_leaves_tables_of_parts_that_have_no_results(results, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(page_with(BLOCKS[0], BLOCKS[1]), encoding="utf-8")
    del results["layouts"]
    write_blocks(page, results)
    text = page.read_text(encoding="utf-8")
    assert f"{BEGIN}\nearlier\n{END}" in text
    assert stacks_table(results) in text
    assert text.count("earlier") == 1


@pytest.mark.parametrize("text", ["no markers", BEGIN, f"{END}\n{BEGIN}", f"{BEGIN}{END}{BEGIN}"])
def test_write_blocks_without_markers(results, tmp_path, text):
    readme = tmp_path / "README.md"
    readme.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"README\.md: the table goes between"):
        write_blocks(readme, results)
    assert readme.read_text(encoding="utf-8") == text


PAGES = ("README.md", "docs/performance.md", "docs/live.md", "docs/remote.md")


@pytest.mark.parametrize("page", PAGES)
def test_pages_show_what_was_measured(page, tmp_path):
    copy = tmp_path / "page.md"
    copy.write_bytes((ROOT / page).read_bytes())
    write_blocks(copy, json.loads((RESULTS / "linux-2-cores.json").read_text()))
    assert copy.read_text("utf-8") == (ROOT / page).read_text("utf-8")


def test_draw_writes_a_picture(results, tmp_path):
    draw(results, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_slope_is_the_exponent_of_growth():
    counts = [1000, 3000, 10_000]
    seconds = [0.2 + 1e-7 * count**1.5 for count in counts]
    assert slope(points(counts, seconds), 0.2) == pytest.approx(1.5)


@pytest.fixture(params=["zstd", "gzip"])
def small_file(request, tmp_path):
    """Return a file of 70 random images in chunks of 32."""
    compression = {"zstd": dict(hdf5plugin.Zstd()), "gzip": {"compression": "gzip"}}[request.param]
    images = np.random.default_rng(0).integers(0, 9, size=(70, 8, 12), dtype=np.uint8)
    path = tmp_path / "small.rtdc"
    with h5py.File(path, "w", libver="latest") as h5:
        h5.create_dataset(
            "events/image", data=images, chunks=(32, 8, 12), fletcher32=True, **compression
        )
    return path


def test_decode_floor_decodes_what_hdf5_does(small_file):
    with h5py.File(small_file) as h5:
        images = h5["events/image"][:]
    seen = np.zeros_like(images)
    with decode_floor.open_chunks(small_file) as (chunks, decode):
        for chunk in chunks:
            first = chunk.begin[0]
            frames = decode(chunk)
            seen[first : first + 32] = frames[: len(images) - first]
    np.testing.assert_array_equal(seen, images)


def test_decode_floor_notices_damage(small_file):
    with decode_floor.open_chunks(small_file) as (chunks, decode):
        with small_file.open("r+b") as file:
            file.seek(chunks[0].place + 20)
            (byte,) = file.read(1)
            file.seek(-1, 1)
            file.write(bytes([byte ^ 1]))
        with pytest.raises(OSError, match="wrong checksum"):
            decode(chunks[0])


@pytest.mark.parametrize("layout", layouts.layouts(0), ids=lambda layout: layout.title)
def test_layouts_are_what_they_are_called(tmp_path, layout):
    path = tmp_path / "a.rtdc"
    how = {"shape": layout.shape, "chunk": layout.chunk}
    try:
        generate_measurement(path, layout.frames, 1000, layout.compression, **how)
    except NotAvailableError as reason:
        pytest.skip(f"{reason}")
    with h5py.File(path) as h5:
        images = h5["events/image"]
        assert images.shape == (300, *layout.shape)
        assert images.chunks == layout.chunk
        assert images.fletcher32 is (layout.compression != "no filter")
        expected = images[:].tobytes()
    with decode_floor.open_chunks(path) as (chunks, decode):
        total = sum(decode(chunk).size for chunk in chunks)
    assert total >= len(expected)


def test_generate_measurement_is_the_same_for_a_seed(tmp_path):
    def images_of(name, seed):
        try:
            generate_measurement(tmp_path / name, 40, 1000, seed=seed)
        except NotAvailableError as reason:
            pytest.skip(f"{reason}")
        with h5py.File(tmp_path / name) as h5:
            return h5["events/image"][:]

    images = images_of("one", 0)
    assert images.shape == (40, 80, 400)
    np.testing.assert_array_equal(images, images_of("same", 0))
    assert not np.array_equal(images, images_of("other", 1))


@pytest.mark.parametrize("bits", [8, 16])
def test_kernel_contenders_agree(bits):
    window = np.random.default_rng(0).integers(0, 256, size=(20, 6, 10), dtype=np.uint8)
    if bits == 16:
        window = kernel.as_16_bits(window)
        assert window.dtype == np.uint16
        assert 16 * 200 < window.max() < 2**12
    contenders = kernel.window_contenders(window)
    kernel.require_same_medians(contenders)
    contenders["wrong"] = lambda: window[0]
    with pytest.raises(click.ClickException, match="wrong finds other medians"):
        kernel.require_same_medians(contenders)


def test_mosaics_show_each_frame_in_one_place():
    frames = np.empty((3 * 7 * 2, 80, 400), np.uint8)
    frames[:] = np.arange(len(frames))[:, None, None]
    images = stacks.mosaics(frames, 3, 512)
    assert images.shape == (3, 512, 512)
    shown = [np.unique(image) for image in images]
    np.testing.assert_array_equal(np.sort(np.concatenate(shown)), np.arange(42))
    assert (images[0, :80, :400] == 0).all()


@pytest.mark.parametrize("bits", [8, 16])
def test_contenders_find_the_same_image_of_a_stack(bits):
    images = np.random.default_rng(0).integers(0, 256, size=(7, 6, 10), dtype=np.uint8)
    if bits == 16:
        images = kernel.as_16_bits(images)
    contenders = stacks.contenders(images)
    stacks.require_same_images(contenders)
    contenders["wrong"] = lambda: images[0]
    with pytest.raises(click.ClickException, match="wrong finds another image"):
        stacks.require_same_images(contenders)


@pytest.mark.slow
def test_memory_beyond_a_stack(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, size=(9, 1024, 1024), dtype=np.uint8)
    np.save(tmp_path / "stack.npy", images)
    copied = stacks.peak_beyond(tmp_path / "stack.npy", "np.partition")  # which copies it
    assert 0.8 * images.nbytes < copied < 3 * images.nbytes


@pytest.mark.slow
def test_program_that_runs_chipstream(tmp_path):
    pytest.importorskip("chipstream")
    path = tmp_path / "small.rtdc"
    try:
        generate_measurement(path, 40, 1000)
    except NotAvailableError as reason:
        pytest.skip(f"{reason}")
    output = tmp_path / "output.rtdc"
    seconds = chipstream.run_chipstream("sparsemed", path, output)
    assert 0 < seconds["background"] < seconds["whole"]
    chipstream.require_same_events(output, output)


@pytest.mark.parametrize(
    "name", ["events/deform", "events/area_um", "events/size_x", "basin_events/image_bg"]
)
def test_runs_that_differ_stop_the_benchmark(tmp_path, name):
    for path in ("one", "other"):
        with h5py.File(tmp_path / path, "w") as h5:
            h5["events/area_um"] = np.arange(5.0)
            h5["events/deform"] = [0, 0.5, np.nan, 1.5, 2]  # not all cells have all features
            h5["basin_events/image_bg"] = np.zeros((2, 3, 4), np.uint8)
    chipstream.require_same_events(tmp_path / "one", tmp_path / "other")
    with h5py.File(tmp_path / "other", "r+") as h5:
        if name == "events/deform":
            h5[name][3] = 0
        elif name in h5:
            del h5[name]
        else:
            h5[name] = np.arange(5)
    with pytest.raises(click.ClickException, match=f"differ in {name}"):
        chipstream.require_same_events(tmp_path / "one", tmp_path / "other")


def test_backgrounds_that_differ_stop_the_benchmark(tmp_path):
    for name, value in (("one", 1), ("same", 1), ("other", 2)):
        with h5py.File(tmp_path / name, "w") as h5:
            h5["basin_events/image_bg"] = np.zeros((2, 3, 4), np.uint8)
            h5["events/basinmap0"] = np.zeros(5, np.uint64)
            h5["events/bg_off"] = np.full(5, value / 2)
    end_to_end.require_same_background(tmp_path / "one", tmp_path / "same")
    with pytest.raises(click.ClickException, match=r"differ in events/bg_off"):
        end_to_end.require_same_background(tmp_path / "one", tmp_path / "other")


def test_run_program():
    run = end_to_end.run_program("-c", "print('said', 1.5)")
    assert run.inside == 1.5
    assert run.peak > 0
    with pytest.raises(click.ClickException, match="failed"):
        end_to_end.run_program("-c", "raise SystemExit(3)")


@pytest.mark.slow
def test_contenders_in_one_process(tmp_path):
    try:
        generate_measurement(tmp_path / "small.rtdc", 300, 1000)
    except NotAvailableError as reason:
        pytest.skip(f"{reason}")
    seconds = end_to_end.run_warm(tmp_path / "small.rtdc", 2)
    assert set(seconds) == set(end_to_end.CONTENDERS)
    assert all(len(of) == 2 and min(of) > 0 for of in seconds.values())


def test_commit_and_plain_h5py_write_the_same(tmp_path):
    paths = [tmp_path / "commit.rtdc", tmp_path / "plain.rtdc"]
    for path in paths:
        with h5py.File(path, "w") as h5:
            h5["events/image"] = np.resize(np.arange(251, dtype=np.uint8), (300, 6, 8))
            h5["events/time"] = np.arange(300.0)
        job = commit.run_job(path)
    commit.write_again(paths[0], job)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commit.output, "changed_file", commit.plain_h5py)
        patch.delattr("sparsemed.hdf5.commit._commit")
        commit.write_again(paths[1], job)
    end_to_end.require_same_background(*paths)


def test_patch_of(tmp_path):
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as h5:
        h5["first"], h5["middle"], h5["last"] = 1, np.zeros(20_000), 3
    old = path.read_bytes()

    def change():
        with changed_file(path) as h5:
            h5["first"][()] = 5
            h5["last"][()] = 4
            h5["new"] = np.ones(30_000)

    patch = commit.patch_of(change, path)
    new = path.read_bytes()
    differs = [i for i in range(len(old)) if old[i] != new[i]]
    assert patch.writes == 2
    assert len(differs) <= patch.size < 10_000
    assert patch.seconds > 0


def test_table_of_two_contenders():
    rows = commit.table("Job", {"ours": [1.0, 2.0, 3.0], "theirs": [1.0, 1.0, 2.0]}).splitlines()
    assert rows == [
        "Job, median of 3 rounds (smallest to largest):",
        "  ours                   2000.0 ms (1000.0 to 3000.0)",
        "  theirs                 1000.0 ms (1000.0 to 2000.0)",
        "  ratio                  1.500 (1.000 to 2.000)",
    ]


CONSTANTS = scaling.Constants(
    decode=200e6,
    count=1000e6,
    together=0.5,
    conclude=100e6,
    write=50e6,
    frame=1e-6,
    range=0.1,
    task=0.01,
    file=1.0,
    start=5.0,
)


def test_the_model_by_hand():
    # 64,000 frames of 10 kB at 1000 a second: 64 windows, 640 MB; no more than four ranges.
    work = scaling.Work(1, 64_000, 10_000, 5_000)
    parts = scaling.predict(CONSTANTS, work, scaling.Site(2, 1, 1e8, 1e9), by_ranges=True)
    frames = 64_000 + 3 * 200
    assert scaling.range_count(work, 2) == 4
    cores = frames * 1e4 / 200e6 + 64 * 200 * 1e4 / 1000e6
    assert parts["cores"] == pytest.approx(cores / (2 * 0.5) + 4 * 0.11 / 2)
    assert parts["storage"] == pytest.approx(frames * 5_000 / 1e8)
    assert parts["scheduler"] == pytest.approx(4 * 0.01)
    last = 640_000 * (1 / 100e6 + 1 / 50e6) + 0.064 + 1.0
    assert parts["one process"] == pytest.approx(last + (640_000 + 8 * 64_000) / 1e9)
    assert parts["start"] == 0
    longest = max(parts["cores"], parts["storage"], parts["scheduler"])
    assert scaling.seconds(parts) == pytest.approx(longest + parts["one process"])


@pytest.mark.parametrize(
    ("files", "workers", "disk", "by_ranges", "limit"),
    [
        (1, 1, 1e12, False, "cores"),
        (1, 4, 1e7, True, "storage"),
        (1000, 4, 1e12, False, "cores"),
        (1000, 1000, 1e9, False, "storage"),
        (10**6, 10**6, 1e15, False, "scheduler"),
    ],
)
def test_what_the_model_takes_for_the_limit(files, workers, disk, by_ranges, limit):
    work = scaling.Work(files, 64_000, 10_000, 5_000)
    site = scaling.Site(workers, 8, disk, disk)
    parts = scaling.predict(CONSTANTS, work, site, by_ranges)
    assert scaling.bottleneck(parts) == limit
    twice = scaling.predict(CONSTANTS, work._replace(files=2 * files), site, by_ranges)
    assert scaling.seconds(parts) <= scaling.seconds(twice) <= 2.001 * scaling.seconds(parts)


def test_the_model_cuts_as_the_method_does():
    for frames, workers in itertools.product((1_000, 60_000, 10**6), (1, 2, 7, 300)):
        work = scaling.Work(1, frames, 4000, 1)
        images = ArrayFrames(np.broadcast_to(np.uint8(7), (frames, 40, 100)))
        assert scaling.range_count(work, workers) == range_count(images, 200, workers)


@pytest.mark.parametrize("part", [many, scaling], ids=["many", "scaling"])
def test_pages_of_other_benchmarks_show_what_was_measured(tmp_path, part):
    name = part.__name__.rpartition(".")[2]
    page = (ROOT / "docs" / f"{name}.md").read_text("utf-8")
    (tmp_path / "page.md").write_text(page, "utf-8")
    results = json.loads((RESULTS / f"{name}-linux-2-cores.json").read_text())
    write_block(tmp_path / "page.md", name, part.tables(results))
    assert (tmp_path / "page.md").read_text("utf-8") == page


def test_machine_name_tells_nothing_of_its_owner(monkeypatch):
    monkeypatch.setattr(platform, "node", lambda: "somebodys-laptop")
    for variable in ("USER", "LOGNAME", "USERNAME", "HOSTNAME"):
        monkeypatch.setenv(variable, "somebody")
    assert "somebody" not in machine_name()
    assert machine_name().endswith("-cores")


def test_table_of_remote(results):
    said = remote_table(results)
    row = "| 50 MB/s | 60 ms | 4.00 s | 1.3× | 6.00 s | 2,000 | 160 | **12×** | 90 | 3 | 20 % |"
    assert row in said


def test_rounds_are_requests_that_waited_for_each_other():
    together = [(1.0, 2.0, 0, 9), (1.1, 2.1, 10, 19), (2.2, 3.0, 20, 29)]
    assert remote.rounds_before([*together, (3.1, 4.0, 100, 110), (4.1, 5.0, 0, 9)], 100) == 3
    assert remote.rounds_before([(1.0, 2.0, 0, 110)], 100) == 1


def test_what_is_far_away_is_the_same(tmp_path):
    path = tmp_path / "in.rtdc"
    try:
        generate_measurement(path, 100, 50)
    except NotAvailableError as reason:
        pytest.skip(f"{reason}")
    local = sparsemed.compute_background(path)
    with remote.far_away(path, 0.01, 50e6) as far:
        for contender_ in (remote.read_directly, remote.copy_first):
            np.testing.assert_array_equal(contender_(far).images, local.images)
            done = far.requests()
            assert remote.rounds_before(done, 1) == 1
            assert sum(stop - begin for _, _, begin, stop in done) >= path.stat().st_size * 0.9


def test_table_of_verdicts(results):
    assert "at 1000/s in a file | 800 ms | 40.0 ms | 5 % |" in verdict_table(results)


def test_verdicts_are_timed_in_turn_with_backgrounds(monkeypatch, small_file):
    monkeypatch.setattr(verdict, "generated_measurement", lambda *_: small_file)
    monkeypatch.setattr(verdict, "mosaics", lambda *_: np.full((100, 40, 60), 90, np.uint8))
    found = verdict.measure(20, 40, 2)
    assert len(found) == 3
    for each in found:
        for part in ("background", "verdict"):
            assert all(seconds > 0 for seconds in each[part]["seconds"])
            assert len(each[part]["core_seconds"]) == 2


def test_table_of_cores(results):
    said = cores_table(results)
    assert "pinned to so many of the 2 cores of Some Processor (AVX2); more were not" in said
    assert "| 2 | 4.00 s (1.0×) | 1.00 s (2.0×) | 1.00 s (1.5×) |" in said


def test_tables_say_what_was_measured_on(results):
    for block in BLOCKS:
        # whole runs of ChipStream differ more by what else runs than by the processor
        if block.title not in ("table of live", "table of ChipStream"):
            assert "2 cores of Some Processor (AVX2)" in block.table(results), block.title
    del results["processor"]
    assert "on 2 cores, whole processes" in table(results)
    found = processor()
    assert found["name"]
    assert found["instructions"]


def test_the_table_says_what_kernels_take_beside_a_copy(results):
    said = table(results)
    assert "sparsemed, 1 thread, takes 3.8× the time of a copy" in said
    assert "with 8 bits, and 25× with 16" in said
    assert "9.00 s where 8 processes begin at once" in said


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores cannot be chosen here")
def test_programs_are_pinned_to_cores():
    before = os.sched_getaffinity(0)
    program = "import os; print(len(os.sched_getaffinity(0)))"
    assert end_to_end.run_program("-c", program, cores=1).inside == 1
    assert end_to_end.run_program("-c", program).inside == len(before)
    assert os.sched_getaffinity(0) == before
