"""Runs a part in a cell's environment, by the suite's runner."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mcore_compat.base import files
from mcore_compat.base.errors import EvidenceError, InfrastructureError
from mcore_compat.core.cells import Cell
from mcore_compat.resolve import locks
from mcore_compat.resolve.locks import Lock
from mcore_compat.results import evidence
from mcore_compat.results.from_events import Builder
from mcore_compat.run import gpu_slots, machine, pipeline, runner
from mcore_compat.run import part_results as results
from mcore_compat.run.cell_environment import environment_of, lock_of
from mcore_compat.run.check_sets import Part
from mcore_compat.run.part_results import Taken
from mcore_compat.run.pipeline import Context, Options


def kept(cell: Cell, part: Part) -> Taken | None:
    """The evidence of a part that still holds, None where there is none."""
    path = results.path_of(part, cell.name, pipeline.device_class())
    if not path.exists() or not pipeline.locked(cell):
        return None
    found = results.load(path)
    lock = locks.read(pipeline.lock_path(cell)).digest
    return found if found.fresh(lock=lock, digest=part.digest()) else None


def run(cell: Cell, part: Part, options: Options, context: Context) -> Taken:
    """Ask a part's checks in the cell. What was learnt is stored, also of a run that ends early
    or asks only some of the checks: as incomplete, which is never fresh.

    Raises:
        EvidenceError: the checks cannot run, or something was broken on purpose.
        InfrastructureError: they did not come to their end, or the surroundings failed.
        UsageError: the cell cannot be installed or built.
    """
    lock = lock_of(cell, context)
    device = pipeline.device_class()
    builder = Builder(
        evidence.start(cell, device_class=device, lock=lock.digest, suite=part.digest())
    )
    code = _asked(cell, part, lock, options, context, builder)
    if builder.problem:
        raise EvidenceError(f"{part.name} cannot run: {builder.problem.splitlines()[0]}")
    taken = _kept(builder, part, whole=not options.only)
    if not builder.evidence().complete:
        raise InfrastructureError(
            f"{part.name} ended early in {cell.name}, with exit code {code}; run it again"
        )
    return taken


def _kept(builder: Builder, part: Part, *, whole: bool) -> Taken:
    """What was learnt so far, which is stored: as incomplete unless the `whole` part was asked."""
    taken = results.of(builder.evidence(), part)
    taken = replace(taken, complete=taken.complete and whole)
    if taken.checks or taken.complete:
        results.save(taken, part)
    return taken


def _asked(
    cell: Cell, part: Part, lock: Lock, options: Options, context: Context, builder: Builder
) -> int | None:
    device_class = pipeline.device_class()
    watch = machine.Watch(device_class)

    def take(event: Mapping[str, Any]) -> None:
        watch.see(event)
        builder.take(event)
        if event.get("event") == "check":  # at once: whatever ends this process takes nothing away
            _kept(builder, part, whole=False)

    need, gpu = context.matrix.gpu_memory, device_class == "gpu"
    with (
        environment_of(cell, lock, context) as (there, tools),
        gpu_slots.slot(need, context.run, context.say, gpu=gpu, count=part.devices) as devices,
    ):
        context.say(f"running {part.name} in {cell.name}")
        done = runner.run_suite(
            python=there.python,
            tools=tools,
            variables={**there.variables, **devices},
            logs=files.home() / "logs" / f"{cell.name}.{part.name}",
            run=context.run,
            on_event=take,
            on_line=lambda line: context.say(f"  {line}"),
            only=options.only,
            check_limit=options.limit,
            checks=part.checks,
            limit=part.limit,
        )
    return done.returncode
