"""A file for h5py with all changes in memory: what it shows, and what fails in it."""

import itertools
import os
import tempfile
from pathlib import Path

import h5py
import pytest
from hdf5.files import Model, apply, build, check_unchanged
from hypothesis import given
from hypothesis import strategies as st
from rings import examples

from sparsemed.hdf5 import overlay
from sparsemed.hdf5.commit import changed_file


def test_truncated_bytes_are_not_needed_to_see_zeros(v110):
    """What HDF5 cut off and allocated again without writing is zero, not junk."""
    size = v110.stat().st_size
    with open(v110, "ab") as file:
        file.write(b"junk" * 3000)
    with changed_file(v110) as h5:
        h5.flush()  # cuts
        creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        space = h5py.h5s.create_simple((20000,))
        h5py.h5d.create(h5.id, b"raw", h5py.h5t.NATIVE_UINT8, space, creation)
    with h5py.File(v110) as h5:
        assert h5["raw"].id.get_offset() >= size
        assert not h5["raw"][:].any()


@pytest.mark.parametrize("kind", [MemoryError, OSError, KeyboardInterrupt, ZeroDivisionError])
@pytest.mark.parametrize("method", ["_put", "_resize", "content"])
def test_failing_overlay(kinds, v110, monkeypatch, kind, method):
    """HDF5 loses exceptions of its callbacks, or crashes on them; they come up nonetheless."""
    old = kinds["v110"][0]
    calls = itertools.count()
    real = getattr(overlay.Overlay, method)
    monkeypatch.setattr(overlay.Overlay, method, lambda *a: (next(calls), real(*a))[1])
    apply(v110)
    total = next(calls)
    assert total > 1
    for number in sorted({0, 1, 2, total // 3, total // 2, total - 2, total - 1}):
        v110.write_bytes(old)
        calls = itertools.count()

        def fail(*arguments, stop=number, calls=calls):
            if next(calls) == stop:
                raise kind("broken")
            return real(*arguments)

        monkeypatch.setattr(overlay.Overlay, method, fail)
        expected = KeyboardInterrupt if kind is KeyboardInterrupt else OSError
        if method == "content" and number >= total - 2:
            expected = kind  # this call comes from us, not from HDF5
        with pytest.raises(expected, match="broken"):
            apply(v110)
        check_unchanged(v110, old)
    assert h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_FILE) == 0


def test_links_to_other_files(kinds, v110):
    """HDF5 would take the overlay for the other file; better to refuse."""
    other = build(v110.with_name("other.rtdc"))
    with h5py.File(v110, "r+") as h5:
        h5["outside"] = h5py.ExternalLink("other.rtdc", "/events/deform")
        layout = h5py.VirtualLayout((2000,), float)
        layout[:] = h5py.VirtualSource("other.rtdc", "events/deform", (2000,))
        h5.create_virtual_dataset("virtual", layout)
    old = v110.read_bytes()
    for name in ("outside", "virtual"):
        with pytest.raises(OSError, match="links to other files"), changed_file(v110) as h5:
            h5["new"] = h5[name][:]
        assert v110.read_bytes() == old
    with changed_file(v110) as h5:
        assert "outside" in list(h5)
        h5.move("outside", "renamed")
        del h5["virtual"]
    other.unlink()
    with h5py.File(v110) as h5:
        assert isinstance(h5.get("renamed", getlink=True), h5py.ExternalLink)


places = st.integers(0, 3 * overlay._PAGE + 700)

blocks = st.tuples(st.sampled_from([0, 1, 5, 700, 4096, 9000]), st.integers(0, 255))

steps = st.one_of(
    st.tuples(st.just("write"), places, blocks),
    st.tuples(st.just("read"), places, st.sampled_from([0, 3, 4096, 10000])),
    st.tuples(st.just("readinto"), places, st.sampled_from([0, 3, 4096, 10000])),
    st.tuples(st.just("truncate"), places),
)


@examples(200)
@given(size=st.sampled_from([0, 1, 4096, 5000, 9001]), actions=st.lists(steps, max_size=25))
def test_overlay(size, actions):
    old = (bytes(range(1, 256)) * 40)[:size]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file")
        path.write_bytes(old)
        with open(path, "r+b", buffering=0) as handle:
            shown, model = overlay.Overlay(handle, path), Model(old)
            for action, *rest in actions:
                if action == "truncate":
                    model.truncate(rest[0])
                    shown.truncate(rest[0])
                elif action == "write":
                    place, (count, value) = rest
                    data = bytes([value]) * count
                    for file in (shown, model.file):
                        file.seek(place)
                        assert file.write(memoryview(data)) == count
                    assert shown.tell() == model.file.tell()
                elif action == "read":
                    found = []
                    for file in (shown, model.file):
                        file.seek(rest[0])
                        found.append(file.read(rest[1]))
                    assert found[0] == found[1]
                else:
                    found = []
                    for file in (shown, model.file):
                        file.seek(rest[0])
                        data = (
                            bytearray(rest[1]) if file is model.file else bytearray(b"x" * rest[1])
                        )
                        found.append((file.readinto(data), data))
                    assert found[0] == found[1]  # zeros beyond the end
                assert shown.seek(0, os.SEEK_END) == model.file.seek(0, os.SEEK_END)
            assert shown.failure is None
            assert path.read_bytes() == old
            changes, final = shown.changes(), model.file.getvalue()
            patched = bytearray(old)
            for offset, before, after in changes:
                assert patched[offset : offset + len(before)] == before != after
                patched[offset : offset + len(after)] = after
            assert bytes(patched + shown.tail) == final + old[len(final) :]


def test_only_net_changes_count(v110):
    with open(v110, "r+b", buffering=0) as handle:
        shown = overlay.Overlay(handle, v110)
        old = shown.content(100, 200)
        shown.seek(100)
        shown.write(bytes(100))
        shown.seek(100)
        shown.write(old)
        assert shown.changes() == []
        for place in (5000, 5020, 9000, 13097):
            shown.seek(place)
            shown.write(bytes([255 - shown.content(place, place + 1)[0]]))
        assert [(offset, len(old)) for offset, old, _ in shown.changes()] == [
            (5000, 4001),  # as few writes as can be, in pages that change anyway
            (13097, 1),
        ]
