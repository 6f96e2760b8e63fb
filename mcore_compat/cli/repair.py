"""Find the pin that repairs a cell: if a failure points at a package other than megatron-core,
ModelOpt, TE and torch, the newest release of it with which the check works. The cell must have a
result. Releases are tried in a separate environment; a repair is stored beside the result."""

from argparse import ArgumentParser, Namespace

from mcore_compat.cli import options
from mcore_compat.results.repairs import Repair
from mcore_compat.run.context import context
from mcore_compat.schedule import repairing

ANSWERS = "0 a pin repairs it, 1 none does, or nothing fails"


def add_options(parser: ArgumentParser) -> None:
    """What the command takes."""
    options.cell(parser)
    parser.add_argument(
        "--package",
        metavar="NAME",
        help="try this package (default: the one that the failures point at)",
    )
    parser.add_argument(
        "--check", metavar="CHECK", help="repair this check: id or glob (default: all that fail)"
    )
    options.limit(parser)


def call(args: Namespace) -> int:
    """Find a repair and print it; 0 if there is one."""
    found = repairing.repair(args.cell, args.package, args.check, args.limit, context())
    print("\n".join(repairing.lines(found)) if isinstance(found, Repair) else found)
    return 0 if isinstance(found, Repair) else 1
