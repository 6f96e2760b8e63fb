"""Find the pin that repairs a cell: where a failure points at a package off the axes, the newest
release of that package with which it holds. The cell must have been run; releases are tried in an
environment of their own, and what is found is stored beside the result."""

from argparse import ArgumentParser, Namespace

from mcore_compat.cli import options
from mcore_compat.results.repairs import Repair
from mcore_compat.run.context import context
from mcore_compat.schedule import repairing

ANSWERS = "0 repaired, 1 nothing repairs it, or there is nothing to repair"


def add_options(parser: ArgumentParser) -> None:
    """What the command takes."""
    options.cell(parser)
    parser.add_argument(
        "--package", metavar="NAME", help="this one; default: the one that the failures point at"
    )
    parser.add_argument("--check", metavar="CHECK", help="id or glob; default: what fails")
    options.limit(parser)


def call(args: Namespace) -> int:
    """Find it and print it; 0 where it is found."""
    found = repairing.repair(args.cell, args.package, args.check, args.limit, context())
    print("\n".join(repairing.lines(found)) if isinstance(found, Repair) else found)
    return 0 if isinstance(found, Repair) else 1
