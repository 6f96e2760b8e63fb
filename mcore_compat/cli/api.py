"""Show the history of a name of megatron-core, modelopt or transformer_engine: the release that
added it, changes of its signature, and where it moved. Read from the sources of the releases."""

from argparse import ArgumentParser, Namespace

from mcore_compat.api import interface_index, lives, name_report, packages
from mcore_compat.base.errors import UsageError
from mcore_compat.core import workspace

MOST = 10


def add_options(parser: ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument(
        "name",
        metavar="NAME",
        help="a dotted name, or the end of one: TransformerConfig, parallel_state.get_rank",
    )
    parser.add_argument("--all", action="store_true", help="whole signatures, and all matches")


def call(args: Namespace) -> int:
    """Print the history of each matching name; 0."""
    place = workspace.find()
    indexes = [interface_index.load(p, place.interfaces) for p in packages.PACKAGES]
    found = [(index, *where) for index in indexes for where in lives.find(index, args.name)]
    if not found:
        near = lives.nearest_names(indexes, args.name)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise UsageError(f'no release has a "{args.name}"{hint}')
    shown = found if args.all else found[:MOST]
    for index, module, name in shown:
        for line in name_report.lines(lives.life(index, module, name), every=args.all):
            print(line)
    if len(shown) < len(found):
        print(f"and {len(found) - len(shown)} more matches; --all shows them")
    return 0
