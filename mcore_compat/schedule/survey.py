"""Which cells are selected, and their state before they run: read from locks, results and the
wheelhouse."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Any

from mcore_compat.base import data
from mcore_compat.base.errors import CompatError, UsageError
from mcore_compat.base.files import sha256_bytes, sha256_file
from mcore_compat.core import combinations
from mcore_compat.core.cells import Cell, moved
from mcore_compat.core.outcomes import CellOutcome
from mcore_compat.environments import wheelhouse
from mcore_compat.environments.te_extension.wheel import PACKAGE
from mcore_compat.resolve import locks, resolution
from mcore_compat.results import store
from mcore_compat.results.result import REAL, Result, out_of_date, result_path
from mcore_compat.run import machine, pipeline
from mcore_compat.run.check_sets import MAIN, ON_A_GPU
from mcore_compat.run.context import Context
from mcore_compat.schedule import plan
from mcore_compat.schedule.plan import CellStatus

SUITE_PARTS = 1.25
"""The time of a cell, as a multiple of that of its checks: imports, environment, writing."""


def survey(
    cells: Iterable[Cell], context: Context, device: str | None = None
) -> tuple[CellStatus, ...]:
    """The state of each cell on a device class (None: this machine's). Reads files only;
    resolves, builds and runs nothing.

    Raises:
        CompatError: a lock is corrupt. A corrupt result only makes its cell out of date.
    """
    suite, device = context.workspace.suite, device or machine.device_class()
    sets = (MAIN, *(ON_A_GPU.values() if device == "gpu" else ()))
    digests = {check_set.name: check_set.digest(suite) for check_set in sets}
    built = build_records().keys()
    return tuple(_state_of(cell, context, digests, device, built) for cell in cells)


def build_records() -> dict[str, dict[str, Any]]:
    """The build record of each wheel in the wheelhouse, by key."""
    builds = {}
    for path in wheelhouse.folder().glob("*/build.json"):
        try:
            record = data.json_of(data.text_of(path))
            seconds = record.get("seconds", 0.0)  # compared and added up
            if record["wheel"] and record["sha256"] and isinstance(seconds, (int, float)):
                builds[path.parent.name] = record
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # ignored, as by `wheelhouse.lookup`
    return builds


def _state_of(
    cell: Cell,
    context: Context,
    digests: Mapping[str, str],
    device: str,
    built: Set[str],
) -> CellStatus:
    lock = context.workspace.lock(cell.name)
    digest = sha256_file(lock) if lock.exists() else None
    path = result_path(cell.name, device, context.workspace.results)
    missing = _missing(cell, context, built, device)
    if not path.exists():
        return CellStatus(cell=cell, state="untested", missing=missing)
    try:
        last = store.load(path, whole=False)
    except CompatError:
        return CellStatus(cell=cell, state="its result is corrupt")
    if last.outcome is CellOutcome.UNRESOLVABLE:
        asked = resolution.asked_for(cell, context.matrix, context.releases)
        same = digest is None and last.lock == asked
        state = "fresh" if same else "the input of the resolver changed"
    else:
        state = _freshness(last, cell, digest or "", digests, context)
    newer = moved(cell, last.pins)
    if newer:
        state = ", ".join(f"{axis} {cell.pins[axis]} is out" for axis in newer)
    return CellStatus(
        cell=cell,
        state=state,
        outcomes=frozenset({last.outcome.value, *(check.outcome.value for check in last.checks)}),
        seconds=sum(c.seconds or 0 for c in last.checks) * SUITE_PARTS or None,
        missing=() if state == "fresh" else missing,
        behind=bool(newer),
    )


def _freshness(
    last: Result, cell: Cell, lock: str, digests: Mapping[str, str], context: Context
) -> str:
    """`fresh`, or why it is out of date; `digests`: of the check sets of a whole run."""
    python = last.pins.get("python", "")
    asked = context.te_extension
    why = out_of_date(last, lock=lock, suite=digests["main"], python=python, te_extension=asked)
    if why:
        return why
    if last.outcome is CellOutcome.UNBUILDABLE:
        held = pipeline.holds_here(
            last, cell, locks.read(context.workspace.lock(cell.name)), context
        )
        return "fresh" if held else "the cause of its failed build is gone"
    if not last.checks:
        return "fresh"
    parts = {name: digest for name, digest in digests.items() if name != "main"}
    lacks = pipeline.lacking(last, parts, context.workspace)
    return f"its {' and '.join(lacks)} checks have not run" if lacks else "fresh"


def _missing(cell: Cell, context: Context, built: Set[str], device: str) -> tuple[str, ...]:
    """Keys of the wheels in the cell's lock that the wheelhouse lacks; empty without a lock, and
    without TE's extension if a stand-in is enough."""
    path = context.workspace.lock(cell.name)
    pins = locks.read(path).source_only if path.exists() else ()
    if not pins:
        return ()
    chosen = pipeline.chosen(cell.name, context)
    # Of each package, any of its keys will do.
    wanted = [
        [str(key) for key in wheelhouse.keys_of(pin, chosen)]
        for pin in pins
        if pin.name != PACKAGE or context.te_extension == REAL or device == "gpu"
    ]
    return tuple(keys[-1] for keys in wanted if not built & set(keys))


@dataclass(frozen=True, kw_only=True)
class Shard:
    """The `number`-th of `of` parts of a run, counted from 1: each cell is in exactly one."""

    number: int
    of: int

    def holds(self, name: str) -> bool:
        """Whether a cell belongs here: by the digest of its name, not by its place among the
        remaining cells, so that machines with different results still share them out."""
        return int(sha256_bytes(name.encode())[:12], 16) % self.of == self.number - 1

    def part(self, names: Iterable[str]) -> tuple[str, ...]:
        """Those of `names` that belong here, in their order."""
        return tuple(name for name in names if self.holds(name))


WHOLE = Shard(number=1, of=1)


def parse_shard(text: str) -> Shard:
    """`2/8` as a shard.

    Raises:
        UsageError: not two numbers, or no such part.
    """
    match = re.fullmatch(r"([0-9]{1,4})/([0-9]{1,4})", text)
    if match is None:
        raise UsageError(f'--shard: invalid part "{text}"; write e.g. 2/8')
    number, of = int(match[1]), int(match[2])
    if not 1 <= number <= of:
        raise UsageError(f"--shard: there is no part {number} of {of}; write 1/{max(of, 1)}")
    return Shard(number=number, of=of)


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which cells of the matrix are selected; fields are named as the options."""

    mcore: str | None = None
    modelopt: str | None = None
    tags: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    stale: bool = False
    names: tuple[str, ...] | None = None
    shard: Shard = WHOLE


def selected(
    selection: Selection, context: Context, device: str | None = None
) -> tuple[CellStatus, ...]:
    """The state of every selected cell, on a device class (None: this machine's).

    Raises:
        UsageError: a tag or an outcome that does not exist, or no cell matches.
    """
    cells = combinations.select(
        known_cells(context),
        mcore=selection.mcore,
        modelopt=selection.modelopt,
        tags=selection.tags,
    )
    if selection.names is not None:
        cells = tuple(cell for cell in cells if cell.name in selection.names)
    states = plan.narrowed(
        survey(cells, context, device), only=selection.only, stale=selection.stale
    )
    if not states:
        words = " or ".join(selection.only)
        kinds = [words, "out of date"] if selection.stale else [words]
        said = " and ".join(filter(None, kinds)) or "of these names"
        context.say(f"no selected cell is {said}: nothing to run")
    chosen = tuple(state for state in states if selection.shard.holds(state.cell.name))
    if states and not chosen:
        shard = selection.shard
        context.say(f"none of {len(states)} cells is in part {shard.number}/{shard.of}")
    return chosen


def known_cells(context: Context) -> tuple[Cell, ...]:
    """The cells of the matrix, then others with a result: explored, or run by name."""
    declared = combinations.cells(context.matrix, context.releases)
    names = {cell.name for cell in declared}
    others = []
    for path in sorted(context.workspace.results.glob("compat-*")):
        if path.name not in names:
            with contextlib.suppress(UsageError):  # of a release that is no longer known
                others.append(pipeline.chosen(path.name, context))
    return (*declared, *(cell for cell in others if cell.name not in names))
