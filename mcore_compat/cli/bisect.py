"""Find the first release at which a check changes, and run as few cells as possible for it. All
other axes stay as in --good. Only between two cells on default stacks does the stack change with
the megatron-core series; --hold keeps parts of it. If the two cells differ in Transformer Engine
and torch, both change together, and the answer says which of them decides. Between two containers,
it uses the tested cell nearest to each."""

from argparse import ArgumentParser, Namespace

from mcore_compat.cli import options
from mcore_compat.schedule import bisection

ANSWERS = "0 one release, 1 only a range, or more than one change"


def add_options(parser: ArgumentParser) -> None:
    """What the command takes."""
    options.cell(parser, "--good", help="cell in which the check works")
    options.cell(parser, "--bad", help="cell in which the check fails")
    options.containers(parser, "in which the check works", "in which the check fails")
    parser.add_argument(
        "--check",
        required=True,
        metavar="CHECK",
        help="id or glob, e.g. 'restore*', or a feature, e.g. quantize:fp8",
    )
    parser.add_argument(
        "--axis",
        metavar="AXIS",
        help="axis to bisect, if the cells differ in more than one; stack: TE and torch together; "
        "or any package",
    )
    parser.add_argument(
        "--hold",
        metavar="AXES",
        help="keep these (of te, torch, python) as in --good if the megatron-core series changes",
    )
    parser.add_argument(
        "--patches", action="store_true", help="test every patch release, not only each newest"
    )
    parser.add_argument(
        "--stale", action="store_true", help="use results that are out of date, too, and mark them"
    )
    parser.add_argument(
        "--defaults",
        action="store_true",
        help="count a check that works only under a condition as failing",
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--dry-run", action="store_true", help="print the known results and the cells to run"
    )
    how.add_argument(
        "--no-run", action="store_true", help="use published results only; run nothing"
    )
    options.te_extension(parser)
    options.limit(parser)
    options.choice(parser, "--format", ("text", "json"), default="text", help="default: text")


def call(args: Namespace) -> int:
    """Bisect and print the answer; return 0 if it is one release."""
    return bisection.run(args)
