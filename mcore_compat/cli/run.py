"""Run cells on this machine: lock, build what is source-only, install, ask every check, print the
verdict and what is otherwise than published. A second time it says that nothing changed. The result
is kept in own-results/; with --publish it takes the place of the published one."""

from argparse import ArgumentParser, Namespace

from mcore_compat.cli import options
from mcore_compat.cli.registry import VERDICT

ANSWERS = VERDICT


def add_options(parser: ArgumentParser) -> None:
    """What the command takes."""
    options.cell(parser, "cells", nargs="+")
    options.running(parser)


def call(args: Namespace) -> int:
    """Run the cells; 0 where all are compatible for the profile."""
    return options.run_named(args.cells, args)
