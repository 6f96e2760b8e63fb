"""Runs the exchange: a cell saves its checkpoints, another loads them. In each cell's environment,
by the suite's runner."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mcore_compat.base import files
from mcore_compat.base.errors import EvidenceError, InfrastructureError
from mcore_compat.core.cells import Cell
from mcore_compat.core.outcomes import FAILURES
from mcore_compat.exchange import evidence as results
from mcore_compat.exchange import loading
from mcore_compat.exchange.evidence import Answer, Exchanged
from mcore_compat.exchange.plan import Pair
from mcore_compat.resolve.locks import Lock
from mcore_compat.results import evidence
from mcore_compat.results.evidence import CheckResult, Failure
from mcore_compat.results.from_events import Builder
from mcore_compat.run import gpu_slots, machine, pipeline, runner
from mcore_compat.run.cell_environment import environment_of, lock_of
from mcore_compat.run.pipeline import Context

CHECKS = files.ROOT / "suite" / "exchange"

SAVE_INTO = "MCORE_COMPAT_CHECKPOINTS"
LOAD_FROM = "MCORE_COMPAT_LOAD_FROM"
LOADED = "MCORE_COMPAT_LOADED"
"""What the suite reads; the same names as in `suite/exchange/kept.py` (a test compares them)."""

SAVED = "saved.json"


@dataclass(frozen=True, kw_only=True)
class Saved:
    """What a cell kept: how each save ended, by `family:kind`; `manifests` is the digest of all
    manifests, `contents` of all files."""

    cell: str
    lock: str
    exchange: str
    device_class: str
    pins: Mapping[str, str]
    manifests: str
    contents: str
    answers: Mapping[str, Answer]
    failures: Mapping[str, Failure]


def digest() -> str:
    """Digest of the exchange's checks and of the suite that they are made of."""
    parts = (pipeline.suite_digest(), files.sha256_tree(CHECKS))
    return files.sha256_bytes("\n".join(parts).encode())


def folder() -> Path:
    """Where the cells' checkpoints lie, each cell's in a folder of its name."""
    return files.home() / "checkpoints"


def manifests(kept: Path) -> str:
    """Digest of all manifests of a cell's checkpoints."""
    return files.sha256_tree(kept, "*/*/manifest.json")


def contents(kept: Path) -> str:
    """Digest of all that a cell keeps, so that what a disk did to it is not taken for a finding."""
    whole = []
    for path in sorted(kept.glob("*/*/**/*")):
        if path.is_file():
            whole.append(f"{path.relative_to(kept).as_posix()} {files.sha256_file(path)}\n")
    return files.sha256_bytes("".join(whole).encode())


def kept(cell: Cell, lock: Lock) -> Saved | None:
    """What the cell kept, where that is whole and of this lock and these checks."""
    path = folder() / cell.name / SAVED
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        answers = {name: results.answered(said) for name, said in data.pop("answers").items()}
        failures = {name: Failure(**row) for name, row in data.pop("failures").items()}
        found = Saved(**data, answers=answers, failures=failures)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None  # what is not whole is saved again
    wanted = (lock.digest, digest(), pipeline.device_class(), contents(path.parent))
    is_so = (found.lock, found.exchange, found.device_class, found.contents)
    return found if is_so == wanted else None


def save(cell: Cell, context: Context) -> Saved:
    """Let the cell save its checkpoints, in the place of what it kept before.

    Raises:
        CompatError: bad input, or a failure of the surroundings; nothing is taken for kept then.
    """
    lock = lock_of(cell, context)
    into = folder() / cell.name
    # All of it: what cannot be saved any more would be loaded from what lies there.
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    builder = Builder(_base(cell, lock))
    context.say(f"{cell.name} saves its checkpoints")
    ask(cell, lock, context, builder, {SAVE_INTO: str(into)})
    ended = {f"{c.family}:{c.kind.removeprefix('save-')}": c for c in builder.evidence().checks}
    found = Saved(
        cell=cell.name,
        lock=lock.digest,
        exchange=digest(),
        device_class=builder.evidence().device_class,
        pins=cell.pins,
        manifests=manifests(into),
        contents=contents(into),
        answers={name: results.answer(c) for name, c in sorted(ended.items())},
        failures={c.failure.fingerprint: c.failure for c in ended.values() if c.failure},
    )
    files.write_text(into / SAVED, files.dump_json(_plain(found)))
    return found


def _plain(found: Saved) -> dict[str, Any]:
    data = asdict(found)
    for said in data["answers"].values():
        said["outcome"] = said["outcome"].value
    return data


def load(cell: Cell, pairs: Sequence[Pair], saved: Mapping[str, Saved], context: Context) -> None:
    """Let the cell load what others saved; each is stored as soon as all of it was asked.

    Raises:
        CompatError: as `save`; what was stored before stays.
    """
    lock = lock_of(cell, context)
    state = Loading(stored(cell, lock), {p.origin: p for p in pairs}, saved)
    words = loading.words(pairs, {name: one.answers for name, one in saved.items()})
    if words:
        builder = Builder(_base(cell, lock))

        def each(result: CheckResult) -> None:
            if state.take(result):
                results.save(state.found)

        context.say(f"{cell.name} loads the checkpoints of {len(pairs)} cells")
        variables = {LOAD_FROM: str(folder()), LOADED: ",".join(words)}
        ask(cell, lock, context, builder, variables, each, state.expect)
    state.finish()
    results.save(state.found)


