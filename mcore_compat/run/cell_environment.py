"""A cell's lock and environment, for whoever runs checks of its own in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from mcore_compat.base import files
from mcore_compat.base.errors import InfrastructureError, UsageError
from mcore_compat.core.cells import Cell
from mcore_compat.environments import creation, interpreters
from mcore_compat.environments.wheelhouse import Unbuildable
from mcore_compat.resolve.locks import Lock, Unresolvable
from mcore_compat.run import pipeline
from mcore_compat.run.pipeline import Context


def lock_of(cell: Cell, context: Context) -> Lock:
    """The cell's lock, made where there is none.

    Raises:
        UsageError: the cell cannot be resolved.
        CompatError: as `pipeline.lock_of`.
    """
    lock = pipeline.lock_of(cell, context)
    if isinstance(lock, Unresolvable):
        raise UsageError(f"{cell.name} cannot be installed: {lock.reason}")
    return lock


@contextmanager
def environment_of(
    cell: Cell, lock: Lock, context: Context
) -> Iterator[tuple[creation.Environment, Path]]:
    """The cell's environment and the suite's tools; no other run uses it meanwhile.

    Raises:
        InfrastructureError: network or disk, or another run has it.
        UsageError: a wheel of it does not build.
    """
    python = interpreters.find(cell.python, context.run, context.uv)
    wheels = pipeline.wheels_of(cell, lock, python, context)
    if isinstance(wheels, Unbuildable):
        raise UsageError(f"{cell.name} cannot be built: {wheels.reason}")
    there = creation.ensure(
        cell, lock, wheels, python=python, uv=context.uv, run=context.run, say=context.say
    )
    tools = creation.tools(python=python, uv=context.uv, run=context.run, say=context.say)
    try:
        with FileLock(files.home() / "envs" / f"{cell.name}.run", timeout=0):
            yield there, tools
    except Timeout:
        raise InfrastructureError(f"{cell.name} is being run by another process") from None
