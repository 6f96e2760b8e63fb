"""Which cells are meant: of the matrix, by version, tag, last outcome and part of a run."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from mcore_compat.base.errors import UsageError
from mcore_compat.base.files import sha256_bytes
from mcore_compat.core import combinations
from mcore_compat.core.cells import Cell
from mcore_compat.run import pipeline
from mcore_compat.run.context import Context
from mcore_compat.schedule import plan
from mcore_compat.schedule.plan import CellState
from mcore_compat.schedule.survey import survey


@dataclass(frozen=True, kw_only=True)
class Shard:
    """The `number`-th of `of` parts of a run, counted from 1: each cell is in exactly one."""

    number: int
    of: int

    def holds(self, name: str) -> bool:
        """Whether a cell belongs here. By its name's digest, not by its place among the cells
        that are left: two machines that know of different evidence still share them out."""
        return int(sha256_bytes(name.encode())[:12], 16) % self.of == self.number - 1

    def part(self, names: Iterable[str]) -> tuple[str, ...]:
        """Those of `names` that belong here, in their order."""
        return tuple(name for name in names if self.holds(name))


WHOLE = Shard(number=1, of=1)


def parse_shard(text: str) -> Shard:
    """`2/8` as a shard.

    Raises:
        UsageError: not two numbers, or there is no such part.
    """
    match = re.fullmatch(r"([0-9]{1,4})/([0-9]{1,4})", text)
    if match is None:
        raise UsageError(f'--shard: "{text}" is not a part of a run; write e.g. 2/8')
    number, of = int(match[1]), int(match[2])
    if not 1 <= number <= of:
        raise UsageError(f"--shard: there is no part {number} of {of}; write 1/{max(of, 1)}")
    return Shard(number=number, of=of)


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which cells of the matrix are meant; the same words everywhere."""

    mcore: str | None = None
    modelopt: str | None = None
    tags: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    stale: bool = False
    names: tuple[str, ...] | None = None
    shard: Shard = WHOLE


def selected(
    selection: Selection, context: Context, device: str | None = None
) -> tuple[CellState, ...]:
    """The state of every cell that is meant, on a device class (None: this machine's).

    Raises:
        UsageError: a tag or an outcome that does not exist, or no cell is meant.
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
    if not states and selection.only:
        stale = " and stale" if selection.stale else ""
        context.say(f"no selected cell is {' or '.join(selection.only)}{stale}: nothing to run")
    return tuple(state for state in states if selection.shard.holds(state.cell.name))


def known_cells(context: Context) -> tuple[Cell, ...]:
    """The cells of the matrix, then the others that have evidence: explored, or run by name."""
    declared = combinations.cells(context.matrix, context.releases)
    names = {cell.name for cell in declared}
    others = []
    for path in sorted(context.workspace.results.glob("compat-*")):
        if path.name not in names:
            with contextlib.suppress(UsageError):  # of a release that is not known any more
                others.append(pipeline.chosen(path.name, context))
    return (*declared, *(cell for cell in others if cell.name not in names))
