"""Recommend tested combinations that fit what you have, the newest and best first. Runs nothing."""

from argparse import ArgumentParser, Namespace

from mcore_compat.analysis import published, recommend
from mcore_compat.cli import options
from mcore_compat.core import matrix, workspace
from mcore_compat.core.profiles import DEFAULT
from mcore_compat.publish import csv_and_constraints

ANSWERS = "0 the best that fits is compatible for the profile, 1 none is"


def add_options(parser: ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument(
        "constraints", nargs="?", metavar="TEXT", help='"torch 2.9, modelopt >=0.39"'
    )
    least = options.at_least(1, "-n: at least one must be shown")
    options.profile(parser)
    parser.add_argument("-n", type=least, default=5, metavar="N", help="how many to show (5)")


def call(args: Namespace) -> int:
    """Print them; 1 where none that fits is compatible for the profile."""
    wanted = recommend.parse(args.constraints) if args.constraints else ()
    place = workspace.find()
    profile = options.profile_of(args).profile(matrix.load(place.matrix), place.suite)
    known = published.load(place.published).cells
    advice = recommend.advise(wanted, known, profile or DEFAULT)
    for line in recommend.lines(advice, place.reports / csv_and_constraints.CONSTRAINTS, args.n):
        print(line)
    return 0 if advice.good else 1
