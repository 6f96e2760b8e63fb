"""Find the first release at which a check changes, running as few cells as can be. All other axes
are held as in --good; between two cells on the default stacks of their megatron-core series, the
stack moves with the series, and --hold keeps parts of it. Where two cells differ in Transformer
Engine and torch, both move together, as stacks do, and which of the two decides is said. Between
two containers, the tested cells that stand for them are looked at."""

from argparse import ArgumentParser, Namespace

from mcore_compat.cli import options
from mcore_compat.schedule import bisection

ANSWERS = "0 answered, 1 only a range, or more than one change"


def add_options(parser: ArgumentParser) -> None:
    """What the command takes."""
    options.cell(parser, "--good", help="in which the check works")
    options.cell(parser, "--bad", help="in which it fails")
    options.containers(parser, "in which the check works", "in which it fails")
    parser.add_argument(
        "--check",
        required=True,
        metavar="CHECK",
        help="id or glob, e.g. 'restore*', or a feature, e.g. quantize:fp8",
    )
    parser.add_argument(
        "--axis",
        metavar="AXIS",
        help="where they differ in more than one; stack: TE and torch together; or any package",
    )
    parser.add_argument(
        "--hold", metavar="AXES", help="te, torch, python: do not move with the series"
    )
    parser.add_argument(
        "--patches", action="store_true", help="every patch release, not each series' newest"
    )
    parser.add_argument(
        "--stale", action="store_true", help="evidence that is not fresh counts, too, and says so"
    )
    parser.add_argument(
        "--defaults",
        action="store_true",
        help="what works only under a condition counts as failing",
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--dry-run", action="store_true", help="what is known, what would be run")
    how.add_argument("--no-run", action="store_true", help="what is known must do")
    options.te_extension(parser)
    options.limit(parser)
    options.choice(parser, "--format", ("text", "json"), default="text", help="default: text")


def call(args: Namespace) -> int:
    """Bisect and print the answer; 0 where it is one release."""
    return bisection.run(args)
