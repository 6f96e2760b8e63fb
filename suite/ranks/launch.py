"""Starts the ranks with torchrun, waits for them, and tells how they ended.

Each rank writes one file when it ends: what it was asked for, or how it failed, judged where the
exception was. A rank that wrote none died the hard way.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RANKS = 2
LIMIT_S = 200.0
"""Seconds that the ranks may take together, imports included."""

WORKER = Path(__file__).with_name("worker.py")

_KILLED = re.compile(r"exitcode\s*:\s*-(\d+)")
"""In what torchrun says at its end of each rank that failed."""

TAIL = 3000


class Refused(ValueError):  # noqa: N818 (what a rank said, not an error of ours)
    """How a load with all defaults was refused in a rank, in its own words."""


class RankEnded(Exception):  # noqa: N818 (what a rank said, not an error of ours)
    """A rank ended with an exception; `judgement` is what the suite makes of it there."""

    def __init__(self, rank: int, judgement: Mapping[str, Any]) -> None:
        super().__init__(f"rank {rank}: {judgement['reason']}")
        self.judgement = dict(judgement)
        self.judgement["reason"] = str(self)


@dataclass(frozen=True)
class Ended:
    """How torchrun ended. `stacks`: where each rank was when time was up."""

    timed_out: bool
    code: int
    output: str
    stacks: Mapping[int, str]


def argv(job: Path, ranks: int = RANKS) -> list[str]:
    """torchrun, as this environment has it, on this machine alone."""
    return [
        sys.executable,
        *("-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"),
        *("--nproc-per-node", str(ranks), str(WORKER), str(job)),
    ]


def variables() -> dict[str, str]:
    """This process' environment; the ranks meet over the loopback and share few cores."""
    return {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}


def run(command: Sequence[str], folder: Path, limit: float) -> Ended:
    """Run `command` in a process group of its own, and end the whole group with it."""
    log = folder / "torchrun.log"
    with log.open("wb") as out:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=variables(),
            start_new_session=True,
        )
        try:
            code: int | None = child.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
            _ask_where(_pids(folder))
        finally:
            # torchrun starts each rank in a session of its own where it can.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            for pid in _pids(folder).values():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            child.wait()
    text = log.read_text(errors="replace")[-TAIL:]
    return Ended(code is None, child.returncode, text, _stacks(folder))


def _pids(folder: Path) -> dict[int, int]:
    return {int(path.suffix[1:]): int(path.read_text()) for path in folder.glob("pid.*")}


def _ask_where(pids: Mapping[int, int]) -> None:
    """Have the ranks write where they are; faulthandler does so on this signal."""
    for pid in pids.values():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGUSR1)
    time.sleep(0.5)


def _stacks(folder: Path) -> dict[int, str]:
    found = {int(p.suffix[1:]): p.read_text(errors="replace") for p in folder.glob("stack.*")}
    return {rank: text for rank, text in found.items() if text}


def reports(folder: Path) -> dict[int, dict[str, Any]]:
    """What each rank wrote when it ended, by rank."""
    return {int(path.suffix[1:]): json.loads(path.read_text()) for path in folder.glob("report.*")}


def first_failure(told: Mapping[int, Mapping[str, Any]]) -> RankEnded | None:
    """How the rank failed that failed first: the others may only have missed it."""
    failed = [(one["at"], rank) for rank, one in told.items() if one.get("judgement")]
    if not failed:
        return None
    rank = min(failed)[1]
    return RankEnded(rank, told[rank]["judgement"])


def signal_of(output: str) -> int | None:
    """The signal that torchrun says a rank died of; not the one by which it ends the others."""
    found = [int(number) for number in _KILLED.findall(output)]
    return next((number for number in found if number != signal.SIGTERM), None)


def asked(
    job: Mapping[str, Any], folder: Path, record: Any, limit: float = LIMIT_S
) -> list[dict[str, Any]]:
    """Run `job` in the ranks; what each of them found, in order.

    Does not return where a rank hangs or dies: this process then ends as the rank did, so that
    the check is `timed-out` or `crashed`.

    Raises:
        RankEnded: a rank ended with an exception.
    """
    folder.mkdir(parents=True)
    place = folder / "job.json"
    place.write_text(json.dumps({**job, "folder": str(folder), "path": sys.path}))
    ended = run(argv(place), folder, limit)
    told = reports(folder)
    silent = sorted(set(range(RANKS)) - set(told))
    died = signal_of(ended.output) if silent else None
    failure = first_failure(told)
    if failure and not died:
        raise failure
    if ended.timed_out:
        record("ranks hang in", {rank: _innermost(text) for rank, text in ended.stacks.items()})
        _until_the_limit()
    if silent or ended.code != 0:
        record("ended without a word", [f"rank {rank}" for rank in silent])
        _end_as(died, ended)
    return [told[rank]["found"] for rank in range(RANKS)]


def _end_as(died: int | None, ended: Ended) -> None:
    """End this process as a rank ended; what torchrun said of that becomes its output."""
    print(ended.output, flush=True)
    if died:
        os.kill(os.getpid(), died)
    os._exit(ended.code or 1)


def _innermost(stack: str) -> str:
    from suite import failures

    frames = failures.stack_frames(stack)
    return f"{frames[-1]['module']}.{frames[-1]['function']}" if frames else "unknown"


def _until_the_limit() -> None:
    """The ranks hang: the check has no end, and its own limit says so."""
    while True:
        time.sleep(60)


def problems(found: Iterable[Mapping[str, Any]]) -> list[str]:
    """What the ranks found wrong themselves."""
    return [f"rank {one['rank']}: {text}" for one in found for text in one["problems"]]
