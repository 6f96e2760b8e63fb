"""Run cells on this machine: lock, build packages without wheels, install, run every check, print
the verdict and how it differs from the published one. If nothing changed since the last run, it
says so and runs nothing. It stores the result in own-results/, with --publish in reports/results."""

from argparse import ArgumentParser, Namespace

from mcore_compat.cli import options
from mcore_compat.cli.registry import VERDICT

ANSWERS = VERDICT


def add_options(parser: ArgumentParser) -> None:
    """What the command takes."""
    options.cell(parser, "cells", nargs="+")
    options.running(parser)


def call(args: Namespace) -> int:
    """Run the cells; 0 if all are compatible for the profile."""
    return options.run_named(args.cells, args)
