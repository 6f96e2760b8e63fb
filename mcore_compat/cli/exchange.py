"""The command `exchange`: loads what it needs, saves, loads, writes the report."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from mcore_compat.analysis.bisect import release_line as release_path
from mcore_compat.base import files, processes
from mcore_compat.base.errors import CompatError, InfrastructureError, UsageError, nearest
from mcore_compat.cli import commands
from mcore_compat.core import combinations
from mcore_compat.core.cells import Cell, format_name, full_name, parse_name
from mcore_compat.core.outcomes import CheckOutcome
from mcore_compat.exchange import evidence as results
from mcore_compat.exchange import plan, report, run
from mcore_compat.exchange.plan import Pair
from mcore_compat.exchange.run import Saved
from mcore_compat.resolve import locks
from mcore_compat.results import evidence
from mcore_compat.run import pipeline
from mcore_compat.run.pipeline import Context


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Which cells save, which load, and in which ways; empty: the default ones, all."""

    origins: Sequence[str] = ()
    targets: Sequence[str] = ()
    ways: Sequence[str] = ()


def exchange(asked: Asked, *, force: bool, dry_run: bool, jobs: int = 1) -> int:
    """Run the pairs that are not fresh, `jobs` cells at a time, and write the report; 0 where all
    of them could be asked.

    A checkpoint that does not come over is a finding, not a failure of this command.

    Raises:
        UsageError: a cell or a way that is none, or no job at all.
    """
    if jobs < 1:
        raise UsageError("-j: at least one cell at a time must run")
    here = commands.context()
    pairs = pairs_of(asked, here)
    cells = {name: pipeline.chosen(name, here) for p in pairs for name in (p.origin, p.target)}
    kept = {name: None if force else kept_of(cells[name]) for name in {p.origin for p in pairs}}
    todo = [p for p in pairs if force or not is_fresh(p, cells, kept[p.origin])]
    saves = sorted({p.origin for p in todo if kept[p.origin] is None})
    if dry_run:
        print("\n".join(plan.describe(todo, saves, len(pairs) - len(todo), jobs)))
        return 0
    failed: dict[str, CompatError] = {}
    if todo:
        with run.alone():
            _run(todo, saves, kept, cells, failed, here, jobs)
    found = results.load_all()
    for path, text in report.texts(found, run.outdated(found)).items():
        files.write_text(path, text)
        print(path.relative_to(files.ROOT))
    print("\n".join(_summary(pairs, found)))
    for name, error in failed.items():
        print(f"{name}: not done: {error}")
    return max((error.exit_code for error in failed.values()), default=0)


def _run(
    todo: Sequence[Pair],
    saves: Sequence[str],
    kept: Mapping[str, Saved | None],
    cells: Mapping[str, Cell],
    failed: dict[str, CompatError],
    here: Context,
    jobs: int,
) -> None:
    """Save, then load; what fails by cell is put into `failed`."""
    saved = {name: one for name, one in kept.items() if one is not None}

    def save(name: str) -> None:
        with _noted(name, failed, here):
            saved[name] = run.save(cells[name], _told(name, here, jobs))

    def load(name: str) -> None:
        mine = [p for p in todo if p.target == name and p.origin in saved]
        if mine:
            with _noted(name, failed, here):
                run.load(cells[name], mine, saved, _told(name, here, jobs))

    _each(save, saves, jobs)
    _each(load, sorted({p.target for p in todo}), jobs)


def _told(name: str, here: Context, jobs: int) -> Context:
    """Where several cells run at once, each line names its own."""
    return here if jobs == 1 else replace(here, say=lambda line: here.say(f"{name}: {line}"))


def _each(do: Callable[[str], None], names: Sequence[str], jobs: int) -> None:
    """Do it for each name, `jobs` at a time; the first that raises ends all others."""
    if jobs == 1:
        for name in names:
            do(name)
        return
    with ThreadPoolExecutor(jobs) as pool:
        running = [pool.submit(do, name) for name in names]
        try:
            for one in running:
                one.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            while not all(one.done() for one in running):
                processes.end_all()  # again and again: a thread may be about to start the next
                time.sleep(0.1)
            raise


