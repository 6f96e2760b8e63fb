"""Which torch extension of Transformer Engine a cell is run with: the real one, or its stand-in.

One rule for all commands: what `--te-extension` asks for; else the real one where its wheel is in
the wheelhouse, or a GPU is there to run its kernels; else the stand-in, which takes a second where
the real one takes a build.

A cell has one result for each device class and check set. One of the stand-in gives way to one of
the real extension; one of the real extension that still holds gives way to one of the stand-in only
where that was asked for.
"""

from __future__ import annotations

from collections.abc import Iterable

from mcore_compat.base.errors import UsageError
from mcore_compat.core import combinations
from mcore_compat.core.cells import Cell
from mcore_compat.environments import toolkits, wheelhouse
from mcore_compat.environments.te_extension.wheel import PACKAGE
from mcore_compat.resolve.locks import Lock
from mcore_compat.results.evidence import REAL, STAND_IN, Evidence
from mcore_compat.run import machine
from mcore_compat.run.context import Context


def chosen(cell: Cell, lock: Lock, context: Context) -> str:
    """The extension that the cell is run with here.

    Raises:
        UsageError: the stand-in is asked for where there is a GPU.
    """
    asked = context.te_extension
    pin = next((pin for pin in lock.source_only if pin.name == PACKAGE), None)
    if machine.device_class() == "gpu" and asked == STAND_IN:
        raise UsageError(
            "--te-extension: the stand-in has no kernels for the GPU of this machine; take real"
        )
    if asked or pin is None or machine.device_class() == "gpu":
        return asked or REAL
    if any(wheelhouse.lookup(key) for key in wheelhouse.keys_of(pin, cell)):
        return REAL
    context.say(
        f"{cell.name}: a stand-in without kernels takes the place of {PACKAGE} {pin.version}, "
        "which is in no wheelhouse here; --te-extension real builds it, in minutes"
    )
    return STAND_IN


def gives_way(stored: Evidence | None, result: Evidence, context: Context, *, holds: bool) -> bool:
    """Whether a stored result is replaced by another of the same cell and check set; `holds`:
    nothing but `--force` had it run again."""
    real = stored is not None and stored.te_extension == REAL and bool(stored.checks)
    return not (
        real and holds and result.te_extension == STAND_IN and context.te_extension != STAND_IN
    )


def buildable(cells: Iterable[Cell], context: Context) -> set[str]:
    """The names of those whose real extension this machine can build: a release with CUDA sources
    needs the nvcc of its torch's CUDA."""
    there = {toolkit.version for toolkit in toolkits.found(context.run)}
    return {
        cell.name
        for cell in cells
        if not context.matrix.needs_nvcc(PACKAGE, cell.te)
        or combinations.cuda_of(cell.torch, context.matrix, context.releases) in there
    }
