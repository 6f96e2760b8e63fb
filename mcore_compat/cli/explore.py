"""Run the untested TE and torch combinations most likely to change an answer, within a time
budget."""

from argparse import ArgumentParser, Namespace

from mcore_compat.cli import options
from mcore_compat.run.context import context
from mcore_compat.schedule import exploration_run


def add_options(parser: ArgumentParser) -> None:
    """What the command takes."""
    budget = exploration_run.minutes_of
    parser.add_argument(
        "--budget",
        type=budget,
        default="60m",
        metavar="TIME",
        help="time to spend, e.g. 90m or 2h (default: 60m)",
    )
    parser.add_argument("--dry-run", action="store_true", help="print what would run, and why")
    parser.add_argument(
        "--offline", action="store_true", help="use cached data of the package index only"
    )
    options.te_extension(parser)
    options.jobs(parser)


def call(args: Namespace) -> int:
    """Run them, or print which would run; 0, whatever their outcome."""
    here = context(args.te_extension)
    if args.dry_run:
        with exploration_run.combined(here, offline=args.offline) as among:
            view = exploration_run.view(here, args.budget, args.jobs, among=among)
        print(view.description(), end="")
        return 0
    names = exploration_run.run(here, minutes=args.budget, jobs=args.jobs, offline=args.offline)
    print(f"ran {len(names)} cells: {', '.join(names) or 'none'}")
    return 0
