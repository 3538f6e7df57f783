"""Have the kernel refuse system calls of this process, as a strange file system would."""

import ctypes
import platform
import struct

NUMBERS = {
    "x86_64": {"preadv": 295, "preadv2": 327, "flock": 73, "fcntl": 72, "seccomp": 317},
    "aarch64": {"preadv": 69, "preadv2": 286, "flock": 32, "fcntl": 25, "seccomp": 277},
}
LOCKING = (5, 6, 7, 36, 37, 38)  # the commands of fcntl that have to do with locks

LOAD_WORD, EQUALS, RETURN = 0x20, 0x15, 0x06
ALLOW, REFUSE = 0x7FFF0000, 0x00050000
FIRST_ARGUMENT = 16


def can_refuse():
    """Whether this machine is one for which `refuse` knows the numbers."""
    return platform.system() == "Linux" and platform.machine() in NUMBERS


def refuse(name, reason):
    """Answer all further calls, of all threads, with an error: of `fcntl` those about locks."""
    numbers = NUMBERS[platform.machine()]
    program = [(LOAD_WORD, 0, 0, 0)]
    if name == "fcntl":
        program += [
            (EQUALS, 0, 1 + len(LOCKING), numbers[name]),
            (LOAD_WORD, 0, 0, FIRST_ARGUMENT + 8),
            *((EQUALS, len(LOCKING) - i, 0, number) for i, number in enumerate(LOCKING)),
        ]
        program[-1] = (EQUALS, 1, 0, LOCKING[-1])
    else:
        program.append((EQUALS, 1, 0, numbers[name]))
    program += [(RETURN, 0, 0, ALLOW), (RETURN, 0, 0, REFUSE | reason)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    filter_ = ctypes.create_string_buffer(
        struct.pack("HxxxxxxP", len(program), ctypes.addressof(code))
    )
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(38, 1, 0, 0, 0):  # no new privileges
        raise OSError(ctypes.get_errno(), "prctl")
    every_thread = 1
    if libc.syscall(numbers["seccomp"], 1, every_thread, filter_):
        raise OSError(ctypes.get_errno(), "seccomp")
