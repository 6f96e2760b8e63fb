"""The options of `matrix` that say where the cells run."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from dataclasses import dataclass

from mcore_compat.base.errors import UsageError

SCHEDULERS = ("local", "slurm")
NOX = "nox"

MINUTES = 60
PARALLEL = 16
POLL_MOST = 86400

_OWN = frozenset(
    {
        "account", "array", "error", "gpus-per-task", "job-name", "nodes", "ntasks", "open-mode",
        "output", "partition", "requeue", "no-requeue", "signal", "time", "wckey",
    }
)  # fmt: skip
"""Options of sbatch that are set here, or by submitit."""


@dataclass(frozen=True, kw_only=True)
class Flags:
    """How jobs are submitted. `minutes`: the time limit of each; `parallel`: so many at a time."""

    scheduler: str
    partition: str | None = None
    build_partition: str | None = None
    account: str | None = None
    gpus: int = 0
    minutes: int = MINUTES
    parallel: int = PARALLEL
    options: tuple[tuple[str, str | bool], ...] = ()
    attempts: int = 3
    poll: float = 10.0

    def with_gpus(self) -> bool:
        """Whether the jobs of cells ask for GPUs, in whatever words."""
        return self.gpus > 0 or any(asks_for_gpus(key, value) for key, value in self.options)


_DEFAULTS: Mapping[str, object] = {
    "partition": None,
    "build_partition": None,
    "account": None,
    "gpus_per_task": 0,
    "array_parallelism": None,
    "slurm_option": [],
}


def of(args: argparse.Namespace) -> Flags | None:
    """What was asked for; None where cells run below nox.

    Raises:
        UsageError: an option that needs `--executor`, or one that is not valid.
    """
    if args.executor == NOX:
        for name, default in _DEFAULTS.items():
            if getattr(args, name) != default:
                spelt = "--" + name.replace("_", "-")
                raise UsageError(f"{spelt} is for jobs: add --executor slurm or --executor local")
        return None
    parallel = args.array_parallelism
    if parallel is None:
        parallel = args.jobs if args.executor == "local" else PARALLEL
    for spelt, value, least in (
        ("--array-parallelism", parallel, 1),
        ("--attempts", args.attempts, 1),
        ("--gpus-per-task", args.gpus_per_task, 0),
    ):
        if value < least:
            raise UsageError(f"{spelt}: must be at least {least}")
    if not 0 < args.poll <= POLL_MOST:  # nor what is no number
        raise UsageError(f"--poll: must be a number of seconds, more than 0, up to {POLL_MOST}")
    return Flags(
        scheduler=args.executor,
        partition=args.partition,
        build_partition=args.build_partition,
        account=args.account,
        gpus=args.gpus_per_task,
        minutes=minutes(args.time),
        parallel=parallel,
        options=tuple(option(text) for text in args.slurm_option),
        attempts=args.attempts,
        poll=args.poll,
    )


def minutes(text: str) -> int:
    """A time limit as Slurm spells it, in whole minutes: MIN, MIN:SS, H:MM:SS, D-H[:MM[:SS]].

    Raises:
        UsageError: not so spelt, or no time at all.
    """
    match = re.fullmatch(r"(?:([0-9]+)-)?([0-9]+)(?::([0-9]+))?(?::([0-9]+))?", text)
    if match is None:
        raise UsageError(f'--time: "{text}" is no time; write e.g. 90, 1:30:00 or 1-12')
    days, *parts = match.groups()
    numbers = [int(part) for part in parts if part is not None]
    if days is not None:  # D-H:M:S
        hours, mins, secs = [*numbers, 0, 0][:3]
    elif len(numbers) == 3:
        hours, mins, secs = numbers
    else:  # M or M:S
        hours, (mins, secs) = 0, [*numbers, 0][:2]
    seconds = int(days or 0) * 86400 + hours * 3600 + mins * 60 + secs
    if seconds == 0:
        raise UsageError("--time: must be more than 0")
    return -(-seconds // 60)


def option(text: str) -> tuple[str, str | bool]:
    """`mem=32G` as a pair; an option without a value is True.

    Raises:
        UsageError: no option's name, or one that is set here.
    """
    key, sign, value = text.removeprefix("--").partition("=")
    if not re.fullmatch(r"[a-z][a-z0-9-]*", key) or not value.isprintable() or (sign and not value):
        raise UsageError(f'--slurm-option: "{text}" is no option; write e.g. mem=32G or exclusive')
    if key in _OWN:
        known = {"account", "gpus-per-task", "partition", "time"}
        hint = f"write --{key}" if key in known else "it is set by this tool"
        raise UsageError(f"--slurm-option: {key} cannot be given here; {hint}")
    return key, value if sign else True


_COUNT = re.compile(r"(?:gres[:/])?(?:gpu|mps|shard)(?::[^:=]+)??(?:[:=](?P<count>[0-9]+)\S*)?")
"""What sbatch takes for GPUs, or parts of one, among other resources: `gpu`, `gpu:2`,
`gres/gpu:a100=2`, `shard:1`, …"""


def asks_for_gpus(key: str, value: str | bool) -> bool:
    """Whether an option of sbatch asks for GPUs: those jobs are of the device class `gpu`."""
    words = str(value).split(",")
    if key in ("gpus", "gpus-per-node", "gpus-per-socket"):  # `2`, or `a100:2`
        return any(re.fullmatch(r"(?:[^:]+:)?0*[1-9][0-9]*", word) for word in words)
    if key != "gres" and not key.startswith("tres-per-"):
        return False
    found = [match["count"] for word in words if (match := _COUNT.fullmatch(word))]
    return any(count is None or int(count) > 0 for count in found)


def is_of_gpus(key: str, value: str | bool) -> bool:
    """Whether an option of sbatch means nothing, or is refused, where a job has no GPU."""
    return "gpu" in key or key.startswith("gres") or asks_for_gpus(key, value)
