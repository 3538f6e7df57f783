"""The command, run again and again in processes that need not import everything first."""

import json
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

# Imports, and forks whenever it is told to. It starts no threads itself: forks would lack them.
PARENT = """
import json, os, signal, sys, threading, time
import sparsemed.background, sparsemed.cli, sparsemed.jobs.job, sparsemed.progress
import sparsemed.jobs.selection

print("ready", flush=True)
for line in sys.stdin:
    order = json.loads(line)
    is_set_up, set_up = os.pipe()
    child = os.fork()
    if not child:
        break
    os.read(is_set_up, 1)
    os.close(is_set_up)
    os.close(set_up)
    print(child, flush=True)
    _, status = os.waitpid(child, 0)
    print(json.dumps([os.waitstatus_to_exitcode(status), time.monotonic()]), flush=True)
else:
    os._exit(0)

for number, name in ((1, "out"), (2, "err")):
    os.dup2(os.open(order[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback, before the command heeds it
for name in order["ignored"]:
    signal.signal(getattr(signal, name), signal.SIG_IGN)
os.write(set_up, b"1")
try:
    sparsemed.cli.main(order["arguments"])
finally:
    others = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
    for thread in others:
        if thread.ident is not None:
            thread.join(0.5)  # a signal may have come while it was started: then it ends just now
    left = [thread for thread in others if thread.is_alive()]
    if left:
        print("left:", *left, file=sys.stderr)
"""


class Ended(NamedTuple):
    """How a command ended: its status, what it said, and when (``time.monotonic``)."""

    status: int
    out: str
    err: str
    when: float


class Commands:
    """Starts commands in forks of one process."""

    def __init__(self, process: subprocess.Popen, folder: Path) -> None:
        self.process = process
        self.out, self.err = folder / "out", folder / "err"

    def start(self, *arguments, ignored=()):
        """Start a command and return its process number."""
        order = {
            "arguments": [str(argument) for argument in arguments],
            "out": f"{self.out}",
            "err": f"{self.err}",
            "ignored": ignored,
        }
        print(json.dumps(order), file=self.process.stdin, flush=True)
        return int(self.process.stdout.readline())

    def wait(self):
        """Wait for the command that was started."""
        status, when = json.loads(self.process.stdout.readline())
        return Ended(status, self.out.read_text(), self.err.read_text(), when)


@contextmanager
def commands(folder):
    """Provide `Commands`, which leave notes in a folder."""
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            yield Commands(process, folder)
        finally:
            process.stdin.close()
