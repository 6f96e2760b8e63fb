"""Runs the exchange: a cell saves its checkpoints, another loads them, each in its environment, by
the suite's runner."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
from filelock import FileLock, Timeout

from mcore_compat.base import files
from mcore_compat.base.errors import InfrastructureError, ResultError
from mcore_compat.core.cells import Cell
from mcore_compat.core.workspace import Workspace
from mcore_compat.exchange import loading
from mcore_compat.exchange import transfer_results as results
from mcore_compat.exchange.plan import Pair
from mcore_compat.exchange.transfer_results import Answers
from mcore_compat.resolve.locks import Lock
from mcore_compat.results import store
from mcore_compat.results.result import CheckResult, Result, Source, empty_result, now, result_path
from mcore_compat.run import engine, machine, pipeline
from mcore_compat.run.check_sets import EXCHANGE
from mcore_compat.run.context import Context, Options
from mcore_compat.run.engine import Listener, ResolvedCell

SAVE_INTO = "MCORE_COMPAT_CHECKPOINTS"
LOAD_FROM = "MCORE_COMPAT_LOAD_FROM"
LOADED = "MCORE_COMPAT_LOADED"
"""Variables that the suite reads; as in `suite/exchange/kept.py` (a test compares them)."""

SAVED = "saved.json"


@dataclass(frozen=True, kw_only=True)
class Saved:
    """What a cell saved: how each save ended, by `family:kind`; `manifests`: the digest of all
    manifests; `contents`: of all files."""

    cell: str
    lock: str
    exchange: str
    device_class: str
    pins: Mapping[str, str]
    manifests: str
    contents: str
    answers: Answers


def digest(workspace: Workspace) -> str:
    """Digest of the exchange's checks and of the suite that they use."""
    return EXCHANGE.digest(workspace.suite)


def folder() -> Path:
    """The folder of the checkpoints, with a folder for each cell."""
    return files.home() / "checkpoints"


def manifests(kept: Path) -> str:
    """Digest of all manifests of a cell's checkpoints."""
    return files.sha256_tree(kept, "*/*/manifest.json")


def contents(kept: Path) -> str:
    """Digest of all files that a cell saved, so that disk damage is not published as a result."""
    whole = []
    for path in sorted(kept.glob("*/*/**/*")):
        if path.is_file():
            whole.append(f"{path.relative_to(kept).as_posix()} {files.sha256_file(path)}\n")
    return files.sha256_bytes("".join(whole).encode())


def kept(cell: Cell, lock: Lock, workspace: Workspace) -> Saved | None:
    """What the cell saved, if it is complete and of this lock and these checks."""
    path = folder() / cell.name / SAVED
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Saved)
    except (OSError, msgspec.MsgspecError):
        return None  # incomplete: saved again
    wanted = (lock.digest, digest(workspace), machine.device_class(), contents(path.parent))
    is_so = (found.lock, found.exchange, found.device_class, found.contents)
    return found if is_so == wanted else None


def save(cell: Cell, context: Context) -> Saved:
    """Let the cell save its checkpoints, which replace the earlier ones.

    Raises:
        CompatError: bad input, or an infrastructure error; then the cell counts as not saved.
    """
    ready = pipeline.resolved_cell(cell, context)
    into = folder() / cell.name
    # All of it: else a checkpoint that can no longer be saved would be loaded from an old file.
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    context.say(f"{cell.name} saves its checkpoints")
    result = _ask(ready, context, {SAVE_INTO: str(into)}, Listener())
    ended = {f"{c.family}:{c.kind.removeprefix('save-')}": c for c in result.checks}
    found = Saved(
        cell=cell.name,
        lock=ready.lock.digest,
        exchange=digest(context.workspace),
        device_class=result.device_class,
        pins=cell.pins,
        manifests=manifests(into),
        contents=contents(into),
        answers={name: results.kept(check) for name, check in sorted(ended.items())},
    )
    files.write_text(into / SAVED, files.dump_json(msgspec.to_builtins(found)))
    return found