def stored(cell: Cell, lock: Lock) -> Exchanged:
    """What the cell loaded before, without what no longer holds."""
    device = pipeline.device_class()
    path = results.path_of(cell.name, device)
    found = results.load(path) if path.exists() else None
    if found is not None and (found.lock, found.exchange) == (lock.digest, digest()):
        return found
    return Exchanged(
        cell=cell.name, device_class=device, pins=cell.pins, lock=lock.digest, exchange=digest()
    )


class Loading:
    """Collects the checks of one cell that loads, by the cell that saved."""

    def __init__(
        self, found: Exchanged, pairs: Mapping[str, Pair], saved: Mapping[str, Saved]
    ) -> None:
        self.found = found
        self._pairs = pairs
        self._saved = saved
        self._open: dict[str, set[str]] = {}
        self._done: dict[str, dict[str, CheckResult]] = {}

    def expect(self, checks: Sequence[str]) -> None:
        """The checks that will be asked."""
        for name in checks:
            which = loading.parsed(name)
            if which:
                self._open.setdefault(which[0], set()).add(name)

    def take(self, result: CheckResult) -> bool:
        """Take one check; whether all of one cell's checkpoints were asked now."""
        which = loading.parsed(result.check)
        if which is None:
            return False
        origin, key = which
        self._done.setdefault(origin, {})[key] = result
        self._open[origin].discard(result.check)
        if not self._open[origin]:
            self._store(origin)
        return not self._open[origin]

    def finish(self) -> None:
        """Store also the cells that kept nothing which could be asked."""
        for origin in self._pairs:
            if origin not in self._done:
                self._store(origin)

    def _store(self, origin: str) -> None:
        done, saved, pair = self._done.get(origin, {}), self._saved[origin], self._pairs[origin]
        wanted = loading.wanted(saved.answers, pair.ways)
        if wanted != {*done}:
            raise EvidenceError(
                f"the exchange cannot run: of {origin} it asked {sorted(done)}, not {wanted}"
            )
        source = results.Source(
            lock=saved.lock,
            manifests=saved.manifests,
            pins=saved.pins,
            taken=evidence.now(),
            ways=pair.ways,
            answers={
                **loading.not_saved(saved.answers, pair.ways),
                **{key: results.answer(result) for key, result in sorted(done.items())},
            },
        )
        failures = [c.failure for c in done.values() if c.failure and c.outcome in FAILURES]
        failures += saved.failures.values()
        self.found = results.with_source(self.found, origin, source, failures)


@contextmanager
def alone() -> Iterator[None]:
    """No other exchange meanwhile: it could save anew what this one loads.

    Raises:
        InfrastructureError: there is one.
    """
    folder().mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder().with_suffix(".run"), timeout=0):
            yield
    except Timeout:
        raise InfrastructureError("another exchange is running") from None


def outdated(found: Sequence[Exchanged]) -> list[str]:
    """What of it does not hold any more, in words."""
    names = {name for one in found for name in (one.cell, *one.sources)}
    paths = {name: files.ROOT / "constraints" / "locks" / f"{name}.txt" for name in names}
    locked = {name: files.sha256_file(path) for name, path in paths.items() if path.exists()}
    return results.outdated(found, digest(), locked)


def _base(cell: Cell, lock: Lock) -> evidence.Evidence:
    device = pipeline.device_class()
    return evidence.start(cell, device_class=device, lock=lock.digest, suite=digest())


def ask(
    cell: Cell,
    lock: Lock,
    context: Context,
    builder: Builder,
    variables: Mapping[str, str],
    each: Callable[[CheckResult], None] = lambda result: None,
    expect: Callable[[Sequence[str]], None] = lambda checks: None,
) -> None:
    """Run the exchange's checks in the cell; `each` gets every result.

    Raises:
        EvidenceError: the checks cannot run.
        InfrastructureError: they did not come to their end; `each` has had those that did.
    """

    watch = machine.Watch(pipeline.device_class())

    def take(event: Mapping[str, Any]) -> None:
        watch.see(event)
        builder.take(event)
        if event.get("event") == "start":
            expect(event["checks"])
        if event.get("event") == "check":
            each(builder.last)

    gpu, need = pipeline.device_class() == "gpu", context.matrix.gpu_memory
    with (
        environment_of(cell, lock, context) as (there, tools),
        gpu_slots.slot(need, context.run, context.say, gpu=gpu) as device,
    ):
        done = runner.run_suite(
            python=there.python,
            tools=tools,
            variables={**there.variables, **device, **variables},
            logs=files.home() / "logs" / f"{cell.name}.exchange",
            run=context.run,
            on_event=take,
            on_line=lambda line: context.say(f"  {line}"),
            checks=CHECKS,
        )
    if builder.problem:
        raise EvidenceError(f"the exchange cannot run: {builder.problem.splitlines()[0]}")
    if not builder.evidence().complete:
        raise InfrastructureError(
            f"the exchange ended early in {cell.name}, with exit code {done.returncode}; "
            "run it again to continue"
        )
