"""Take back what a bundle's runs showed on another machine: each file is verified, then stored
beside the results of this one."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from mcore_compat.offline.collection import take_back
from mcore_compat.run.context import context

ANSWERS = "0 all were taken, whatever they show"


def add_options(parser: ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument(
        "paths", nargs="+", type=Path, metavar="FILE|FOLDER", help="evidence, or what holds it"
    )


def call(args: Namespace) -> int:
    """Take results back; 0 where all were taken, whatever they show."""
    take_back(args.paths, context().workspace)
    return 0
