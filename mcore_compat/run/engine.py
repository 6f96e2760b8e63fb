"""The one engine: a check set, in an environment → a result.

Cells, parts of the suite, exchanges and foreign environments all use `ask`. A bundle has only the
standard library on its machine: it calls `runner.run_suite`, and `collect` makes results of the
events.
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
from mcore_compat.results.from_events import Builder
from mcore_compat.results.result import CheckResult, Result
from mcore_compat.run import gpu_slots, runner
from mcore_compat.run.check_sets import CheckSet
from mcore_compat.run.context import Context, Options
from mcore_compat.run.runner import SuiteEnvironment


@dataclass(frozen=True, kw_only=True)
class ResolvedCell:
    """A cell with its lock, its interpreter, and the wheels built here."""

    cell: Cell
    lock: Lock
    python: Path
    wheels: tuple[Wheel, ...]

    @property
    def digests(self) -> dict[str, str]:
        """The digests of its wheels, by file name."""
        return {wheel.path.name: wheel.sha256 for wheel in self.wheels}

    def started(self, base: Result) -> Result:
        """A started result, with the lock, wheels and TE extension of this cell."""
        real = not stand_in.stands_in(self.wheels)
        return replace(
            base,
            lock=self.lock.digest,
            wheels=self.digests,
            te_extension="real" if real else "stand-in",
        )


def _nothing(*_: object) -> None:
    """The default of a listener: does nothing."""


@dataclass(frozen=True, kw_only=True)
class Listener:
    """Functions that a run calls: `start` with the checks that will run, `check` with each that
    ended, and `so_far` with the result so far."""

    start: Callable[[Sequence[str]], None] = _nothing
    check: Callable[[CheckResult], None] = _nothing
    so_far: Callable[[Result], object] = _nothing


def ask(
    check_set: CheckSet,
    base: Result,
    place: SuiteEnvironment,
    options: Options,
    context: Context,
    listener: Listener | None = None,
    before: Result | None = None,
) -> Result:
    """Run a check set in an environment; `base`: the started result (`empty_result`).

    `before`: the stored result; a check that it has with another outcome, for the same lock and
    suite, runs again (see `run.confirmation`).

    Raises:
        ResultError: the checks cannot run, or something was broken on purpose.
        InfrastructureError: they did not run to the end, no device was free, or the machine failed;
            `listener` got all results until then.
    """
    suite, root = place.suite.parent, context.workspace.root
    builder, listener = Builder(base, [str(suite), str(root)]), listener or Listener()

    def take(event: Mapping[str, Any]) -> None:
        builder.take(event)
        if event.get("event") == "start":
            listener.start(event["checks"])
        if event.get("event") == "check":
            listener.check(builder.last)
            listener.so_far(builder.result())

    def intact() -> None:
        made = place.python.parent.parent
        # Only environments made here must be as installed.
        if made.parent == creation.environments():
            context.say(f"checking the environment of {place.name}: is every file as installed?")
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
    return builder.result()


def _known(before: Result | None, base: Result) -> dict[str, str]:
    """Outcome by check of the stored result, if it has the same lock and suite; else empty."""
    if before is None or (before.lock, before.suite) != (base.lock, base.suite):
        return {}
    return {check.check: check.outcome.value for check in before.checks}


@contextmanager
def place_of(
    resolved: ResolvedCell, check_set: CheckSet, context: Context, *, in_place: bool = False
) -> Iterator[SuiteEnvironment]:
    """The environment of a cell, created if it is missing, and locked against other runs.
    `in_place`: as for `creation.ensure`.

    Raises:
        InfrastructureError: network or disk, or another run uses it.
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
        # Two runs of one cell would write the same log.
        with FileLock(creation.environments() / f"{name}.run", timeout=0):
            yield SuiteEnvironment(
                name=name,
                python=environment.python,
                tools=tools,
                variables=environment.variables,
                suite=context.workspace.suite,
                logs=logs_of(name, check_set),
            )
        # Runs in the background: what is not stored yet, the next environment compiles itself.
        threading.Thread(target=bytecode.keep, args=(environment.site,)).start()
    except Timeout:
        raise InfrastructureError(f"{name} is being run by another process") from None


def tools_of(python: Path, context: Context) -> Path:
    """The packages that the suite needs beside those under test, in a separate folder.

    Raises:
        InfrastructureError: network or disk.
    """
    lock = context.workspace.suite_tools
    return creation.tools(lock, python=python, uv=context.uv, run=context.run, say=context.say)


def logs_of(name: str, check_set: CheckSet) -> Path:
    """The folder of the events and the log of a run."""
    return (
        files.home() / "logs" / (name if check_set.name == "main" else f"{name}.{check_set.name}")
    )
