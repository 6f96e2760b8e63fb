"""Run cells: lock, build what is source-only, install, ask every check, store the result, print
the verdict. A second time it only says that nothing changed."""

from argparse import ArgumentParser, Namespace

from mcore_compat.cli import options
from mcore_compat.cli.registry import VERDICT

ANSWERS = VERDICT


def add_options(parser: ArgumentParser) -> None:
    """What the command takes."""
    options.cell(parser, "cells", nargs="+")
    options.running(parser)


def call(args: Namespace) -> int:
    """Run the cells; 0 where all are as expected."""
    return options.run_named(args.cells, args)
