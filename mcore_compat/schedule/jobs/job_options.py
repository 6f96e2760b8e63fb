"""The options of `matrix` about where cells run."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass

import msgspec

from mcore_compat.base.errors import UsageError

LOCAL, SLURM = "local", "slurm"

MINUTES = {LOCAL: 7 * 24 * 60, SLURM: 60}
PARALLEL = 16
POLL_S = {LOCAL: 0.2, SLURM: 10.0}
POLL_MOST = 86400
ATTEMPTS = 3

_OWN = frozenset(
    {
        "account", "array", "error", "gpus-per-task", "job-name", "nodes", "ntasks", "open-mode",
        "output", "partition", "requeue", "no-requeue", "signal", "time", "wckey",
    }
)  # fmt: skip
"""Options of sbatch that this program or submitit sets."""


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """How cells run as jobs. `minutes`: the time limit of each; `parallel`: the number at a time;
    `attempts`: the number of jobs for a cell whose jobs are killed; `poll`: seconds between two
    looks at the jobs."""

    scheduler: str = LOCAL
    partition: str | None = None
    build_partition: str | None = None
    account: str | None = None
    gpus: int = 0
    minutes: int = MINUTES[LOCAL]
    parallel: int = PARALLEL
    options: tuple[tuple[str, str | bool], ...] = ()
    attempts: int = ATTEMPTS
    poll: float = POLL_S[LOCAL]

    def with_gpus(self) -> bool:
        """Whether the jobs of cells request GPUs, by any option."""
        return self.gpus > 0 or any(asks_for_gpus(key, value) for key, value in self.options)


def here(jobs: int) -> JobOptions:
    """On this machine, `jobs` cells at a time."""
    return JobOptions(parallel=jobs)


_OF_SLURM = {
    "partition": "--partition",
    "build_partition": "--build-partition",
    "account": "--account",
    "gpus": "--gpus-per-task",
    "options": "--slurm-option",
}


def of(args: argparse.Namespace) -> JobOptions:
    """The job options of a command line; fields are named as the options.

    Raises:
        UsageError: an option of Slurm without --executor slurm.
    """
    local = args.scheduler == LOCAL
    for name, option_of_slurm in _OF_SLURM.items() if local else ():
        if getattr(args, name):
            raise UsageError(f"{option_of_slurm} is for jobs of Slurm; add --executor slurm")
    usual = {
        "minutes": MINUTES[args.scheduler],
        "parallel": args.jobs if local else PARALLEL,
        "poll": POLL_S[args.scheduler],
    }
    given = {name: value for name, value in vars(args).items() if value is not None}
    return msgspec.convert({**usual, **given}, JobOptions)


def seconds(text: str) -> float:
    """The seconds between two looks at the jobs.

    Raises:
        UsageError: out of range.
    """
    if not 0 < float(text) <= POLL_MOST:  # also refuses nan
        raise UsageError(f"--poll: must be a number of seconds, more than 0, up to {POLL_MOST}")
    return float(text)


def minutes(text: str) -> int:
    """A time limit as Slurm spells it, in whole minutes: MIN, MIN:SS, H:MM:SS, D-H[:MM[:SS]].

    Raises:
        UsageError: invalid, or zero.
    """
    match = re.fullmatch(r"(?:([0-9]+)-)?([0-9]+)(?::([0-9]+))?(?::([0-9]+))?", text)
    if match is None:
        raise UsageError(f'--time: invalid time "{text}"; write e.g. 90, 1:30:00 or 1-12')
    days, *parts = (int(part) if part else 0 for part in match.groups())
    if match[1] is None and match[4] is None:  # M or M:S
        parts = [0, *parts[:2]]
    hours, mins, secs = parts
    seconds = days * 86400 + hours * 3600 + mins * 60 + secs
    if seconds == 0:
        raise UsageError("--time: must be more than 0")
    return -(-seconds // 60)


def option(text: str) -> tuple[str, str | bool]:
    """`mem=32G` as a pair; an option without a value is True.

    Raises:
        UsageError: not an option, or one that this program sets.
    """
    key, sign, value = text.removeprefix("--").partition("=")
    if not re.fullmatch(r"[a-z][a-z0-9-]*", key) or not value.isprintable() or (sign and not value):
        raise UsageError(
            f'--slurm-option: invalid option "{text}"; write e.g. mem=32G or exclusive'
        )
    if key in _OWN:
        own = {"account", "gpus-per-task", "partition", "time"}
        hint = f"write --{key}" if key in own else "this program sets it"
        raise UsageError(f"--slurm-option: {key} cannot be given here; {hint}")
    return key, value if sign else True


_COUNT = re.compile(r"(?:gres[:/])?(?:gpu|mps|shard)(?::[^:=]+)??(?:[:=](?P<count>[0-9]+)\S*)?")
"""How sbatch spells GPUs, or parts of one, among other resources: `gpu`, `gpu:2`,
`gres/gpu:a100=2`, `shard:1`, …"""


def asks_for_gpus(key: str, value: str | bool) -> bool:
    """Whether an option of sbatch requests GPUs: such jobs have the device class `gpu`."""
    words = str(value).split(",")
    if key in ("gpus", "gpus-per-node", "gpus-per-socket"):  # `2`, or `a100:2`
        return any(re.fullmatch(r"(?:[^:]+:)?0*[1-9][0-9]*", word) for word in words)
    if key != "gres" and not key.startswith("tres-per-"):
        return False
    counts = [match["count"] for word in words if (match := _COUNT.fullmatch(word))]
    return any(count is None or int(count) > 0 for count in counts)


def is_of_gpus(key: str, value: str | bool) -> bool:
    """Whether an option of sbatch has no meaning, or is refused, for a job without a GPU."""
    return "gpu" in key or key.startswith("gres") or asks_for_gpus(key, value)