def load(cell: Cell, pairs: Sequence[Pair], saved: Mapping[str, Saved], context: Context) -> None:
    """Let the cell load what others saved; the checks of each origin are stored once all have run.

    Raises:
        CompatError: as `save`; what was stored before stays.
    """
    ready = pipeline.resolved_cell(cell, context)
    state = Loading(stored(ready, context.workspace), {p.origin: p for p in pairs}, saved)
    words = loading.words(pairs, {name: one.answers for name, one in saved.items()})
    if words:

        def keep(result: CheckResult) -> None:
            if state.take(result):
                store.save(state.result, context.workspace.results)

        context.say(f"{cell.name} loads the checkpoints of {len(pairs)} cells")
        variables = {LOAD_FROM: str(folder()), LOADED: ",".join(words)}
        _ask(ready, context, variables, Listener(start=state.expect, check=keep))
    state.finish()
    store.save(state.result, context.workspace.results)


def stored(ready: ResolvedCell, workspace: Workspace) -> Result:
    """The cell's stored result; an empty one if that is out of date."""
    empty = _start(ready, workspace)
    path = path_of(ready.cell.name, workspace)
    result = store.load(path) if path.exists() else empty
    return result if (result.lock, result.suite) == (empty.lock, empty.suite) else empty


def path_of(cell: str, workspace: Workspace) -> Path:
    """The file of a cell's exchange result on this machine's device class."""
    return result_path(cell, machine.device_class(), workspace.results, EXCHANGE.name)


def _start(ready: ResolvedCell, workspace: Workspace) -> Result:
    begun = empty_result(
        ready.cell,
        device_class=machine.device_class(),
        suite=digest(workspace),
        check_set=EXCHANGE.name,
    )
    return ready.started(begun)


class Loading:
    """Collects the checks of one cell that loads, by the cell that saved."""

    def __init__(
        self, result: Result, pairs: Mapping[str, Pair], saved: Mapping[str, Saved]
    ) -> None:
        self.result = result
        self._pairs = pairs
        self._saved = saved
        self._open: dict[str, set[str]] = {}
        self._done: dict[str, dict[str, CheckResult]] = {}

    def expect(self, checks: Sequence[str]) -> None:
        """Note the checks that will run."""
        for name in checks:
            which = results.parsed(name)
            if which:
                self._open.setdefault(which[0], set()).add(name)

    def take(self, result: CheckResult) -> bool:
        """Take one check; whether all checks of its origin have run now."""
        which = results.parsed(result.check)
        if which is None:
            return False
        origin, key = which
        self._done.setdefault(origin, {})[key] = result
        self._open[origin].discard(result.check)
        if not self._open[origin]:
            self._store(origin)
        return not self._open[origin]

    def finish(self) -> None:
        """Store also the origins without a checkpoint to load."""
        for origin in self._pairs:
            if origin not in self._done:
                self._store(origin)

    def _store(self, origin: str) -> None:
        done, saved, pair = self._done.get(origin, {}), self._saved[origin], self._pairs[origin]
        wanted = loading.wanted(saved.answers, pair.ways)
        if wanted != {*done}:
            raise ResultError(
                f"the exchange cannot run: for {origin} the suite ran {sorted(done)}, not {wanted}"
            )
        source = Source(
            lock=saved.lock,
            manifests=saved.manifests,
            pins=saved.pins,
            taken=now(),
            ways=pair.ways,
        )
        checks = [*loading.not_saved(origin, saved.answers, pair.ways)]
        checks += map(results.kept, done.values())
        self.result = results.with_source(self.result, origin, source, checks)


@contextmanager
def alone() -> Iterator[None]:
    """A lock against other exchanges, which could overwrite what this one loads.

    Raises:
        InfrastructureError: another exchange is running.
    """
    folder().mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder().with_suffix(".run"), timeout=0):
            yield
    except Timeout:
        raise InfrastructureError("another exchange is running; wait until it ends") from None


def outdated(found: Sequence[Result], workspace: Workspace) -> list[str]:
    """Which results are out of date, in words."""
    names = {name for one in found for name in (one.cell, *one.sources)}
    paths = {name: workspace.lock(name) for name in names}
    locked = {name: files.sha256_file(path) for name, path in paths.items() if path.exists()}
    return results.outdated(found, digest(workspace), locked)


def _ask(
    ready: ResolvedCell, context: Context, variables: Mapping[str, str], listener: Listener
) -> Result:
    """Run the exchange's checks in the cell; raises as `engine.ask`."""
    with engine.place_of(ready, EXCHANGE, context) as place:
        place = replace(place, variables={**place.variables, **variables})
        return engine.ask(
            EXCHANGE, _start(ready, context.workspace), place, Options(), context, listener
        )
