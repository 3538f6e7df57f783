"""What HDF5 will read of an index is told from what it has read, and nonsense from nonsense."""

import io

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsemed.hdf5.children import children_of


class Watched(io.BytesIO):
    """A file whose reads are noted, as HDF5 makes them."""

    def __init__(self, data):
        super().__init__(data)
        self.reads = []

    def readinto(self, buffer):
        begin = self.tell()
        count = super().readinto(buffer)
        self.reads.append((begin, bytes(buffer[:count])))
        return count


@pytest.mark.parametrize("shape", [(5000,), (5000, 2), (5000, 2, 3), (5000, 2, 3, 1)])
@pytest.mark.parametrize(
    ("libver", "signature"), [("earliest", b"TREE"), ("latest", b"EADB")], ids=["tree", "array"]
)
def test_parts_of_an_index_are_known_before_they_are_read(libver, signature, shape):
    content = io.BytesIO()
    with h5py.File(content, "w", libver=libver) as h5:
        data = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
        h5.create_dataset(
            "data", data=data, chunks=(1, *shape[1:]), maxshape=(None, *shape[1:]),
            compression="gzip",
        )  # fmt: skip
    file = Watched(content.getvalue())
    with h5py.File(file, "r") as h5:
        file.reads.clear()
        h5["data"].id.chunk_iter(lambda _: None)
    told, found = set(), []
    for begin, part in file.reads:
        if part.startswith(signature):
            found.append(begin in told)
        told.update(children_of(memoryview(part), len(file.getvalue())))
    assert len(found) > 10
    assert sum(not was_told for was_told in found) <= 2  # the roots of group and data


@given(st.sampled_from([b"TREE", b"EAIB", b"EASB", b""]), st.binary(max_size=4000))
def test_whatever_is_read_does_no_harm(signature, data):
    found = children_of(memoryview(signature + data), 10**6)
    assert all(0 < address < 10**6 for address in found)
