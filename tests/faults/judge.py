"""Reads files as HDF5 does and as sparsemed does, in a process that may crash.

Run as a script, it is a server: it takes a line of JSON for each file and answers with one. What
is read is read in a child, which is forked anew when it has died or takes too long. What counts is
the time that it has had of a core: the machine may have much else to do.
"""

import hashlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import psutil
from patience import PATIENCE

LIMIT = 20  # seconds of a core
LIMITS = {"listed": LIMIT / 4, "compiled": 120}  # sparsemed lists chunks up to four times
LARGE = 2**26  # bytes that are read, of frames
MEMORY = 4 * 2**30  # bytes of address space


def plainly(case):
    """Read with h5py alone what sparsemed would read."""
    found = {"rest": ""}
    with h5py.File(case["path"]) as h5:
        dataset = h5[case["images"]]
        if dataset.nbytes > LARGE:
            return {"large": True}
        frames = dataset[:]
        # a record that has lost its mapping is that of another basin
        if case["mapping"] and has_mapping(h5):
            frames = frames[h5[case["mapping"]][:]]
        found |= {"frames": digest(frames), "dtype": frames.dtype.str}
        try:
            for _, record in h5["basins"].items():
                record[:]
            h5.attrs["imaging:frame rate"]
            if "time" in h5["events"]:
                time = h5["events/time"][:]
                found["time"] = digest(time - time[0])
        except Exception as error:
            found["rest"] = f"{error!r}"
    return found


def ours(case):
    """Read with sparsemed."""
    from sparsemed.rtdc.frames import measurement_frames, measurement_time
    from sparsemed.rtdc.info import info
    from sparsemed.rtdc.measurement import Measurement

    info(case["path"])
    with Measurement(case["path"]) as measurement:
        frames = measurement_frames(measurement, 2)
        time = measurement_time(measurement)
        count, height, width = frames.shape
        frame_bytes = height * width * frames.dtype.itemsize
        if count * frame_bytes > LARGE:
            return {"large": True}
        found = np.empty(frames.shape, frames.dtype)
        with frames.reading() as read:
            for start in range(0, count, frames.batch):
                stop = min(start + frames.batch, count)
                read(start, stop, found[start:stop])
    return {"frames": digest(found), "time": digest(time)}


def has_mapping(h5):
    """Whether the basin record still says that there is a mapping, as far as it can be read."""
    try:
        return any(
            "mapping" in json.loads(b"\n".join(each[:].tolist())) for each in h5["basins"].values()
        )
    except (ValueError, TypeError, KeyError):
        return True


def listed(case):
    """List the chunks of the images, as sparsemed has h5py do it, and look each up."""
    chunks = []
    with h5py.File(case["path"]) as h5:
        dataset = h5[case["images"]]
        dataset.id.chunk_iter(chunks.append)
        for chunk in chunks:
            try:
                dataset.id.read_direct_chunk(chunk.chunk_offset)
            except (OSError, RuntimeError) as error:
                return {"lost": f"{error}"}
    return {}


def digest(array):
    if array.dtype.itemsize > 8:  # long doubles have bytes that mean nothing
        array = array.astype(float)
    native = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("=")))
    return hashlib.md5(f"{native.shape}{native.dtype}".encode() + native.tobytes()).hexdigest()


def computed(case):
    """Compute a background with sparsemed, and tell of it in a line."""
    import sparsemed
    from sparsemed.rtdc.info import info

    info(case["path"])
    return {"text": repr(sparsemed.compute_background(case["path"], **case["parameters"]))}


def compiled(case):
    """Have the kernels compiled, or loaded, that `computed` needs."""
    import sparsemed

    for dtype in ("u1", "u2"):
        sparsemed.compute_background(np.zeros((2, 1, 1), dtype))
    return {}


READERS = {each.__name__: each for each in (plainly, ours, listed, compiled, computed)}


def answer(case):
    try:
        return READERS[case["reader"]](case)
    except BaseException as error:
        text = " ".join(str(error).split())
        return {
            "error": type(error).__name__,
            "text": text[:2000],  # an answer must fit into a pipe
            "fine": isinstance(error, (OSError, ValueError, TypeError)) and case["path"] in text,
        }


