"""Create the locks of cells, or update them: every package of a cell, pinned with hashes. Without
names it updates all existing locks, each on the stack it has."""

from argparse import ArgumentParser, Namespace

from mcore_compat.base.errors import UsageError
from mcore_compat.cli import options
from mcore_compat.core import combinations
from mcore_compat.resolve.resolution import Unresolvable
from mcore_compat.run import pipeline
from mcore_compat.run.context import context

ANSWERS = "0 all are locked, 1 some cannot be resolved"


def add_options(parser: ArgumentParser) -> None:
    """What the command takes."""
    options.cell(parser, "cells", nargs="*", help=f"{options.CELL} (default: all with a lock)")


def call(args: Namespace) -> int:
    """Create them; 1 if one cannot be resolved."""
    here = context()
    names = args.cells or sorted(path.stem for path in here.workspace.locks.glob("compat-*.txt"))
    if not names:
        raise UsageError(
            "lock: there are no locks here to update; name a cell, e.g. 0.16-modelopt0.41"
        )
    # All names first, so that an invalid one leaves every lock as it is.
    cells = [combinations.named(name, here.matrix, here.releases) for name in names]
    code = 0
    for name, cell in zip(names, cells, strict=True):
        lock = pipeline.lock_of(
            cell if args.cells else pipeline.chosen(name, here), here, anew=True
        )
        if isinstance(lock, Unresolvable):
            print(f"{name}: unresolvable: {lock.reason}")
            code = 1
        else:
            print(f"{name}: {len(lock.pins) + len(lock.source_only)} packages, {lock.digest[:12]}")
    return code
