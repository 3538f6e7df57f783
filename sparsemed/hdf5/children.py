"""Which parts of an index HDF5 will ask for next, told from the part that it reads.

HDF5 walks an index of chunks one part after the other, though the addresses of all that follow are
there at once. Where an answer takes long, they are fetched together. That is a hint and no more:
what is told here wrongly, is fetched in vain.
"""

import struct

_NODE = struct.Struct("<4sBBH16x")  # signature, type, level, entries
_ADDRESS = struct.Struct("<Q")
_UNDEFINED = 2**64 - 1

_BRANCHES = (b"EAIB", b"EASB")  # of an extensible array; addresses are at their ends

_CHECKSUM = 4


def children_of(part: memoryview, size: int) -> list[int]:
    """Return the addresses that a part of an index leads to.

    Parameters
    ----------
    part : memoryview
        What HDF5 has read, be it anything.
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
    """Return the nodes below one of a B-tree (version 1) of chunks, unless they are chunks."""
    _, kind, level, entries = _NODE.unpack_from(part)
    if kind != 1 or level == 0:
        return []
    for axes in range(2, 7):  # of the dataset, and one more; a key has a number for each
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
