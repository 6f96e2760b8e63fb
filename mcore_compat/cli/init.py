"""Create a workspace: a folder with the matrix, locks and results of this package. Cells can run
there, and their results are stored there, without a clone of the project."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from mcore_compat.core import workspace


def add_options(parser: ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument(
        "folder", type=Path, metavar="FOLDER", help="a new folder, or one without constraints/"
    )


def call(args: Namespace) -> int:
    """Create it; 0."""
    place = workspace.make(args.folder)
    print(
        f"created the workspace {args.folder} with all published results; in it: mcore-compat list"
    )
    print(f"or from anywhere: mcore-compat list --workspace {place.root}")
    return 0
