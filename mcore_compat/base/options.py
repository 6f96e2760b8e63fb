"""Options of the commands whose modules load much, apart from them: `--help` loads nothing."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

BISECT = """\
All other axes are held as in --good. Between two cells on the default stacks of their
megatron-core series, the stack moves with the series; --hold keeps parts of it.
exit codes: 0 answered, 1 only a range, or more than one change, 2 bad input, 3 failure of the
surroundings"""


def bisect(commands: Any) -> None:
    """Add the command `bisect` to the command line."""
    command = commands.add_parser(
        "bisect",
        help="the first release at which a check changes",
        description="The first release at which a check changes, running as few cells as can be.",
        epilog=BISECT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.add_argument("--good", required=True, metavar="CELL", help="in which the check works")
    command.add_argument("--bad", required=True, metavar="CELL", help="in which it fails")
    command.add_argument(
        "--check", required=True, metavar="CHECK", help="id or glob, e.g. 'restore*'"
    )
    command.add_argument("--axis", metavar="AXIS", help="where the cells differ in more than one")
    command.add_argument(
        "--hold", default="", metavar="AXES", help="te, torch, python: do not move with the series"
    )
    command.add_argument(
        "--patches", action="store_true", help="every patch release, not each series' newest"
    )
    command.add_argument(
        "--stale", action="store_true", help="evidence that is not fresh counts, too, and says so"
    )
    how = command.add_mutually_exclusive_group()
    how.add_argument("--dry-run", action="store_true", help="what is known, what would be run")
    how.add_argument("--no-run", action="store_true", help="what is known must do")
    command.add_argument(
        "--limit",
        type=float,
        metavar="S",
        help="most seconds a check may take (its own limit, or 120)",
    )
    command.add_argument("--format", choices=("text", "json"), default="text")


def doctor_run(command: argparse.ArgumentParser) -> None:
    """Add what `doctor --run` takes to the command `doctor`."""
    command.add_argument("--run", action="store_true", help="run the suite in it; minutes")
    command.add_argument(
        "--output", type=Path, metavar="FILE", help="where its evidence goes (compat-current.json)"
    )
    command.add_argument(
        "--only", metavar="WORDS", help="ids, kinds or families of checks; writes no evidence"
    )
    command.add_argument(
        "--limit",
        type=float,
        metavar="S",
        help="most seconds a check may take (its own limit, or 120)",
    )
