"""The command line of `upgrade`. Imports nothing heavy: every command builds all parsers."""

from __future__ import annotations

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any

DESCRIPTION = """\
From one cell to another: go, go with changes, or no, and why. Runs what is not fresh: both cells,
and the checkpoints of FROM loaded in both."""

EXIT_CODES = """\
exit codes: 0 go; 1 go with changes, or no; 2 bad input; 3 network, disk or another failure of the
surroundings (nothing is answered); 130 interrupted"""

FORMATS = ("terminal", "markdown", "json")


def add_parser(commands: Any) -> None:
    """Add the command to those of `mcore-compat`."""
    one: ArgumentParser = commands.add_parser(
        "upgrade",
        help="what an upgrade breaks, and whether checkpoints come over",
        description=DESCRIPTION,
        epilog=EXIT_CODES,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    one.add_argument(
        "origin", metavar="FROM", help="a cell, e.g. 0.9-modelopt0.21; current: what is installed"
    )
    one.add_argument("target", metavar="TO", help="a cell, e.g. 0.16-modelopt0.41")
    one.add_argument(
        "--no-run", action="store_true", help="answer from what is known; say what is stale"
    )
    one.add_argument(
        "--blame",
        action="store_true",
        help="run cells in between until it is known what is to blame",
    )
    one.add_argument(
        "--accept",
        action="append",
        default=[],
        metavar="CHECK",
        help="what may be lost: a check or a glob, e.g. 'modelopt-state-int4*'; repeatable",
    )
    one.add_argument(
        "--changes-ok", action="store_true", help="exit code 0 for go with changes, too"
    )
    one.add_argument("--format", choices=FORMATS, default=FORMATS[0], help="default: terminal")
    one.add_argument("--output", type=Path, metavar="FILE", help="write the answer there")
    one.add_argument(
        "--python", metavar="PATH", help="of current: its Python; default: the active environment's"
    )
    one.add_argument(
        "--device-class", choices=("host", "gpu"), help="of the evidence; default: this machine's"
    )
