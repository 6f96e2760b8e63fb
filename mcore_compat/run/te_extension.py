"""Which torch extension of Transformer Engine a cell runs with: the real one, or a stand-in.

One rule for all commands: the one of `--te-extension`; else the real one if its wheel is in the
wheelhouse or a GPU is visible; else the stand-in, which takes a second instead of a build.

A cell has one result for each device class and check set. A result with the real extension replaces
one with the stand-in; the reverse only if the former is out of date or `--te-extension` asks for
the stand-in.
"""

from __future__ import annotations

from collections.abc import Iterable

from mcore_compat.base.errors import UsageError
from mcore_compat.core import combinations
from mcore_compat.core.cells import Cell
from mcore_compat.environments import toolkits, wheelhouse
from mcore_compat.environments.te_extension.wheel import PACKAGE
from mcore_compat.resolve.locks import Lock
from mcore_compat.results.result import REAL, STAND_IN, Result
from mcore_compat.run import machine
from mcore_compat.run.context import Context


def chosen(cell: Cell, lock: Lock, context: Context) -> str:
    """The extension that the cell runs with here.

    Raises:
        UsageError: the stand-in is asked for on a machine with a GPU.
    """
    asked = context.te_extension
    pin = next((pin for pin in lock.source_only if pin.name == PACKAGE), None)
    if machine.device_class() == "gpu" and asked == STAND_IN:
        raise UsageError(
            "--te-extension: the stand-in has no kernels for the GPU of this machine; use real"
        )
    if asked or pin is None or machine.device_class() == "gpu":
        return asked or REAL
    if any(wheelhouse.lookup(key) for key in wheelhouse.keys_of(pin, cell)):
        return REAL
    context.say(
        f"{cell.name}: using a stand-in without kernels for {PACKAGE} {pin.version}, which is not "
        "in the wheelhouse; --te-extension real builds it, in minutes"
    )
    return STAND_IN


def gives_way(stored: Result | None, result: Result, context: Context, *, holds: bool) -> bool:
    """Whether a stored result is replaced by another of the same cell and check set; `holds`: the
    stored one is up to date, and ran again only because of `--force`."""
    real = stored is not None and stored.te_extension == REAL and bool(stored.checks)
    return not (
        real and holds and result.te_extension == STAND_IN and context.te_extension != STAND_IN
    )


def buildable(cells: Iterable[Cell], context: Context) -> set[str]:
    """The names of the cells whose real extension this machine can build: a release with CUDA
    sources needs the nvcc of its torch's CUDA version."""
    there = {toolkit.version for toolkit in toolkits.found(context.run)}
    return {
        cell.name
        for cell in cells
        if not context.matrix.needs_nvcc(PACKAGE, cell.te)
        or combinations.cuda_of(cell.torch, context.matrix, context.releases) in there
    }
