"""Say in what two HDF5 files differ, object by object."""

import hashlib
import json
import re

import h5py
import hdf5plugin  # noqa: F401  (lets HDF5 read Zstandard)
import numpy as np

WRITER = re.compile(r"\b(dcnum|sparsemed) \d[\w.+]*")


def differences(one, other):
    """Return what differs between two files, as a list of sentences.

    Everything counts (names, dtypes, shapes, chunks, filters, attributes, data,
    basin records) but for the name and version of the program that wrote it,
    and hence the names of the basin records, which are checksums.
    """
    with h5py.File(one, "r") as a, h5py.File(other, "r") as b:
        return list(_compare_groups(a, b, "/"))


def differences_of_runs(one, other):
    """Return what differs between two outputs of dcnum's pipeline, but for its own logs.

    These tell of times and places, and are removed from the files.
    """
    for path in (one, other):
        with h5py.File(path, "a") as h5:
            for name in [name for name in h5["logs"] if name.startswith("dcnum-")]:
                del h5["logs"][name]
    return differences(one, other)


def _compare_groups(a, b, name):
    yield from _compare_attributes(a, b, name)
    if name == "/basins":
        yield from _compare_basins(a, b)
        return
    if set(a) != set(b):
        yield f"{name}: {sorted(a)} and {sorted(b)}"
    for key in sorted(set(a) & set(b)):
        path = f"{name.rstrip('/')}/{key}"
        if isinstance(a[key], h5py.Group) and isinstance(b[key], h5py.Group):
            yield from _compare_groups(a[key], b[key], path)
        else:
            yield from _compare_datasets(a[key], b[key], path)


def _compare_datasets(a, b, name, with_data=True):
    for what in ("shape", "maxshape", "dtype", "chunks", "fillvalue"):
        left, right = getattr(a, what), getattr(b, what)
        if left != right and not (left is None and right is None):
            yield f"{name}: {what} is {left} and {right}"
    if (left := _filters(a)) != (right := _filters(b)):
        yield f"{name}: filters are {left} and {right}"
    yield from _compare_attributes(a, b, name)
    if with_data and a.shape == b.shape and not _same_data(a[()], b[()]):
        yield f"{name}: data differ"


def _same_data(a, b):
    """Whether arrays are equal; to the bit (NaN included) where they hold no objects."""
    if a.dtype == object:
        return np.array_equal(a, b)
    return a.tobytes() == b.tobytes()


def _filters(dataset):
    plist = dataset.id.get_create_plist()
    return [plist.get_filter(i) for i in range(plist.get_nfilters())]


def _compare_attributes(a, b, name):
    left = {key: _attribute(a, key) for key in a.attrs}
    right = {key: _attribute(b, key) for key in b.attrs}
    if left != right:
        yield f"{name}: attributes are {left} and {right}"


def _attribute(entry, key):
    value = entry.attrs[key]
    attribute = entry.attrs.get_id(key)
    text = WRITER.sub("PROGRAM", value) if isinstance(value, str) else np.asarray(value).tolist()
    return str(attribute.dtype), attribute.shape, text


def _compare_basins(a, b):
    left, right = _basins(a), _basins(b)
    if list(left) != list(right):
        yield f"/basins: {sorted(left)} and {sorted(right)}"
    for record in set(left) & set(right):
        yield from _compare_datasets(left[record], right[record], "/basins/*", with_data=False)


def _basins(group):
    """Datasets by the text they hold; each is named by the checksum of that text."""
    records = {}
    for key, dataset in group.items():
        text = b"\n".join(dataset[:]).decode()
        assert hashlib.md5(text.encode()).hexdigest() == key
        assert json.dumps(json.loads(text), indent=2) == text
        records[WRITER.sub("PROGRAM", text)] = dataset
    return dict(sorted(records.items()))
