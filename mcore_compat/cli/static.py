"""Say which combinations of all declared axes cannot be installed, and why, from kept metadata of
the index: seconds, and nothing is installed."""

from argparse import ArgumentParser, Namespace

from mcore_compat.cli import options
from mcore_compat.core import combinations
from mcore_compat.resolve import resolvability
from mcore_compat.run.context import context

REASONS = 15
"""So many are shown."""


def add_options(parser: ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("--offline", action="store_true", help="never ask the index")
    options.jobs(parser, what="processes")


def call(args: Namespace) -> int:
    """Print the counts and the most frequent reasons; 0."""
    here = context()
    cells = tuple(combinations.product(here.matrix, here.releases))
    answers = resolvability.sweep(
        cells, here.matrix, here.releases, offline=args.offline, jobs=args.jobs, say=here.say
    )
    counts = ", ".join(f"{count} {words}" for words, count in sorted(answers.counts().items()))
    print(f"{len(cells)} combinations, {answers.asked} of them answered now: {counts}")
    for reason, count in answers.reasons()[:REASONS]:
        print(f"  {count}: {reason}")
    rest = len(answers.reasons()) - REASONS
    if rest > 0:
        print(f"  and {rest} other reasons; mcore-compat explain CELL tells one combination's")
    return 0