def pairs_of(asked: Asked, here: Context) -> tuple[Pair, ...]:
    """The pairs that are meant: of the cells that are named, else of the default ones.

    Raises:
        UsageError: a name that is not a cell's, or a way that is none.
    """
    for way in asked.ways:
        if way not in plan.WAYS:
            raise UsageError(f'--way: no such way "{way}"{nearest(way, plan.WAYS)}')
    named = [name_of(word, here) for word in (*asked.origins, *asked.targets)]
    declared = combinations.cells(here.matrix, here.releases)
    found = evidence.load_all()
    if not named:
        return plan.only(plan.default(declared, found, here.matrix), asked.ways)
    usual = [cell.name for cell in plan.representatives(declared, found)]
    first, second = named[: len(asked.origins)], named[len(asked.origins) :]
    return plan.only(plan.joined(plan.between(first or usual, second or usual)), asked.ways)


def name_of(word: str, here: Context) -> str:
    """The name of the cell that is meant: full versions may be those of a tested cell, which is
    called by its series. A cell that was tested under the very name stays that.

    Raises:
        UsageError: it is not a cell's.
    """
    name = combinations.named(full_name(word), here.matrix, here.releases).name
    asked = parse_name(name)
    if asked is None or (evidence.FOLDER / name).is_dir():
        return name
    usual = format_name(release_path.by_series(asked, here.releases))
    return combinations.named(usual, here.matrix, here.releases).name


def is_fresh(pair: Pair, cells: Mapping[str, Cell], kept: Saved | None) -> bool:
    """Whether the evidence of a pair still holds: both locks, the checks, the checkpoints."""
    digests = [_lock_digest(cells[name]) for name in (pair.target, pair.origin)]
    path = results.path_of(pair.target, pipeline.device_class())
    if None in digests or not path.exists():
        return False
    found = results.load(path)
    if (found.lock, found.exchange) != (digests[0], run.digest()):
        return False
    manifests = kept.manifests if kept else None
    return found.fresh(pair.origin, pair.ways, lock=str(digests[1]), manifests=manifests)


def _lock_digest(cell: Cell) -> str | None:
    """The digest of the cell's lock; None where there is none of its newest patches."""
    return locks.read(pipeline.lock_path(cell)).digest if pipeline.locked(cell) else None


def kept_of(cell: Cell) -> Saved | None:
    """What a cell keeps, where that still holds; reads all of it."""
    there = pipeline.locked(cell)
    return run.kept(cell, locks.read(pipeline.lock_path(cell))) if there else None


@contextlib.contextmanager
def _noted(name: str, failed: dict[str, CompatError], here: Context) -> Iterator[None]:
    """One cell that cannot be run must not end all others; what it said is told at the end."""
    try:
        yield
    except CompatError as error:
        if error.exit_code not in (2, InfrastructureError.exit_code):
            raise
        here.say(f"{name}: {error}")
        failed[name] = error


def _summary(pairs: Sequence[Pair], found: Sequence[results.Exchanged]) -> Iterator[str]:
    """How the pairs that were meant ended, way by way."""
    by_cell = {one.cell: one for one in found if one.device_class == pipeline.device_class()}
    ended: dict[str, list[CheckOutcome]] = {way: [] for way in plan.WAYS}
    for pair in pairs:
        one = by_cell.get(pair.target)
        source = one.sources.get(pair.origin) if one else None
        for key, answer in source.answers.items() if source else ():
            if key.partition(":")[2] in pair.ways:
                ended[key.partition(":")[2]].append(answer.outcome)
    for way, outcomes in ended.items():
        counts = (f"{outcomes.count(o)} {o}" for o in CheckOutcome if o in outcomes)
        yield f"{way}: {', '.join(counts) or 'not asked'}"
