"""A process that cleans up after another one has ended for any reason: it ends the processes that
`processes.run` started there, and removes the folders of `temporary.py`.

`watched.py` starts one for each mcore-compat process. It imports little, because that is often.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterable

from mcore_compat.base import process_marks

SETTLES_S = 0.5
"""How long children of a dead process may still appear: forked, but not marked yet."""


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
    """Wait until the process of `mark` has ended, which closes the pipe on standard input, then
    clean up after it. The pipe carries the paths to remove, each terminated by a zero byte."""
    # These may be sent to all processes of a job; this one ends by itself.
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    told = b""
    while data := os.read(0, 65536):
        told += data
    deadline = time.monotonic() + SETTLES_S
    # The kernel closes the files of a process shortly before the process is gone.
    while process_marks.lives(mark):
        if time.monotonic() > deadline:
            return  # it only closed the pipe
        time.sleep(0.002)
    while time.monotonic() < deadline:
        process_marks.end(mark)
        time.sleep(0.02)
    clean(mark, map(os.fsdecode, filter(None, told.split(b"\0"))))


def command(mark: str) -> list[str]:
    """The command line that starts it, isolated from the user's Python settings."""
    package = os.path.abspath(__file__).rsplit("/", 3)[0]
    code = f"import sys; sys.path.append(sys.argv[2]); import {__name__} as w; w.main(sys.argv[1])"
    return [sys.executable, "-I", "-S", "-B", "-c", code, mark, package]
