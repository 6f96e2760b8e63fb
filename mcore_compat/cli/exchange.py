"""Save checkpoints in some cells, load them in others in every way that users do, and write the
report on checkpoints across releases. Runs only pairs whose result is out of date."""

from argparse import ArgumentParser, Namespace

from mcore_compat.cli import options
from mcore_compat.exchange import drive, pairs, plan
from mcore_compat.run.context import context

ANSWERS = "0 all pairs ran, whatever their outcome"


def add_options(parser: ArgumentParser) -> None:
    """What the command takes."""
    options.cell(
        parser,
        "--from",
        dest="origins",
        nargs="+",
        default=[],
        help="cells that save (default: those of the report)",
    )
    options.cell(
        parser,
        "--to",
        dest="targets",
        nargs="+",
        default=[],
        help="cells that load (default: those of the report)",
    )
    parser.add_argument(
        "--way",
        dest="ways",
        action="append",
        default=[],
        metavar="WAY",
        help="only this way to load; repeatable",
    )
    options.jobs(parser, 1)
    options.force(parser)
    parser.add_argument(
        "--dry-run", action="store_true", help="print what would run, and how long it takes"
    )


def call(args: Namespace) -> int:
    """Save and load what is out of date; 0 if all of it ran, whatever the outcome."""
    here = context()
    asked = pairs.Asked(origins=args.origins, targets=args.targets, ways=args.ways)
    work = pairs.work(asked, here, force=args.force)
    if args.dry_run:
        fresh = len(work.pairs) - len(work.todo)
        print("\n".join(plan.describe(work.todo, work.saves, fresh, args.jobs)))
        return 0
    failed = drive.exchange(work, here, tell=print, jobs=args.jobs)
    return max((error.exit_code for error in failed.values()), default=0)
