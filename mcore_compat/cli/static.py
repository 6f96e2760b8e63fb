"""Count the combinations of all declared versions that cannot be installed, with the most frequent
reasons. Uses metadata of the package index; installs nothing. Keeps each answer: the first run
takes minutes, later ones half a minute."""

from argparse import ArgumentParser, Namespace

from mcore_compat.cli import options
from mcore_compat.core import combinations
from mcore_compat.resolve import resolvability
from mcore_compat.run.context import context

REASONS = 15
"""The number of reasons that are shown."""


def add_options(parser: ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument(
        "--offline", action="store_true", help="use cached data of the package index only"
    )
    options.jobs(parser, what="processes")


def call(args: Namespace) -> int:
    """Print the counts and the most frequent reasons; 0."""
    here = context()
    cells = tuple(combinations.product(here.matrix, here.releases))
    answers = resolvability.sweep(
        cells, here.matrix, here.releases, offline=args.offline, jobs=args.jobs, say=here.say
    )
    counts = ", ".join(f"{count} {words}" for words, count in sorted(answers.counts().items()))
    print(f"{len(cells)} combinations, {answers.asked} of them resolved now: {counts}")
    for reason, count in answers.reasons()[:REASONS]:
        print(f"  {count}: {reason}")
    rest = len(answers.reasons()) - REASONS
    if rest > 0:
        print(f"  and {rest} other reasons; for one combination: mcore-compat explain CELL")
    return 0
