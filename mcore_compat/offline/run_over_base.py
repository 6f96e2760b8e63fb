"""Cells over the torch and TE of a Python of this machine, as a bundle runs on another one."""

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
from mcore_compat.results.evidence import MAIN, Evidence
from mcore_compat.run import cells, pipeline
from mcore_compat.run.context import Context, Options

CURRENT = ("torch", "transformer-engine*")
"""What `--base` takes from the Python that it runs over."""


def run_over_base(
    names: Sequence[str], base: str, parts: Sequence[str], options: Options, context: Context
) -> int:
    """Run cells, or `parts` of the suite in them, over the torch and TE of a Python (`current`: the
    one that runs this): a bundle is laid out in a temporary folder, run there as on another
    machine, and its results taken back. 0 where each is compatible for the profile.

    Raises:
        CompatError: as `fitting` and `entries`, or as the bundle's run ended.
    """
    python = sys.executable if base == "current" else shutil.which(base)
    if python is None:
        raise UsageError(f"--base: {base} is no Python; give its path, or current")
    without = fitting(names, Path(python), context)
    with temporary.folder() as folder:
        choices = {n: packing.PackingOptions(without=names) for n, names in without.items()}
        archive.lay_out(packing.bundle_files(choices, context), folder)
        argv: list[str | Path] = [python, folder / "run.py", "--base", "current"]
        argv += () if options.limit is None else ("--limit", str(options.limit))
        argv += ("--only", options.only) if options.only else ()
        argv += [f"--{part}" for part in parts]
        run = context.run(argv, timeout=24 * 3600.0, on_line=context.say, grace=30.0)
        # Of one that ended early as well: what was learnt is kept.
        learnt = any(folder.glob("evidence/*/*.json"))
        results = collection.take_back([folder], context.workspace) if learnt else []
        if not run.ok:
            last = (run.output.strip().splitlines() or ["it printed nothing"])[-1]
            kind = UsageError if run.returncode == UsageError.exit_code else InfrastructureError
            raise kind(last.removeprefix("run.py: "))
        return cells.together([_code(result, context) for result in results])


def fitting(names: Sequence[str], python: Path, context: Context) -> dict[str, tuple[str, ...]]:
    """What a bundle to go over `python` is made without, by cell: torch, TE, and where that is
    another torch than the cell's, what would be compiled for the cell's. Builds nothing.

    Raises:
        UsageError: it has no torch or no TE, or is not the Python of a cell.
    """
    try:
        there = scan.inspect(python, context.run)
    except UsageError:
        raise UsageError(f"--base: {python} is no Python that runs") from None
    if "torch" not in there.versions:
        raise UsageError(f"--base: {NO_TORCH}")
    if not any(name.startswith("transformer-engine") for name in there.versions):
        raise UsageError("--base: this Python has no TE to go over; run it with one that has")
    series = there.python.rpartition(".")[0]
    base = BasePython(installed=there.versions, cuda=there.cuda)
    without: dict[str, tuple[str, ...]] = {}
    for cell in (pipeline.chosen(name, context) for name in names):
        if cell.python != series:
            raise UsageError(
                f"--base: {python} is {series}, {cell.name} is of {cell.python}; name the cell "
                f"with -py{series}"
            )
        without[cell.name] = CURRENT
        lock = pipeline.lock_of(cell, context)
        if not isinstance(lock, Unresolvable) and other_torch(base, cell.torch, cell.cuda):
            without[cell.name] += tuple(pin.name for pin in lock.source_only)
    return without


def _code(result: Evidence, context: Context) -> int:
    """The exit code of a result: of the verdict, or of a part of the suite."""
    whole = result.check_set == MAIN and result.complete
    return cells.verdict_code(result, context) if whole else cells.part_code(result)
