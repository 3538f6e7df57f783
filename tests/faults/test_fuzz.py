"""Files with random faults, each read as HDF5 reads it or refused; thousands with -m soak."""

import sys
from collections import Counter

import pytest
from faults.damage import FAULTS, FILES, KINDS, Fault, damaged, measurement
from faults.judge import Judge
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rings import counts

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="needs forks, and limits of memory that the system keeps"
)

cases = st.builds(
    Fault,
    file=st.integers(0, len(FILES) - 1),
    kind=st.sampled_from(KINDS),
    what=st.sampled_from(FAULTS),
    place=st.integers(0, 2**20),
    value=st.integers(0, 2**20),
    mended=st.booleans(),
)


@pytest.mark.parametrize("count", counts(50, 250, 10_000))
def test_files_with_a_fault(tmp_path, count, capsys):
    path = tmp_path / "damaged.rtdc"
    tally = Counter()
    with Judge() as judge:
        for number in range(len(FILES)):
            whole = measurement(number, str(tmp_path))
            path.write_bytes(whole.content)
            assert judge.verdict(path, whole.images, whole.mapping)[0] == "read equal"

        @settings(
            max_examples=count,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(cases)
        def check(fault):
            content, whole = damaged(fault, str(tmp_path))
            path.write_bytes(content)
            word, right, why = judge.verdict(path, whole.images, whole.mapping)
            tally[word] += 1
            assert right, f"{word}: {fault}: {why}"

        check()
    with capsys.disabled():
        print(f"\n{tally.total()} files: " + ", ".join(f"{n} {w}" for w, n in tally.most_common()))
    assert tally["read equal"] > count / 10
    assert tally["refused by both"] > count / 10


FOUND = [
    # Zstandard that HDF5 decodes to whatever lies in memory
    Fault(5, "chunk", "number", 189586, 535159, mended=True),
    Fault(5, "anywhere", "zero", 254766, 45434, mended=True),
    Fault(11, "chunk", "zero", 113308, 642651, mended=True),
    # HDF5 lists a chunk, but does not find it
    Fault(4, "index", "number", 147642, 10754, mended=True),
    Fault(1, "index", "splice", 724430, 473664, mended=False),
    Fault(1, "index", "number", 503826, 50127, mended=False),
    # a fill value, and a filter, that HDF5 refuses
    Fault(3, "header", "set", 835998, 165845, mended=True),
    Fault(18, "header", "set", 113900, 423064, mended=True),
    # HDF5 lists a chunk that is nowhere
    Fault(15, "index", "number", 998813, 795651, mended=True),
    # HDF5 2.0 crashes, with sparsemed or without
    Fault(20, "index", "zero", 175620, 466423, mended=True),
    Fault(20, "header", "splice", 731573, 624586, mended=True),
    # HDF5 2.0 crashes, sparsemed refuses
    Fault(1, "index", "zero", 367466, 205293, mended=False),
    Fault(18, "header", "set", 1012876, 438555, mended=True),
    Fault(10, "header", "flip", 277037, 668696, mended=True),
    Fault(10, "index", "zero", 494833, 16040, mended=True),
    # HDF5 2.0 takes ten seconds to find that there are no more chunks
    pytest.param(Fault(19, "index", "flip", 363294, 671404, mended=True), marks=pytest.mark.soak),
]


@pytest.fixture(scope="module")
def judge():
    with Judge() as judge:
        yield judge


@pytest.mark.parametrize("fault", FOUND, ids=str)
def test_what_was_found(tmp_path, judge, fault):
    content, whole = damaged(fault, str(tmp_path))
    path = tmp_path / "damaged.rtdc"
    path.write_bytes(content)
    word, right, why = judge.verdict(path, whole.images, whole.mapping)
    assert right, f"{word}: {why}"
