"""The states of jobs at a scheduler, and what they and the records say of a task. Pure."""

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
"""States of Slurm in which a job has not ended."""

HELD = frozenset({"launch failed requeued held", "JobHoldMaxRequeue"})
"""Reasons why Slurm permanently holds a job that it could not start again."""

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
    """A job as the scheduler reports it."""

    state: str
    node: str = ""
    name: str = ""
    reason: str = ""


def parse_squeue(text: str) -> dict[str, JobState]:
    """The states by job, from the output of squeue in the format `SQUEUE`."""
    rows = (line.split("|", 4) for line in text.splitlines())
    return {job: JobState(*more) for job, *more in rows if len(more) == 4}


def parse_sacct(text: str) -> dict[str, JobState]:
    """The states by job, from `sacct --parsable2 --format=JobID,State,NodeList,JobName`."""
    rows = (line.split("|", 3) for line in text.splitlines())
    return {
        job: JobState(state.split()[0], *more)  # `CANCELLED by 1000`
        for job, state, *more in rows
        if re.fullmatch(r"[0-9]+(_[0-9]+)?", job) and state
    }


class Fate(Enum):
    """How a task ends."""

    WAITING = "waiting"
    DONE = "done"
    GIVEN_UP = "given up"
    """A person ended it, or its input is invalid: a retry would not help."""

    DIED = "died"
    """An infrastructure error; it is retried."""


def judge(seen: JobState | None, ended: JobEnd | None, settled: bool) -> tuple[Fate, str]:
    """How a task ends, and why.

    `seen`: the state of its job, None if the scheduler no longer knows it. `ended`: the record that
    the job wrote. `settled`: the job ended so long ago that its record would be visible.
    """
    if ended is not None and ended.how == records.VERDICT:
        return Fate.DONE, ""
    if seen is not None and seen.reason in HELD:
        return Fate.DIED, f"Slurm could not start its job again ({seen.reason})"
    if seen is not None and seen.state in LIVE:
        return Fate.WAITING, ""  # the record of an earlier start does not count
    state = seen.state if seen is not None else "gone"
    if state == "CANCELLED":
        return Fate.GIVEN_UP, "its job was cancelled"
    if state in _WORDS:  # more precise than the record of a command that got SIGTERM
        return Fate.DIED, _WORDS[state]
    if ended is not None:
        given_up = ended.how in (records.REFUSED, records.STOPPED)
        return (Fate.GIVEN_UP if given_up else Fate.DIED), ended.reason
    if not settled:
        return Fate.WAITING, ""
    return Fate.DIED, f"its job was killed before it recorded how it ended (state: {state})"


def arrays(jobs: Iterable[str]) -> tuple[str, ...]:
    """The arrays that jobs are parts of, once each, for sacct."""
    return tuple(sorted({job.partition("_")[0] for job in jobs}, key=int))
