"""Predicts which parts of an index of chunks HDF5 reads next, from the part that it reads now.

HDF5 reads the index part by part, though each part holds the addresses of many others. If requests
are slow, these are fetched together. A wrong prediction only costs a useless fetch.
"""

import struct

_NODE = struct.Struct("<4sBBH16x")  # signature, type, level, entries
_ADDRESS = struct.Struct("<Q")
_UNDEFINED = 2**64 - 1

_BRANCHES = (b"EAIB", b"EASB")  # of an extensible array; addresses are at their ends

_CHECKSUM = 4


def children_of(part: memoryview, size: int) -> list[int]:
    """Return the addresses in a part of an index.

    Parameters
    ----------
    part : memoryview
        Any bytes that HDF5 has read.
    size : int
        Bytes of the file.
    """
    signature = bytes(part[:4])
    if signature == b"TREE" and len(part) >= _NODE.size:
        return _children_of_node(part, size)
    if signature in _BRANCHES:
        return _addresses_at_end(part, size)
    return []


def _children_of_node(part: memoryview, size: int) -> list[int]:
    """Return the child nodes of a node of a B-tree (version 1) of chunks; a leaf has none."""
    _, kind, level, entries = _NODE.unpack_from(part)
    if kind != 1 or level == 0:
        return []
    for axes in range(2, 7):  # axes of the dataset plus one; a key has a number for each
        key = 8 + 8 * axes
        places = [_NODE.size + key + i * (key + 8) for i in range(entries)]
        if (len(part) - _NODE.size - key) % (key + 8) or places[-1:] > [len(part) - 8]:
            continue
        found = [_ADDRESS.unpack_from(part, place)[0] for place in places]
        if all(0 < address < size for address in found):
            return found
    return []


def _addresses_at_end(part: memoryview, size: int) -> list[int]:
    found: list[int] = []
    for place in range(len(part) - _CHECKSUM - 8, 0, -8):
        (address,) = _ADDRESS.unpack_from(part, place)
        if address == _UNDEFINED:
            continue
        if not 0 < address < size:
            break
        found.append(address)
    return found[::-1]
