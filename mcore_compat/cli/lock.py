"""(Re)make the locks of cells: every package of the cell, pinned with hashes. Without names, of all
cells that have one, on the stack that each has."""

from argparse import ArgumentParser, Namespace

from mcore_compat.base.errors import UsageError
from mcore_compat.cli import options
from mcore_compat.core import combinations
from mcore_compat.resolve.resolution import Unresolvable
from mcore_compat.run import pipeline
from mcore_compat.run.context import context

ANSWERS = "0 all are made, 1 some cannot be resolved"


def add_options(parser: ArgumentParser) -> None:
    """What the command takes."""
    options.cell(parser, "cells", nargs="*", help=f"{options.CELL}; default: all with a lock")


def call(args: Namespace) -> int:
    """Make them; 1 where one cannot be resolved."""
    here = context()
    names = args.cells or sorted(path.stem for path in here.workspace.locks.glob("compat-*.txt"))
    if not names:
        raise UsageError("lock: no cell has a lock here; name one, e.g. 0.16-modelopt0.41")
    # All names first: a wrong one makes nothing.
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
