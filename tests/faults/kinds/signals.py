"""Signals from outside to each sort of process, at random moments."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from faults.kinds.registry import add
from faults.trial import Trial, send, stop_for, wait
from faults.workshop import INSTALLS, RUNS, Launch

SLOW = {"TOY_SLOW": "0.15"}
"""So that the short checks of the toy suite are there long enough to be hit."""

WATCH_S = 0.004
STOPPED_S = 1.0

MAIN, SUITE, CHECK, UV, OTHER = "main", "suite", "check", "uv", "other"


def sorts(trial: Trial, main: int) -> dict[str, list[int]]:
    """The processes of a command, by what they are for."""
    found: dict[str, list[int]] = {}
    suites: dict[int, int] = {}
    for pid in sorted(trial.shop.toy.processes()):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue
        if pid == main:
            found.setdefault(MAIN, []).append(pid)
        elif any(word.endswith(b"suite/run.py") for word in words):
            suites[pid] = parent
        elif os.path.basename(words[0]) == b"uv":
            found.setdefault(UV, []).append(pid)
        else:
            found.setdefault(OTHER, []).append(pid)
    for pid, parent in suites.items():
        found.setdefault(CHECK if parent in suites else SUITE, []).append(pid)
    return found


def _hit(trial: Trial, process: subprocess.Popen[bytes], sort: str, number: int) -> bool:
    """Signal a process of a sort, the one that is there after a random pause; whether one was."""
    deadline = time.monotonic() + trial.golden.seconds + 10.0
    first = True
    while process.poll() is None and time.monotonic() < deadline:
        there = sorts(trial, process.pid)
        pids = [p for ps in there.values() for p in ps] if sort == "any" else there.get(sort, [])
        if pids and first:
            first = False
            most = trial.golden.seconds / 4
            wait(process, trial.moment() if sort == MAIN else trial.random.uniform(0, most))
            continue
        if pids:
            pid = trial.random.choice(pids)
            stop_for(pid, STOPPED_S) if number == signal.SIGSTOP else send(pid, number)
            return True
        time.sleep(WATCH_S)
    return False


def _signal(trial: Trial, *, sort: str, number: int) -> Iterator[Launch]:
    def during(process: subprocess.Popen[bytes]) -> None:
        trial.placed = _hit(trial, process, sort, number)

    trial.during = during
    yield Launch(variables=SLOW)


def _group(trial: Trial, *, number: int) -> Iterator[Launch]:
    """As a terminal does it."""

    def during(process: subprocess.Popen[bytes]) -> None:
        trial.placed = wait(process, trial.moment())
        send(process.pid, number, group=True)

    trial.during = during
    yield Launch(variables=SLOW)


def _twice(trial: Trial, *, number: int) -> Iterator[Launch]:
    """Somebody is impatient."""

    def during(process: subprocess.Popen[bytes]) -> None:
        trial.placed = wait(process, trial.moment())
        for _ in range(3):
            send(process.pid, number)
            time.sleep(trial.random.uniform(0, 0.05))

    trial.during = during
    yield Launch(variables=SLOW)


def _again(trial: Trial, *, number: int) -> Iterator[Launch]:
    """It is killed, and the same command follows at once."""
    trial.at_once = True

    def during(process: subprocess.Popen[bytes]) -> None:
        trial.placed = wait(process, trial.moment())
        send(process.pid, number)
        process.wait(30.0)

    trial.during = during
    yield Launch(variables=SLOW)


def codes(number: int) -> tuple[int, ...]:
    """What a process that got a signal may end with."""
    return (-number, 128 + number, 130)


ENDING = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
WRITING = (*RUNS, *INSTALLS, "matrix", "report", "refresh", "lock", "collect")

for _number in (*ENDING, signal.SIGXCPU, signal.SIGUSR1, signal.SIGPIPE, signal.SIGSEGV):
    add(
        f"signal-main-{_number.name}",
        f"the command gets {_number.name}",
        WRITING,
        partial(_signal, sort=MAIN, number=_number),
        codes=codes(_number),
        killed=True,
    )
for _number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    add(
        f"signal-group-{_number.name}",
        f"the command's process group gets {_number.name}, as from a terminal",
        WRITING,
        partial(_group, number=_number),
        codes=codes(_number),
        killed=True,
    )
    add(
        f"signal-main-thrice-{_number.name}",
        f"the command gets {_number.name} three times",
        RUNS,
        partial(_twice, number=_number),
        codes=codes(_number),
        killed=True,
        share=0.5,
    )
for _sort, _what, _commands, _numbers in (
    (SUITE, "the suite", RUNS, (*ENDING[:2], signal.SIGSEGV, signal.SIGXCPU)),
    (CHECK, "the child of a check", RUNS, (*ENDING[:2], signal.SIGHUP)),
    # Where nothing was known before, a bus error may be the check's own.
    (CHECK, "the child of a check", RUNS[:2], (signal.SIGBUS, signal.SIGSEGV)),
    (UV, "uv", INSTALLS, ENDING[:2]),
    (OTHER, "a helper process", (*RUNS, "report"), ENDING[:2]),
    ("any", "some process", (*RUNS, *INSTALLS, "matrix"), ENDING[:1]),
):
    for _number in _numbers:
        add(
            f"signal-{_sort}-{_number.name}",
            f"{_what} gets {_number.name}",
            _commands,
            partial(_signal, sort=_sort, number=_number),
            codes=codes(_number) if _sort == "any" else (),
            killed=_sort == "any",
        )
for _sort, _what in ((MAIN, "the command"), (SUITE, "the suite"), (CHECK, "the child of a check")):
    add(
        f"signal-{_sort}-SIGSTOP",
        f"{_what} is stopped for a while",
        RUNS,
        partial(_signal, sort=_sort, number=signal.SIGSTOP),
        share=0.5,
    )
for _number in (signal.SIGKILL, signal.SIGTERM):
    add(
        f"signal-{_number.name}-and-again",
        f"the command gets {_number.name}, and the same one follows at once",
        (*RUNS, *INSTALLS, "matrix", "report"),
        partial(_again, number=_number),
        codes=codes(_number),
        killed=True,
        share=2.0,
    )
