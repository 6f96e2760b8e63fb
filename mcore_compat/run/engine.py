"""The one engine: a check set, in an environment → a result.

Cells, parts of the suite, exchanges and foreign environments all come through `ask`. A bundle on
its machine has the standard library alone: it calls `runner.run_suite` below it, and what that says
becomes a result where it is collected.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mcore_compat.base import files
from mcore_compat.base.errors import InfrastructureError
from mcore_compat.core.cells import Cell
from mcore_compat.environments import bytecode, creation
from mcore_compat.environments.te_extension import stand_in
from mcore_compat.environments.wheelhouse import Wheel
from mcore_compat.resolve.locks import Lock
from mcore_compat.results.evidence import CheckResult, Evidence
from mcore_compat.results.from_events import Builder
from mcore_compat.run import gpu_slots, runner
from mcore_compat.run.check_sets import CheckSet
from mcore_compat.run.context import Context, Options
from mcore_compat.run.runner import SuiteEnvironment


@dataclass(frozen=True, kw_only=True)
class ResolvedCell:
    """A cell with all that it is run with: its lock, the interpreter, the wheels built here."""

    cell: Cell
    lock: Lock
    python: Path
    wheels: tuple[Wheel, ...]

    @property
    def digests(self) -> dict[str, str]:
        """Of its wheels, by file name."""
        return {wheel.path.name: wheel.sha256 for wheel in self.wheels}

    def started(self, base: Evidence) -> Evidence:
        """A result that is begun, with what it will be run with."""
        real = not stand_in.stands_in(self.wheels)
        return replace(
            base,
            lock=self.lock.digest,
            wheels=self.digests,
            te_extension="real" if real else "stand-in",
        )


def _nothing(*_: object) -> None:
    """Where nobody wants to know."""


@dataclass(frozen=True, kw_only=True)
class Listener:
    """Who is told as a run goes on: `start` of the checks that will be asked, `check` of each that
    ended, and `so_far` of all that is known then."""

    start: Callable[[Sequence[str]], None] = _nothing
    check: Callable[[CheckResult], None] = _nothing
    so_far: Callable[[Evidence], object] = _nothing


def ask(
    check_set: CheckSet,
    base: Evidence,
    place: SuiteEnvironment,
    options: Options,
    context: Context,
    listener: Listener | None = None,
    before: Evidence | None = None,
) -> Evidence:
    """Ask a check set in an environment; `base` is what is known before (`evidence.start`).

    `before` is the result that is there: what it says of the same lock and suite, and this run says
    otherwise, is asked once more (see `run.confirmation`).

    Raises:
        EvidenceError: the checks cannot run, or something was broken on purpose.
        InfrastructureError: they did not come to their end, no device was free, or the machine
            failed; `listener` has had all that was known until then.
    """
    suite, root = place.suite.parent, context.workspace.root
    builder, listener = Builder(base, [str(suite), str(root)]), listener or Listener()

    def take(event: Mapping[str, Any]) -> None:
        builder.take(event)
        if event.get("event") == "start":
            listener.start(event["checks"])
        if event.get("event") == "check":
            listener.check(builder.last)
            listener.so_far(builder.evidence())

    def intact() -> None:
        made = place.python.parent.parent
        # Others are not made here, and may be as they like.
        if made.parent == creation.environments():
            context.say(f"reading the environment of {place.name}: is every file as installed?")
            creation.require_intact(made, context.uv, context.run)

    gpu, need = base.device_class == "gpu", context.matrix.gpu_memory
    with gpu_slots.slot(need, context.run, context.say, gpu=gpu, count=check_set.devices) as device:
        context.say(f"running {check_set.words} in {place.name}")
        runner.run_suite(
            check_set,
            replace(place, variables={**place.variables, **device}),
            run=context.run,
            say=context.say,
            on_event=take,
            device_class=base.device_class,
            only=options.only,
            check_limit=options.limit,
            known=_known(before, base),
            before_again=intact,
        )
    return builder.evidence()


def _known(before: Evidence | None, base: Evidence) -> dict[str, str]:
    """Outcome by check of the result that is there, where it is of the same lock and suite."""
    if before is None or (before.lock, before.suite) != (base.lock, base.suite):
        return {}
    return {check.check: check.outcome.value for check in before.checks}


@contextmanager
def place_of(
    resolved: ResolvedCell, check_set: CheckSet, context: Context, *, in_place: bool = False
) -> Iterator[SuiteEnvironment]:
    """The environment of a cell, made where it is not there; no other run uses it meanwhile.
    `in_place`: as `creation.ensure` has it.

    Raises:
        InfrastructureError: network or disk, or another run has it.
    """
    name, python = resolved.cell.name, resolved.python
    environment = creation.ensure(
        resolved.cell,
        resolved.lock,
        resolved.wheels,
        python=python,
        uv=context.uv,
        run=context.run,
        say=context.say,
        in_place=in_place,
    )
    tools = tools_of(python, context)
    try:
        # Two runs of one cell would write the same events.
        with FileLock(creation.environments() / f"{name}.run", timeout=0):
            yield SuiteEnvironment(
                name=name,
                python=environment.python,
                tools=tools,
                variables=environment.variables,
                suite=context.workspace.suite,
                logs=logs_of(name, check_set),
            )
        # Nobody waits for it: what is not kept yet, the next environment compiles by itself.
        threading.Thread(target=bytecode.keep, args=(environment.site,)).start()
    except Timeout:
        raise InfrastructureError(f"{name} is being run by another process") from None


def tools_of(python: Path, context: Context) -> Path:
    """What the suite needs beside the packages under test, in a folder of its own.

    Raises:
        InfrastructureError: network or disk.
    """
    lock = context.workspace.suite_tools
    return creation.tools(lock, python=python, uv=context.uv, run=context.run, say=context.say)


def logs_of(name: str, check_set: CheckSet) -> Path:
    """Where the events and the log of a run lie."""
    return (
        files.home() / "logs" / (name if check_set.name == "main" else f"{name}.{check_set.name}")
    )
