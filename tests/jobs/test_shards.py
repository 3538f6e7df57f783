from pathlib import Path

import pytest
from jobs.measurements import measure

from benchmarks.serving import serving
from sparsemed import compute_files
from sparsemed.jobs import shares
from sparsemed.jobs.runs import Run
from sparsemed.jobs.selection import choose_runs
from sparsemed.jobs.shards import Shard, read_shard, take_shard
from sparsemed.storage import remote
from sparsemed.storage.places import locate


@pytest.mark.parametrize(
    "text", ["5/4", "0/4", "1/0", "-1/4", "1", "1/2/3", "a/b", "1.0/2", "", "/"]
)
def test_a_part_that_makes_no_sense_is_refused(text):
    with pytest.raises(ValueError, match=r"--shard .*: expected I/N, part I of N"):
        read_shard(text)


def runs_of(folder, sizes):
    runs = []
    for number, size in enumerate(sizes):
        path = folder / f"{number}.rtdc"
        path.write_bytes(bytes(size))
        runs.append(Run(path, folder / f"{number}_bg.rtdc"))
    return runs


@pytest.mark.parametrize("total", [1, 2, 3, 7, 20])
def test_all_parts_are_all_runs_each_once_and_even(tmp_path, total):
    sizes = [5000, 4, 3, 1000, 900, 1100, 1000, 2000, 2000, 7, 7, 7]
    runs = runs_of(tmp_path, sizes)
    parts = [take_shard(runs, Shard(number, total)) for number in range(1, total + 1)]
    assert sorted(run for part in parts for run in part) == sorted(runs)
    weights = [sum(run.source.stat().st_size for run in part) for part in parts]
    assert max(weights) <= max(max(sizes), 1.5 * sum(sizes) / total)
    for part in parts:
        assert part == [run for run in runs if run in part]  # in the order of the list


def test_a_part_is_the_same_in_whatever_order_measurements_are_found(tmp_path):
    runs = runs_of(tmp_path, [10] * 9)
    assert set(take_shard(runs, Shard(2, 4))) == set(take_shard(runs[::-1], Shard(2, 4)))


@pytest.mark.parametrize("in_place", [False, True])
def test_a_part_stays_the_same_while_others_are_done(tmp_path, in_place):
    folder = tmp_path / "data"
    for number in range(5):
        measure(folder / f"{number}.rtdc", count=20 + number, seed=number)

    def part():
        return take_shard(choose_runs([folder], in_place=in_place), Shard(1, 2))

    before = part()
    for result in compute_files(folder / "0.rtdc", in_place=in_place, kernel_size=7):
        assert result.status == "done"
    assert part() == before
    assert 0 < len(before) < 5


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(shares, "_far", {})
    monkeypatch.setattr(remote, "PAUSES", (0.01, 0.01, 0.01, 0.01))
    with serving() as server:
        yield server


def test_measurements_in_a_network_count_by_their_size(server, tmp_path):
    sizes = [5000, 4, 3, 1000, 900, 1100, 1000, 2000, 2000, 7, 7, 7]
    names = [f"/{number}.rtdc" for number in range(len(sizes))]
    for name, size in zip(names, sizes, strict=True):
        server.put(name, bytes(size))
    weights = dict(zip(map(server.url, names), sizes, strict=True))
    weights[server.url("/gone.rtdc")] = 1
    near = runs_of(tmp_path, [1500, 2500])
    weights |= {str(run.source): run.source.stat().st_size for run in near}
    runs = near + choose_runs([locate(address) for address in weights if "://" in address])
    parts = [take_shard(runs, Shard(number, 3)) for number in range(1, 4)]
    assert sorted(map(str, runs)) == sorted(str(run) for part in parts for run in part)
    found = [sum(weights[str(run.source)] for run in part) for part in parts]
    assert max(found) < 1.1 * sum(weights.values()) / 3
    assert all(len(server.objects[name].requests) == 1 for name in names)


def test_nobody_knows_the_parts_if_a_server_does_not_tell_a_size(server):
    server.put("/b.rtdc", b"", fault=lambda request: not request.send(503, {}))
    runs = choose_runs([locate(server.url(f"/{name}.rtdc")) for name in "ab"])
    with pytest.raises(OSError, match=r"/b.rtdc: the server answers 503, 5 times; run again"):
        take_shard(runs, Shard(1, 2))
    assert shares.sizes_of(runs) == [1, 1]  # which is good enough for a bar


def test_what_is_broken_belongs_to_a_part(tmp_path):
    (tmp_path / "a.rtdc").write_text("broken")
    (tmp_path / "b.rtdc").write_bytes(b"")
    runs = choose_runs([Path(tmp_path)], in_place=True)
    parts = [take_shard(runs, Shard(number, 2)) for number in (1, 2)]
    assert sorted(run for part in parts for run in part) == sorted(runs)
