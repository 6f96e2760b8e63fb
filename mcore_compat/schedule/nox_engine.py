"""Many cells: select them, plan, run them on nox's parallel engine, say how far it is."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from mcore_compat.base import files
from mcore_compat.base.errors import CompatError, InfrastructureError, UsageError
from mcore_compat.core import combinations
from mcore_compat.core.cells import Cell
from mcore_compat.environments import wheelhouse
from mcore_compat.resolve.locks import Unresolvable
from mcore_compat.results import evidence
from mcore_compat.run import pipeline
from mcore_compat.run.context import Context, Options
from mcore_compat.schedule import plan, shards
from mcore_compat.schedule.nox_sessions import PLAN
from mcore_compat.schedule.plan import Known, Plan, Progress
from mcore_compat.schedule.shards import Shard
from mcore_compat.schedule.survey import survey

LIMIT_S = 7 * 24 * 3600.0
EVERY_S = 20.0
ROUNDS = 2
"""How often a cell is tried whose surroundings failed."""

GRACE_S = 20.0

RESOLVERS = 12
"""Resolving mostly waits for the index: so many at a time, whatever the number of cores."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which cells of the matrix are meant; the same words everywhere."""

    mcore: str | None = None
    modelopt: str | None = None
    tags: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    stale: bool = False
    names: tuple[str, ...] | None = None
    shard: Shard = shards.WHOLE


def selected(
    selection: Selection, context: Context, device: str | None = None
) -> tuple[Known, ...]:
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
    known = plan.narrowed(
        survey(cells, context, device), only=selection.only, stale=selection.stale
    )
    if not known and selection.only:
        stale = " and stale" if selection.stale else ""
        context.say(f"no selected cell is {' or '.join(selection.only)}{stale}: nothing to run")
    return tuple(k for k in known if selection.shard.holds(k.cell.name))


def known_cells(context: Context) -> tuple[Cell, ...]:
    """The cells of the matrix, then the others that have evidence: explored, or run by name."""
    declared = combinations.cells(context.matrix, context.releases)
    names = {cell.name for cell in declared}
    others = []
    for path in sorted(evidence.FOLDER.glob("compat-*")):
        if path.name not in names:
            with contextlib.suppress(UsageError):  # of a release that is not known any more
                others.append(pipeline.chosen(path.name, context))
    return (*declared, *(cell for cell in others if cell.name not in names))