def work(requests, answers):
    """Answer until there are no more requests: the life of a child."""
    import resource  # which Windows does not have

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in os.fdopen(requests):
        told = answer(json.loads(line))
        told["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        os.write(answers, (json.dumps(told) + "\n").encode())


class Child:
    """A forked process that reads files."""

    def __init__(self):
        requests, self.requests = os.pipe()
        self.answers, answers = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            try:
                os.close(self.requests)
                os.close(self.answers)
                os.dup2(2, 1)  # a library that crashes may print something
                work(requests, answers)
            finally:
                os._exit(0)
        os.close(requests)
        os.close(answers)
        self.process = psutil.Process(self.pid)

    def ask(self, case):
        """Return the answer, or how the child came to its end."""
        with suppress(BrokenPipeError):  # an earlier case may have ruined the heap
            os.write(self.requests, (json.dumps(case) + "\n").encode())
        limit = self.worked() + LIMITS.get(case["reader"], LIMIT)
        end = time.monotonic() + PATIENCE
        while not (ready := select.select([self.answers], [], [], 0.5)[0]):
            if self.worked() > limit or time.monotonic() > end:
                break
        if ready and (line := os.read(self.answers, 2**16)):
            return json.loads(line)
        self.end()
        return {"died": "crash" if ready else "hang"}

    def worked(self):
        """Return the seconds of a core that it has had."""
        times = self.process.cpu_times()
        return times.user + times.system

    def end(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.requests)
        os.close(self.answers)


def serve():
    import sparsemed.background
    import sparsemed.rtdc.info  # noqa: F401  (once, not in each child)

    child = Child()
    for line in sys.stdin:
        if os.waitpid(child.pid, os.WNOHANG)[0]:  # ruined by an earlier case
            child = Child()
        told = child.ask(json.loads(line))
        if "died" in told or told["peak"] > 2**20:  # KiB; each child has its own peak
            if "died" not in told:
                child.end()
            child = Child()
        print(json.dumps(told), flush=True)
    child.end()


class Judge:
    """Tells of files whether sparsemed does with them what it should; for tests."""

    def __enter__(self):
        tests = Path(__file__).parents[1]
        path = os.pathsep.join([str(tests.parent), str(tests)])
        self.server = subprocess.Popen(
            [sys.executable, __file__],
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        return self

    def __exit__(self, *_):
        self.server.stdin.close()
        self.server.wait(PATIENCE)
        self.server.stdout.close()

    def ask(self, **case):
        """Have a reader read a file; return what it found, or how it failed."""
        print(json.dumps(case), file=self.server.stdin, flush=True)
        return json.loads(self.server.stdout.readline())

    def verdict(self, path, images, mapping):
        """Return what became of a file in one word or two, whether that is right, and why."""
        case = {"path": str(path), "images": images, "mapping": mapping}
        hdf5 = self.ask(reader="plainly", **case)
        found = self.ask(reader="ours", **case)
        word, right = _compare(hdf5, found)
        if not right:
            listed = self.ask(reader="listed", **case)
            if "died" in found and "died" in listed:
                word, right = f"{word} of HDF5 that lists chunks", True
            if "error" not in hdf5 and "lost" in listed:
                # It reads the fill value; sparsemed, what it lists there.
                word, right = "HDF5 does not find a chunk that it lists", True
        if found.get("peak", 0) > 2**19:
            word, right = "took too much memory", False
        return word, right, f"HDF5: {hdf5}; sparsemed: {found}"


DELIBERATE = (
    "its index of chunks is damaged",  # HDF5 takes chunks that it does not find for fill values
    "is damaged, or no RT-DC file",  # HDF5 says so, elsewhere in the file
    "bytes instead of",  # HDF5 fills the rest with whatever lay in memory
    "ZSTD_decompress returned",  # HDF5's filter does not look
    "does not say its size",
    "invalid values in LZ4H5 header",  # HDF5's filter mends the length of a block
    "has become shorter",  # HDF5 takes what is missing for zeros
    "which is no checksum",
    "not large enough",
    "shorter than its header",
    "must be finite",
    "must hold numbers",
    "frame rate must be",
    "not valid JSON",
    "is not a basin record",
    "are not supported",  # dtypes
    "has no dataset 'events/image'",  # the record is another now
    "there can be no more than",
    "images are possible",
    "there are no frames",
    "takes far more",
    "shape must be",
    "has shape",
)
"""What sparsemed says of files that HDF5 reads without a word."""


def _compare(hdf5, found):
    if "died" in found:
        return (f"{found['died']} of both", True) if "died" in hdf5 else (found["died"], False)
    if "error" in found and not found["fine"]:
        return "refused without saying what", False
    if "died" in hdf5:
        return f"{hdf5['died']} of HDF5 alone", True
    if "error" in found:
        if "error" in hdf5 or hdf5.get("rest") or "large" in hdf5:
            return "refused by both", True
        deliberate = any(reason in found["text"] for reason in DELIBERATE)
        return ("refused on purpose" if deliberate else "refused, but HDF5 reads it"), deliberate
    if "error" in hdf5:
        return "read, but HDF5 refuses it", False
    if "large" in hdf5 or "large" in found:
        return "large", True
    same = found["frames"] == hdf5["frames"] and found["time"] == hdf5.get("time", found["time"])
    return ("read equal", True) if same else ("differed", False)


if __name__ == "__main__":
    serve()
