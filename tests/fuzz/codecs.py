"""Any bytes are decoded to just what HDF5 makes of them, or refused.

As a script, it looks for bytes with which that is not so::

    pip install -e ".[fuzz]"
    PYTHONPATH=tests python tests/fuzz/codecs.py -max_total_time=300 tests/fuzz/corpus/codecs
"""

import sys
from inspect import isfunction

import h5py
import hdf5plugin  # noqa: F401  (filters)
import numpy as np
from frames.test_codecs import (
    BLOSC,
    DEFLATE,
    FLETCHER32,
    PIPELINES,
    SHUFFLE,
    encode,
    pipeline,
)

from sparsemed.frames import codecs
from sparsemed.frames.codecs import Pipeline, UndecodableError

GUARD = 64


def check(data):
    """Decode a chunk that the bytes describe: filters, size, mask, kind; and then the chunk."""
    if len(data) < 5:
        return
    filters = PIPELINES[data[0] % len(PIPELINES)]
    itemsize = 1 + data[1] % 2
    size = itemsize * (1 + data[2])
    mask = data[3] % 2 ** len(filters) if data[3] >= 128 else 0
    stored = bytes(data[5:])
    if data[4] % 2:  # what filters make of some bytes, with a few others in between
        length = max(1, data[4] // 2 % 9)
        content = (stored * size)[:size] if stored else bytes(size)
        applied = [number for i, number in enumerate(filters) if not mask >> i & 1]
        patch = stored[:length] if data[4] >= 128 else b""
        stored = bytearray(encode(applied, content, itemsize))
        at = sum(data[5:9]) % (len(stored) + 1)
        stored[at : at + len(patch)] = patch
    around = np.full(size + 2 * GUARD, 171, np.uint8)
    out = around[GUARD:-GUARD]
    try:
        pipeline(filters, itemsize, size).decode(memoryview(bytes(stored)), mask, out)
    except UndecodableError:
        return
    finally:
        assert (around[:GUARD] == 171).all()
        assert (around[-GUARD:] == 171).all()
    assert out.tobytes() == by_hdf5(filters, itemsize, size, mask, bytes(stored))


def by_hdf5(filters, itemsize, size, mask, stored):
    """Return what HDF5 makes of a chunk."""
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((size // itemsize,))
    for number in filters:
        if number == FLETCHER32:
            plist.set_fletcher32()
        elif number == SHUFFLE:
            plist.set_shuffle()
        else:
            values = {DEFLATE: (4,), BLOSC: (0, 0, 0, 0, 5, 1, 0)}.get(number, ())
            plist.set_filter(number, h5py.h5z.FLAG_OPTIONAL, values)
    kind = h5py.h5t.STD_U8LE if itemsize == 1 else h5py.h5t.STD_U16LE
    # HDF5 forgets masks until it opens the file again.
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_fapl_core(backing_store=False)
    file = h5py.h5f.create(b"memory", fapl=access)
    space = h5py.h5s.create_simple((size // itemsize,))
    dataset = h5py.h5d.create(file, b"chunk", kind, space, plist)
    dataset.write_direct_chunk((0,), stored, filter_mask=mask)
    dataset.close()
    h5py.h5f.flush(file)
    access.set_file_image(file.get_file_image())
    again = h5py.Dataset(h5py.h5d.open(h5py.h5f.open(b"again", fapl=access), b"chunk"))
    return again[:].tobytes()


if __name__ == "__main__":
    import atheris

    for part in (check, Pipeline.decode, *vars(codecs).values()):
        if isfunction(part):
            atheris.instrument_func(part)
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()
