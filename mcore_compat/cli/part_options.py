"""`--ranks` and `--gpu` on the command line; light, for every command line is made with them."""

from __future__ import annotations

import argparse


def add(command: argparse.ArgumentParser) -> None:
    """Add the options to a command that runs cells."""
    command.add_argument(
        "--ranks", action="store_true", help="only the checks over two ranks: parallel sizes"
    )
    command.add_argument(
        "--gpu", action="store_true", help="only the GPU tier; with a GPU a whole run has both"
    )


def chosen(args: argparse.Namespace) -> tuple[str, ...]:
    """The names of the parts that are asked for."""
    return tuple(name for name in ("ranks", "gpu") if getattr(args, name))
