"""Store the results of a bundle's runs on another machine: verify each file, then store it beside
the results of this machine."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from mcore_compat.offline.collection import take_back
from mcore_compat.run.context import context

ANSWERS = "0 all results are stored, whatever their outcome"


def add_options(parser: ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument(
        "paths",
        nargs="+",
        type=Path,
        metavar="FILE|FOLDER",
        help="results, or a folder with results",
    )


def call(args: Namespace) -> int:
    """Verify and store results; 0 if all are stored."""
    take_back(args.paths, context().workspace)
    return 0
