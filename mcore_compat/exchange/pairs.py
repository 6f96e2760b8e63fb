"""The pairs of cells that save and load, from the options, and which of them are up to date."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mcore_compat.analysis.bisect import release_line
from mcore_compat.base.errors import UsageError, nearest
from mcore_compat.core import combinations
from mcore_compat.core.cells import Cell, format_name, full_name, parse_name
from mcore_compat.core.workspace import Workspace
from mcore_compat.exchange import plan, run
from mcore_compat.exchange import transfer_results as results
from mcore_compat.exchange.plan import Pair
from mcore_compat.exchange.run import Saved
from mcore_compat.resolve import locks
from mcore_compat.results import store
from mcore_compat.run import pipeline
from mcore_compat.run.context import Context


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The options: which cells save, which load, and in which ways; empty: the default cells, all
    ways."""

    origins: Sequence[str] = ()
    targets: Sequence[str] = ()
    ways: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Work:
    """The selected pairs, those of them that are out of date (`todo`), and the cells that must save
    first; `cells` by name, and what each cell that saves has `kept` from before."""

    pairs: Sequence[Pair]
    todo: Sequence[Pair]
    saves: Sequence[str]
    cells: Mapping[str, Cell]
    kept: Mapping[str, Saved | None]


def work(asked: Asked, context: Context, *, force: bool = False) -> Work:
    """The selected pairs, and which of them must run; with `force`, all.

    Raises:
        UsageError: no such cell or way.
    """
    pairs = pairs_of(asked, context)
    cells = {name: pipeline.chosen(name, context) for p in pairs for name in (p.origin, p.target)}
    kept = {
        name: None if force else kept_of(cells[name], context.workspace)
        for name in {p.origin for p in pairs}
    }
    todo = [p for p in pairs if force or not is_fresh(p, cells, kept[p.origin], context.workspace)]
    saves = sorted({p.origin for p in todo if kept[p.origin] is None})
    return Work(pairs=pairs, todo=todo, saves=saves, cells=cells, kept=kept)


def pairs_of(asked: Asked, context: Context) -> tuple[Pair, ...]:
    """The selected pairs: of the named cells, else of the default ones.

    Raises:
        UsageError: no such cell or way.
    """
    for way in asked.ways:
        if way not in plan.WAYS:
            raise UsageError(f'--way: no such way "{way}"{nearest(way, plan.WAYS)}')
    named = [name_of(word, context) for word in (*asked.origins, *asked.targets)]
    declared = combinations.cells(context.matrix, context.releases)
    stored = store.load_all(context.workspace.results)
    if not named:
        return plan.only(plan.default(declared, stored, context.matrix), asked.ways)
    usual = [cell.name for cell in plan.representatives(declared, stored)]
    first, second = named[: len(asked.origins)], named[len(asked.origins) :]
    return plan.only(plan.joined(plan.between(first or usual, second or usual)), asked.ways)


def name_of(word: str, context: Context) -> str:
    """The name of a cell: full versions may be those of a tested cell that is named by its series.
    A cell that was tested under the given name keeps it.

    Raises:
        UsageError: no such cell.
    """
    name = combinations.named(full_name(word), context.matrix, context.releases).name
    asked = parse_name(name)
    if asked is None or (context.workspace.results / name).is_dir():
        return name
    usual = format_name(release_line.by_series(asked, context.releases))
    return combinations.named(usual, context.matrix, context.releases).name


def is_fresh(
    pair: Pair, cells: Mapping[str, Cell], kept: Saved | None, workspace: Workspace
) -> bool:
    """Whether the result of a pair is up to date: both locks, the checks, the checkpoints."""
    digests = [_lock_digest(cells[name], workspace) for name in (pair.target, pair.origin)]
    path = run.path_of(pair.target, workspace)
    if None in digests or not path.exists():
        return False
    result = store.load(path)
    if (result.lock, result.suite) != (digests[0], run.digest(workspace)):
        return False
    manifests = kept.manifests if kept else None
    return results.is_fresh(
        result, pair.origin, pair.ways, lock=str(digests[1]), manifests=manifests
    )


def _lock_digest(cell: Cell, workspace: Workspace) -> str | None:
    """The digest of the cell's lock; None if there is none of its newest patches."""
    locked = pipeline.locked(cell, workspace)
    return locks.read(workspace.lock(cell.name)).digest if locked else None


def kept_of(cell: Cell, workspace: Workspace) -> Saved | None:
    """The checkpoints of a cell, if they are up to date; reads all of them."""
    there = pipeline.locked(cell, workspace)
    return run.kept(cell, locks.read(workspace.lock(cell.name)), workspace) if there else None
