"""The process that ends what another one has left, however that ended: the processes that
`processes.run` started there, and the folders of `temporary.py`.

`watched.py` starts one beside each process of ours. It imports little, for that is often.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterable

from mcore_compat.base import process_marks

SETTLES_S = 0.5
"""So long what a dead process started may still come up: it was forked, and not yet marked."""


def clean(mark: str, paths: Iterable[str]) -> None:
    """End all processes of `mark`, and remove files and folders."""
    import shutil

    process_marks.end(mark)
    for path in paths:
        try:
            os.unlink(path)
        except OSError:
            shutil.rmtree(path, ignore_errors=True)


def main(mark: str) -> None:
    """Wait until the process of `mark` has closed its end of the pipe on standard input, which it
    does by ending, and clean up after it. On the pipe comes what is to be removed, each ended by a
    zero byte."""
    # Sent to all processes of a job, say; this one ends by itself.
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    told = b""
    while data := os.read(0, 65536):
        told += data
    deadline = time.monotonic() + SETTLES_S
    # Its files are closed a moment before it is gone.
    while process_marks.lives(mark):
        if time.monotonic() > deadline:
            return  # it only let go of the pipe
        time.sleep(0.002)
    while time.monotonic() < deadline:
        process_marks.end(mark)
        time.sleep(0.02)
    clean(mark, map(os.fsdecode, filter(None, told.split(b"\0"))))


def command(mark: str) -> list[str]:
    """What starts this, with nothing of the user's that Python would read."""
    package = os.path.abspath(__file__).rsplit("/", 3)[0]
    code = f"import sys; sys.path.append(sys.argv[2]); import {__name__} as w; w.main(sys.argv[1])"
    return [sys.executable, "-I", "-S", "-B", "-c", code, mark, package]
