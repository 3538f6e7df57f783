"""Small measurements of many kinds, where their parts lie in the file, and faults put there."""

import json
from functools import cache
from typing import NamedTuple

import h5py
import hdf5plugin
import numpy as np
from imagecodecs import h5checksum_lookup3

CODECS = {
    "plain": {},
    "checksum": {"fletcher32": True},
    "shuffle, gzip": {"shuffle": True, "compression": "gzip"},
    "gzip, checksum": {"compression": "gzip", "fletcher32": True},
    "lzf": {"compression": "lzf"},
    "zstd": dict(hdf5plugin.Zstd()),
    "zstd, checksum": {**hdf5plugin.Zstd(), "fletcher32": True},
    "lz4": dict(hdf5plugin.LZ4()),
    "blosc": dict(hdf5plugin.Blosc()),
}

# Each of these has another kind of index of chunks in files of newer formats.
INDICES = {
    "single chunk": {"chunks": (12, 6, 7)},
    "fixed array": {"chunks": (4, 6, 7)},
    "extensible array": {"chunks": (4, 6, 7), "maxshape": (None, 6, 7)},
    "B-tree": {"chunks": (4, 6, 7), "maxshape": (None, None, 7)},
    "tiles": {"chunks": (5, 4, 4)},
}

FILES = [
    *((codec, "fixed array", "earliest", False) for codec in CODECS),
    *((codec, "fixed array", "latest", False) for codec in ("plain", "gzip, checksum", "zstd")),
    *(("plain", index, "latest", True) for index in INDICES),
    *(("shuffle, gzip", index, "v110", False) for index in INDICES),
    ("zstd, checksum", "extensible array", "earliest", True),
    ("lzf", "tiles", "earliest", True),
]
"""Codec, index of chunks, version of the format, and whether images are in a mapped basin."""

SIGNATURES = {
    "index": (b"TREE", b"FAHD", b"FADB", b"EAHD", b"EAIB", b"EASB", b"EADB", b"BTHD", b"BTLF"),
    "heap": (b"HEAP", b"SNOD", b"GCOL", b"FRHP", b"FHDB", b"FHIB"),
    "header": (b"OHDR", b"OCHK"),
}

KINDS = ("chunk", "index", "header", "heap", "superblock", "record", "attribute", "anywhere")


class Measurement(NamedTuple):
    """A whole file, where its parts are, and its blocks that end with a checksum."""

    content: bytes
    places: dict[str, list[range]]
    checked: list[range]
    images: str
    mapping: str | None


@cache
def measurement(number, folder):
    """Write the measurement of this number in FILES."""
    codec, index, libver, mapped = FILES[number]
    rng = np.random.default_rng(number)
    images = rng.integers(90, 99, (12, 6, 7)).astype("u1" if number % 3 else "<u2")
    path = f"{folder}/whole-{number}.rtdc"
    where = "basin_events/image" if mapped else "events/image"
    with h5py.File(path, "w", libver=libver) as h5:
        h5.attrs["imaging:frame rate"] = 2000.0
        h5.attrs["experiment:sample"] = "text of variable length"
        dataset = h5.create_dataset(where, data=images, **INDICES[index], **CODECS[codec])
        h5["events/time"] = np.arange(12) / 10
        h5["events/deform"] = np.arange(12.0)
        record = {"name": "inside", "type": "internal", "paths": ["basin_events"]}
        if mapped:
            h5["events/basinmap0"] = rng.permutation(12)
            record |= {"features": ["image"], "mapping": "basinmap0"}
        lines = json.dumps(record, indent=2).encode().split(b"\n")
        text = h5.create_dataset("basins/record", data=np.array(lines))
        h5.flush()
        infos = [dataset.id.get_chunk_info(n) for n in range(dataset.id.get_num_chunks())]
        chunks = [range(i.byte_offset, i.byte_offset + i.size) for i in infos]
        begin = text.id.get_offset()
        records = [range(begin, begin + text.nbytes)]
        headers = [
            h5py.h5o.get_info(h5[name].id).addr for name in ("/", "events", where, "events/time")
        ]
    with open(path, "rb") as file:
        content = file.read()
    found = {
        kind: [at for signature in some for at in _all(content, signature)]
        for kind, some in SIGNATURES.items()
    }
    begins = [0, *(at for some in found.values() for at in some)] if libver != "earliest" else []
    checked = [block for at in begins for block in _checked(content, at)]
    places = {
        "chunk": chunks,
        "record": records,
        "superblock": [range(96)],
        "attribute": [range(at - 24, at + 64) for at in _all(content, b"imaging:frame rate")],
        "anywhere": [range(len(content))],
        **{kind: [range(at, at + 200) for at in some] for kind, some in found.items()},
    }
    places["header"] += [range(at, at + 280) for at in headers]
    places = {kind: some for kind, some in places.items() if some}
    return Measurement(content, places, checked, where, "events/basinmap0" if mapped else None)


def _all(content, signature):
    at = content.find(signature)
    while at >= 0:
        yield at
        at = content.find(signature, at + 1)


def _checked(content, at):
    """Find the block that begins there and ends where its checksum follows, if there is one."""
    for end in range(at + 8, min(at + 800, len(content) - 3)):
        if h5checksum_lookup3(content[at:end]) == int.from_bytes(content[end : end + 4], "little"):
            yield range(at, end)
            return


NUMBERS = (0, 1, 2, 255, 2**15, 2**16, 2**31, 2**32 - 1, 2**40, 2**63, 2**64 - 1)


class Fault(NamedTuple):
    """What is done to which part of a file; large numbers are taken as they fit."""

    file: int
    kind: str
    what: str
    place: int
    value: int
    mended: bool


FAULTS = ("flip", "set", "zero", "splice", "number", "truncate")


def damaged(fault, folder):
    """Return the content of a file with a fault, and the measurement that it was."""
    whole = measurement(fault.file, folder)
    places = whole.places.get(fault.kind) or whole.places["anywhere"]
    part = places[fault.place % len(places)]
    content = bytearray(whole.content)
    at = min(part.start + fault.place // len(places) % len(part), len(content) - 1)
    value = fault.value
    if fault.what == "flip":
        content[at] ^= 1 << value % 8
    elif fault.what == "set":
        content[at] = value % 256
    elif fault.what == "truncate":
        return bytes(content[:at]), whole
    else:
        size = 1 + value % 16
        if fault.what == "zero":
            new = bytes(size)
        elif fault.what == "splice":
            begin = value // 16 % len(content)
            new = bytes(content[begin : begin + size])
        else:
            width = (1, 2, 4, 8)[value % 4]
            number = NUMBERS[value // 4 % len(NUMBERS)]
            new = (number % 256**width).to_bytes(width, "little")
        new = new[: len(content) - at]
        content[at : at + len(new)] = new
    if fault.mended:  # so that the fault is found, if at all, by what it means
        for block in whole.checked:
            right = h5checksum_lookup3(bytes(content[block.start : block.stop]))
            content[block.stop : block.stop + 4] = right.to_bytes(4, "little")
    return bytes(content), whole
