"""Runs one function in a forked child that may hang, segfault, exit or be killed at no one
else's cost. What the parent imported is there in the child without being paid again."""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suite import processes
from suite.events import plain

TAIL = 8_000
"""Characters of a child's output and stack dump that are kept, from the end."""

_RESULT, _OUTPUT, _STACK = "result.json", "output.txt", "stack.txt"


@dataclass(frozen=True)
class Ended:
    """How a child ended. `result` is what the function returned, None where it did not report.

    `signal` is a name (`SIGSEGV`), `stack` what faulthandler wrote, `left_behind` the commands
    of processes that had to be killed after the child itself had ended.
    """

    result: Any
    seconds: float
    timed_out: bool
    exit_code: int | None
    signal: str | None
    output: str
    stack: str
    left_behind: tuple[str, ...]

    @property
    def how(self) -> str:
        """In words; for a child that did not report."""
        if self.signal:
            return f"killed by {self.signal}"
        return f"exited with code {self.exit_code} without a report"


def run(function: Callable[[], Any], *, limit: float, folder: Path) -> Ended:
    """Call `function` in a forked child, for at most `limit` seconds, and end all it started.

    The child has its own session; its output goes to files in `folder` (which must exist and
    be empty). `function` must return plain JSON data and must not raise.
    """
    spare = processes.children(os.getpid())
    started = time.monotonic()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _child(function, folder)
    status: int | None = None
    try:
        status = _wait(pid, started + limit)
        timed_out = status is None
        if timed_out:
            _dump_stacks(pid)
        seconds = time.monotonic() - started
    finally:
        # Also on Ctrl-C. The child itself, where it still runs, is not "left behind".
        if status is None:
            processes.kill({pid})
            status = os.waitpid(pid, 0)[1]
        left = processes.end_children(spare)
    return Ended(
        result=None if timed_out else _result(folder),
        seconds=seconds,
        timed_out=timed_out,
        exit_code=os.WEXITSTATUS(status) if os.WIFEXITED(status) else None,
        signal=signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else None,
        output=_tail(folder / _OUTPUT),
        stack=_tail(folder / _STACK),
        left_behind=tuple(left),
    )


def _child(function: Callable[[], Any], folder: Path) -> None:
    """The child's whole life; it never returns."""
    code = 70
    try:
        processes.die_with_parent()
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        _redirect(folder / _OUTPUT)
        # Kept open and referenced: faulthandler writes to the descriptor from signal handlers.
        stack = (folder / _STACK).open("w")
        faulthandler.enable(stack, all_threads=True)
        faulthandler.register(signal.SIGUSR1, stack, all_threads=True)
        me = os.getpid()
        result = json.dumps(plain(function()))
        if os.getpid() == me:  # a process that the function forked may come back here, too
            (folder / f"{_RESULT}.part").write_text(result)
            os.replace(folder / f"{_RESULT}.part", folder / _RESULT)
        code = 0
    except BaseException:
        # Not reported: the parent then says that the child crashed, with this as its output.
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _redirect(output: Path) -> None:
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    with output.open("ab", buffering=0) as sink:
        os.dup2(sink.fileno(), 1)
        os.dup2(sink.fileno(), 2)
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = open(descriptor, "w", closefd=False, errors="replace", buffering=1)  # noqa: SIM115
        setattr(sys, name, stream)


def _wait(pid: int, deadline: float) -> int | None:
    """The wait status of `pid`, or None where the deadline came first."""
    pause = 0.001
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return status
        if time.monotonic() > deadline:
            return None
        time.sleep(pause)
        pause = min(pause * 1.5, 0.02)


def _dump_stacks(pid: int) -> None:
    """Have the child, then the processes it forked, write where they hang."""
    for group in ({pid}, processes.descendants(pid)):
        if group:
            processes.kill(group, signal.SIGUSR1)
            time.sleep(0.2)


def _result(folder: Path) -> Any:
    with contextlib.suppress(FileNotFoundError):
        return json.loads((folder / _RESULT).read_text())
    return None


def _tail(path: Path) -> str:
    with contextlib.suppress(FileNotFoundError):
        return path.read_text(errors="replace")[-TAIL:]
    return ""
