"""What a build's output says: the line that matters, or that the machine was at fault. Pure."""

from __future__ import annotations

import signal

from mcore_compat.base import exhaustion
from mcore_compat.base.processes import Completed

_GXX = "#error -- unsupported GNU version"
"""As CUDA's `crt/host_config.h` says it."""


def surroundings(done: Completed) -> str | None:
    """What of the machine ended a process (disk, memory, a compiler that nvcc does not take, a
    kill), None where none did."""
    if done.ok:
        return None
    what = exhaustion.ran_out(done.output)
    if what:
        return f"{what} (MAX_JOBS=1 needs the least)" if "memory" in what else what
    if _GXX in done.output:
        return "nvcc does not take this machine's g++, which is too new for it"
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
    """The last line of a process's output; what it ended with where it printed nothing."""
    lines = done.output.strip().splitlines()
    if done.timed_out:
        return "it passed its time limit"
    return lines[-1][:300] if lines else f"exit code {done.returncode}"
