"""A program that records a measurement in SWMR mode, or not; told what to do line by line.

Run as ``python recorder.py FILE``, it answers each line when it has done it.
"""

import subprocess
import sys

import numpy as np

HEIGHT, WIDTH = 40, 30


def frames_of(numbers):
    """Return made-up frames, each known by its number."""
    noise = np.random.default_rng(0).integers(90, 110, (64, HEIGHT, WIDTH), np.uint8)
    return noise[numbers % 64] + (numbers % 7)[:, np.newaxis, np.newaxis].astype(np.uint8)


def times_of(numbers):
    """Return when they are recorded: 100 a second, from some zero."""
    return 5.5 + numbers / 100


class Recorder:
    """The program, as a test sees it: ``recorder("images 10", "flush image")``."""

    def __init__(self, path):
        command = [sys.executable, __file__, str(path)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __call__(self, *lines):
        for line in lines:
            self.process.stdin.write(f"{line}\n")
            self.process.stdin.flush()
            assert self.process.stdout.readline() == "done\n", line

    def kill(self):
        self.process.kill()
        self.end()

    def end(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def main(path):
    import h5py
    import hdf5plugin

    h5 = None
    for line in sys.stdin:
        what, *more = line.split()
        if what == "begin":  # swmr, latest or plain, and other features than usual
            mode, *names = more
            h5 = h5py.File(path, "w", libver="earliest" if mode == "plain" else "latest")
            h5.attrs["imaging:frame rate"] = 100.0
            h5.attrs["experiment:time"] = "12:00:00"
            h5.attrs["setup:identifier"] = f"recorder {' '.join(names)}"
            h5.create_dataset(
                "events/image",
                (0, HEIGHT, WIDTH),
                np.uint8,
                maxshape=(None, HEIGHT, WIDTH),
                chunks=(32, HEIGHT, WIDTH),
                **hdf5plugin.Zstd(),
            )
            for name in names:
                h5.create_dataset(f"events/{name}", (0,), np.float64, maxshape=(None,), chunks=(9,))
            if mode == "swmr":
                h5.swmr_mode = True
        elif what == "again":
            h5 = h5py.File(path, "a", libver="latest")
            h5.swmr_mode = True
        elif what == "flush":
            for name in more or h5["events"]:
                h5[f"events/{name}"].flush()
        elif what == "close":
            h5.close()
        else:  # a feature gets some more
            feature = h5[f"events/{what}"]
            start, stop = len(feature), len(feature) + int(more[0])
            numbers = np.arange(start, stop)
            values = {"image": frames_of, "time": times_of, "frame": lambda n: 1 + n}[what](numbers)
            feature.resize(stop, axis=0)
            feature[start:] = values
        print("done", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
