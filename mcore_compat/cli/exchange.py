"""Load the checkpoints that other cells saved, in every way that a user has, and write the report
on checkpoints across releases."""

from argparse import ArgumentParser, Namespace

from mcore_compat.cli import options
from mcore_compat.exchange import drive, pairs, plan
from mcore_compat.run.context import context

ANSWERS = "0 all could be asked, whatever it showed"


def add_options(parser: ArgumentParser) -> None:
    """What the command takes."""
    options.cell(parser, "--from", dest="origins", nargs="+", default=[], help="cells that save")
    options.cell(parser, "--to", dest="targets", nargs="+", default=[], help="cells that load")
    parser.add_argument(
        "--way",
        dest="ways",
        action="append",
        default=[],
        metavar="WAY",
        help="only this; repeatable",
    )
    options.jobs(parser, 1)
    options.force(parser)
    parser.add_argument("--dry-run", action="store_true", help="print what would run, and its cost")


def call(args: Namespace) -> int:
    """Save and load what is not fresh; 0 where all of it could be asked, whatever it showed."""
    here = context()
    asked = pairs.Asked(origins=args.origins, targets=args.targets, ways=args.ways)
    work = pairs.work(asked, here, force=args.force)
    if args.dry_run:
        fresh = len(work.pairs) - len(work.todo)
        print("\n".join(plan.describe(work.todo, work.saves, fresh, args.jobs)))
        return 0
    failed = drive.exchange(work, here, tell=print, jobs=args.jobs)
    return max((error.exit_code for error in failed.values()), default=0)