def recorded_builds(folder: Path | None = None) -> dict[str, float]:
    """By package: the longest build that the wheelhouse remembers, in seconds."""
    found: dict[str, float] = {}
    for path in (folder or wheelhouse.folder()).glob("*/build.json"):
        try:
            seconds = float(json.loads(path.read_text())["seconds"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
        package = plan.package_of(path.parent.name)
        found[package] = max(found.get(package, 0.0), seconds)
    return found


def describe(made: Plan, jobs: int) -> Iterator[str]:
    """The plan and its cost, line by line."""
    for known in made.todo:
        first = f"; builds first: {', '.join(known.missing)}" if known.missing else ""
        yield f"{known.cell.name}: {known.state}{first}"
    yield f"{len(made.todo)} cells to run, {len(made.fresh)} fresh"
    if made.todo:
        unlocked = sum(not pipeline.locked(k.cell) for k in made.todo)
        if unlocked:
            said = "have no lock of their newest patches yet: resolved first, about 2 s each"
            yield f"{unlocked} of them {said}"
        yield f"builds: {len(made.builds)}"
        yield f"disk for environments: at most {made.disk_gb():.1f} GB"
        yield (
            f"time: about {made.minutes(jobs, recorded_builds()):.0f} min, {jobs} at a time; "
            "downloads on a cold cache come on top"
        )


def resolve(todo: Sequence[Known], context: Context) -> None:
    """Make the locks that are missing or of an older patch; what cannot be resolved gets its
    evidence here and now."""

    def one(cell: Cell) -> None:
        if pipeline.lock_path(cell).exists():  # of an older patch: it stays on its stack
            cell = pipeline.chosen(cell.name, context)
        made = pipeline.lock_of(cell, context)
        if isinstance(made, Unresolvable):
            pipeline.run_cell(cell.name, Options(), context)

    bare = [known.cell for known in todo if not pipeline.locked(known.cell)]
    if bare:
        context.say(f"resolving {len(bare)} cells")
    quiet = replace(context, say=lambda line: None)
    with ThreadPoolExecutor(max_workers=RESOLVERS) as pool:
        for number, _ in enumerate(
            pool.map(lambda cell: one_or_nothing(one, cell, quiet), bare), start=1
        ):
            if number % 20 == 0:
                context.say(f"  {number} of {len(bare)} resolved")


def one_or_nothing(one: object, cell: Cell, context: Context) -> None:
    """Resolve one cell; where the index does not answer, its own run will say so."""
    try:
        one(cell)  # type: ignore[operator]
    except InfrastructureError as error:
        context.say(str(error))


def run(selection: Selection, context: Context, *, jobs: int, force: bool) -> tuple[Known, ...]:
    """Run what is meant and not fresh; the state of every cell that is meant, afterwards.

    Raises:
        CompatError: bad input; what a cell comes to is no error here.
        KeyboardInterrupt: nox and everything below it was ended; the next run goes on.
    """
    return run_known(selected(selection, context), context, jobs=jobs, force=force)


def run_known(
    meant: Sequence[Known], context: Context, *, jobs: int, force: bool
) -> tuple[Known, ...]:
    """Run those cells that are not fresh; as `run`."""
    cells = [known.cell for known in meant]
    for attempt in range(ROUNDS):
        todo = plan.make(meant, force=force and attempt == 0)
        if not todo.todo:
            break
        resolve(todo.todo, context)
        meant = survey(cells, context)
        made = plan.make(meant, force=force and attempt == 0)
        if made.todo:
            if attempt:
                context.say(f"once more: {len(made.todo)} cells whose surroundings failed")
            _nox(made, context, jobs=jobs, force=force and attempt == 0)
        meant = survey(cells, context)
    return tuple(meant)


def builders(todo: Sequence[Known]) -> dict[str, str]:
    """By key of a wheel that is missing: the first cell that needs it, which builds it for all."""
    found: dict[str, str] = {}
    for known in todo:
        for key in known.missing:
            found.setdefault(key, known.cell.name)
    return found


def _nox(made: Plan, context: Context, *, jobs: int, force: bool) -> None:
    path = files.home() / f"plan-{os.getpid()}.json"
    data = {
        "owner": os.getpid(),
        "builds": [
            {"key": key, "cell": cell, "package": plan.package_of(key)}
            for key, cell in sorted(builders(made.todo).items())
        ],
        "requires": {k.cell.name: list(k.missing) for k in made.todo if k.missing},
    }
    files.write_text(path, files.dump_json(data))
    names = [known.cell.name for known in made.todo]
    argv: list[str | Path] = [sys.executable, "-m", "nox", "-j", str(jobs), "-s", *names]
    argv += ["--", "--force"] if force else []
    try:
        with _watched(names, context, jobs, time.time()):
            context.run(
                argv,
                timeout=LIMIT_S,
                env={**os.environ, PLAN: str(path), "PYTHONUNBUFFERED": "1"},
                cwd=files.ROOT,
                log=files.home() / "logs" / "matrix.log",
                grace=GRACE_S,
            )
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def _watched(names: Sequence[str], context: Context, jobs: int, since: float) -> Iterator[None]:
    """Say every `EVERY_S` seconds how far the cells `names` are."""
    ended = threading.Event()
    (files.home() / "logs").mkdir(parents=True, exist_ok=True)

    def watch() -> None:
        said: set[str] = set()
        while not ended.wait(EVERY_S):
            say_progress(names, context, jobs, since, said)

    context.say(f"running {len(names)} cells, {jobs} at a time")
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        say_progress(names, context, 0, since, set())


def say_progress(
    names: Sequence[str], context: Context, jobs: int, since: float, said: set[str]
) -> None:
    """One line, where it differs from what was `said` in all but the time to go."""
    outcomes = finished(names, since)
    progress = Progress(
        done=len(outcomes),
        total=len(names),
        running=min(jobs, len(names) - len(outcomes)),
        seconds=time.time() - since,
        outcomes=Counter(outcomes.values()),
    )
    line = progress.line()
    if line not in said:
        said.add(line)
        context.say(f"  {line}")


def finished(names: Sequence[str], since: float) -> Mapping[str, str]:
    """By cell: the outcome of those whose evidence was completed after `since`."""
    found: dict[str, str] = {}
    for name in names:
        path = evidence.path_of(name, pipeline.device_class())
        try:
            if path.stat().st_mtime < since:
                continue
            one = evidence.load(path, whole=False)
        except (OSError, CompatError):
            continue
        if one.complete:
            found[name] = one.outcome.value
    return found
