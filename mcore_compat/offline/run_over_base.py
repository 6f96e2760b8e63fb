"""Runs cells over the torch and TE of a Python on this machine, as a bundle does on another."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from mcore_compat.base import temporary
from mcore_compat.base.errors import InfrastructureError, UsageError
from mcore_compat.environments import scan
from mcore_compat.offline import archive, collection, packing
from mcore_compat.offline.node.overlay import NO_TORCH, BasePython, other_torch
from mcore_compat.resolve.resolution import Unresolvable
from mcore_compat.results.result import MAIN, Result
from mcore_compat.run import cells, pipeline
from mcore_compat.run.context import Context, Options

CURRENT = ("torch", "transformer-engine*")
"""The packages that `--base` uses from the existing Python."""


def run_over_base(
    names: Sequence[str], base: str, parts: Sequence[str], options: Options, context: Context
) -> int:
    """Run cells, or `parts` of the suite in them, over the torch and TE of a Python (`current`: the
    one that runs this program): makes a bundle in a temporary folder, runs it as on another
    machine, and imports its results. Returns 0 if each is compatible for the profile.

    Raises:
        CompatError: as `fitting` and `bundle_files`, or the error of the bundle's run.
    """
    python = sys.executable if base == "current" else shutil.which(base)
    if python is None:
        raise UsageError(
            f"--base: {base} is not a Python interpreter; give the path of one, or current"
        )
    without = fitting(names, Path(python), context)
    with temporary.folder() as folder:
        choices = {n: packing.PackingOptions(without=names) for n, names in without.items()}
        archive.lay_out(packing.bundle_files(choices, context), folder)
        argv: list[str | Path] = [python, folder / "run.py", "--base", "current"]
        argv += () if options.limit is None else ("--limit", str(options.limit))
        argv += ("--only", options.only) if options.only else ()
        argv += [f"--{part}" for part in parts]
        run = context.run(argv, timeout=24 * 3600.0, on_line=context.say, grace=30.0)
        # Also after an early end: keep the results so far.
        learnt = any(folder.glob("results/*/*.json"))
        results = collection.take_back([folder], context.workspace) if learnt else []
        if not run.ok:
            last = (run.output.strip().splitlines() or ["it printed nothing"])[-1]
            kind = UsageError if run.returncode == UsageError.exit_code else InfrastructureError
            raise kind(last.removeprefix("run.py: "))
        return cells.together([_code(result, context) for result in results])


def fitting(names: Sequence[str], python: Path, context: Context) -> dict[str, tuple[str, ...]]:
    """By cell, the packages to leave out of a bundle that runs over `python`: torch, TE and, if it
    has another torch than the cell, packages compiled for the cell's torch. Builds nothing.

    Raises:
        UsageError: it has no torch or no TE, or not the Python version of a cell.
    """
    try:
        there = scan.inspect(python, context.run)
    except UsageError:
        raise UsageError(f"--base: {python} is not a working Python interpreter") from None
    if "torch" not in there.versions:
        raise UsageError(f"--base: {NO_TORCH}")
    if not any(name.startswith("transformer-engine") for name in there.versions):
        raise UsageError("--base: this Python has no transformer-engine; use one that has it")
    series = there.python.rpartition(".")[0]
    base = BasePython(installed=there.versions, cuda=there.cuda)
    without: dict[str, tuple[str, ...]] = {}
    for cell in (pipeline.chosen(name, context) for name in names):
        if cell.python != series:
            raise UsageError(
                f"--base: {python} is {series}, but {cell.name} needs {cell.python}; name the "
                f"cell with -py{series}"
            )
        without[cell.name] = CURRENT
        lock = pipeline.lock_of(cell, context)
        if not isinstance(lock, Unresolvable) and other_torch(base, cell.torch, cell.cuda):
            without[cell.name] += tuple(pin.name for pin in lock.source_only)
    return without


def _code(result: Result, context: Context) -> int:
    """The exit code of a result: for the verdict, or for a part of the suite."""
    whole = result.check_set == MAIN and result.complete
    return cells.verdict_code(result, context) if whole else cells.part_code(result)
