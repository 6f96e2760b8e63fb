"""What a scheduler says of jobs, and what that and the records say of a task. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from mcore_compat.schedule.jobs import records
from mcore_compat.schedule.jobs.records import JobEnd

SQUEUE = "%i|%T|%N|%j|%r"

LIVE = frozenset(
    {
        "PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING",
        "STAGE_OUT", "RESIZING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT",
        "RESV_DEL_HOLD",
    }
)  # fmt: skip
"""States of Slurm from which a job can still come to its end."""

HELD = frozenset({"launch failed requeued held", "JobHoldMaxRequeue"})
"""Why Slurm holds, for good, what it could not start again by itself."""

_WORDS = {
    "TIMEOUT": "the job's time limit was reached",
    "NODE_FAIL": "its node failed",
    "BOOT_FAIL": "its node failed to boot",
    "OUT_OF_MEMORY": "the job's memory limit was reached",
    "PREEMPTED": "it was preempted",
    "DEADLINE": "its deadline passed",
}


@dataclass(frozen=True)
class JobState:
    """A job as the scheduler tells of it."""

    state: str
    node: str = ""
    name: str = ""
    reason: str = ""


def parse_squeue(text: str) -> dict[str, JobState]:
    """By job: what squeue says, in the format `SQUEUE`."""
    rows = (line.split("|", 4) for line in text.splitlines())
    return {job: JobState(*more) for job, *more in rows if len(more) == 4}


def parse_sacct(text: str) -> dict[str, JobState]:
    """By job: what sacct says with `--parsable2 --format=JobID,State,NodeList,JobName`."""
    rows = (line.split("|", 3) for line in text.splitlines())
    return {
        job: JobState(state.split()[0], *more)  # `CANCELLED by 1000`
        for job, state, *more in rows
        if re.fullmatch(r"[0-9]+(_[0-9]+)?", job) and state
    }


class Fate(Enum):
    """What becomes of a task."""

    WAITING = "waiting"
    DONE = "done"
    GIVEN_UP = "given up"
    """A person or its own input ended it: trying again would not help."""

    DIED = "died"
    """Its surroundings failed; it is tried again."""


def judge(seen: JobState | None, ended: JobEnd | None, settled: bool) -> tuple[Fate, str]:
    """What becomes of a task, and why.

    `seen`: its job, None where no scheduler knows it any more. `ended`: what the job wrote down.
    `settled`: the job has ended for so long that what it wrote would be seen.
    """
    if ended is not None and ended.how == records.VERDICT:
        return Fate.DONE, ""
    if seen is not None and seen.reason in HELD:
        return Fate.DIED, f"Slurm could not start its job again ({seen.reason})"
    if seen is not None and seen.state in LIVE:
        return Fate.WAITING, ""  # what an earlier start wrote counts no more
    state = seen.state if seen is not None else "gone"
    if state == "CANCELLED":
        return Fate.GIVEN_UP, "its job was cancelled"
    if state in _WORDS:  # the scheduler knows better than a command that was only told to end
        return Fate.DIED, _WORDS[state]
    if ended is not None:
        given_up = ended.how in (records.REFUSED, records.STOPPED)
        return (Fate.GIVEN_UP if given_up else Fate.DIED), ended.reason
    if not settled:
        return Fate.WAITING, ""
    return Fate.DIED, f"its job died without a word of how it ended (state: {state})"


def arrays(jobs: Iterable[str]) -> tuple[str, ...]:
    """The arrays that jobs are parts of, once each: what sacct is asked for."""
    return tuple(sorted({job.partition("_")[0] for job in jobs}, key=int))
