"""Stage cells → plan: which cells to run, what to build first, and how long it takes. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mcore_compat.base.errors import UsageError, nearest
from mcore_compat.core.cells import Cell
from mcore_compat.core.outcomes import CellOutcome, CheckOutcome

BUILD_S = {
    "transformer-engine-torch": 600.0,
    "flash-attn": 1.0,
    "mamba-ssm": 1.0,
    "causal-conv1d": 1.0,
}
"""Seconds of a build on two cores without a GPU, if none was recorded."""

CELL_S = 100.0
"""Seconds of an environment and a suite, if none was recorded."""

FIRST_MB, NEXT_MB = 7500.0, 30.0
"""Disk of the first environment with a torch and of each further one, hard-linked."""


@dataclass(frozen=True, kw_only=True)
class CellStatus:
    """What is known of a cell before it runs.

    `state`: `fresh`, or why the result is out of date; `outcomes`: those of the last result, of the
    cell and of its checks; `seconds`: how long its suite took.
    """

    cell: Cell
    state: str
    outcomes: frozenset[str] = frozenset()
    seconds: float | None = None
    missing: tuple[str, ...] = ()
    """Keys of the wheels that are not in the wheelhouse; a key begins with its package."""

    behind: bool = False
    """The result is of an older patch of a series in the cell's name."""

    @property
    def fresh(self) -> bool:
        return self.state == "fresh"


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """The cells to run, in order, and the wheels that must be built before them, each once."""

    todo: tuple[CellStatus, ...]
    fresh: tuple[CellStatus, ...]
    builds: tuple[str, ...]

    def minutes(self, jobs: int, recorded: Mapping[str, float]) -> float:
        """How long it takes: builds one after the other, cells `jobs` at a time."""
        build = sum(
            recorded.get(package_of(k), BUILD_S.get(package_of(k), 60)) for k in self.builds
        )
        seconds = [k.seconds for k in (*self.todo, *self.fresh) if k.seconds]
        each = statistics.median(seconds) if seconds else CELL_S
        return (build + sum(k.seconds or each for k in self.todo) / jobs) / 60

    def disk_gb(self) -> float:
        """Disk for new environments in GB, at most: if none exists yet."""
        torches = {(k.cell.torch, k.cell.python) for k in self.todo}
        further = max(0, len(self.todo) - len(torches))
        return (len(torches) * FIRST_MB + further * NEXT_MB) / 1000


def package_of(key: str) -> str:
    """The package of a wheel's key."""
    return next((name for name in BUILD_S if key.startswith(name)), key)


def outcome_words() -> tuple[str, ...]:
    """The words that select by outcome: of cells and of checks."""
    return tuple(dict.fromkeys(o.value for o in (*CellOutcome, *CheckOutcome)))


def narrowed(
    states: Sequence[CellStatus], *, only: Sequence[str] = (), stale: bool = False
) -> tuple[CellStatus, ...]:
    """The cells whose last result has one of the outcomes `only`; with `stale`, only those whose
    result is out of date. That may be none.

    Raises:
        UsageError: no such outcome; names the nearest.
    """
    for word in only:
        if word not in outcome_words():
            raise UsageError(f'no such outcome "{word}"{nearest(word, outcome_words())}')
    return tuple(
        k
        for k in states
        if (not only or set(only) & k.outcomes or ("untested" in only and not k.outcomes))
        and (not stale or (k.outcomes and not k.fresh))
    )


def make(states: Iterable[CellStatus], *, force: bool = False) -> RunPlan:
    """What to run: all cells that are out of date. Those of one stack are together, and those that
    need no build come first: a cell retries a build that had an infrastructure error."""
    cells = tuple(states)
    todo = tuple(k for k in cells if force or not k.fresh)
    order = sorted(
        todo, key=lambda k: (bool(k.missing), k.cell.torch, k.cell.python, k.cell.te, k.cell.name)
    )
    return RunPlan(
        todo=tuple(order),
        fresh=tuple(k for k in cells if k not in todo),
        builds=tuple(sorted({key for k in order for key in k.missing})),
    )
