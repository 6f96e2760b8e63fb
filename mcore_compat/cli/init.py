"""Make a workspace: a folder with matrix, locks and results as they came with this package.
Cells run there, and their results are kept there, without a clone of the project."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from mcore_compat.core import workspace


def add_options(parser: ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="new, or without constraints/")


def call(args: Namespace) -> int:
    """Make it; 0."""
    place = workspace.make(args.folder)
    print(f"{args.folder} is a workspace, with all that is known so far; in it: mcore-compat list")
    print(f"or from anywhere: mcore-compat list --workspace {place.root}")
    return 0
