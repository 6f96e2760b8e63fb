"""Finds in a build's output the line that matters, or that the machine was at fault. Pure."""

from __future__ import annotations

import signal

from mcore_compat.base import exhaustion
from mcore_compat.base.processes import Completed

_GXX = "#error -- unsupported GNU version"
"""The message in CUDA's `crt/host_config.h`."""


def surroundings(done: Completed) -> str | None:
    """The infrastructure error that ended a process (disk, memory, a compiler that nvcc does not
    support, a kill); None if there was none."""
    if done.ok:
        return None
    what = exhaustion.ran_out(done.output)
    if what:
        return f"{what} (MAX_JOBS=1 uses the least)" if "memory" in what else what
    if _GXX in done.output:
        return "this machine's g++ is too new for nvcc"
    if done.returncode == -signal.SIGKILL and not done.timed_out:
        return "it was killed"
    return None


def line_that_matters(output: str) -> str:
    """The first line of a build log that states an error, else its last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    for mark in ("fatal error:", " error: ", "Error: ", "error:"):
        for line in lines:
            if mark in line and "subprocess-exited-with-error" not in line:
                return line[:300]
    return lines[-1][:300] if lines else "the build printed nothing"


def last_line(done: Completed) -> str:
    """The last line of a process's output; its exit code if it printed nothing."""
    lines = done.output.strip().splitlines()
    if done.timed_out:
        return "it exceeded its time limit"
    return lines[-1][:300] if lines else f"exit code {done.returncode}"
