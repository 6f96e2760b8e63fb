"""Look up new releases in the package index, record them in constraints/, and print what is new and
what the matrix lacks."""

from argparse import ArgumentParser, Namespace

from mcore_compat.analysis import digest_refresh, range_refresh
from mcore_compat.api import refresh as interfaces
from mcore_compat.core import workspace
from mcore_compat.index import package_index
from mcore_compat.run.context import say
from mcore_compat.schedule import nightly


def add_options(parser: ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("--join", action="store_true", help="add new series to the matrix")
    parser.add_argument(
        "--allow-removals",
        action="store_true",
        help="remove releases that the index no longer lists",
    )
    parser.add_argument(
        "--interfaces",
        action="store_true",
        help="also read the interfaces of all releases, the versions that their code accepts, and "
        "the source digests that published causes need, where they are missing (minutes)",
    )


def call(args: Namespace) -> int:
    """Rewrite `constraints/releases.json`, with `--join` the matrix, too, and read the sources of
    new releases; 0.

    Raises as `nightly.ask` and `nightly.write`, before anything is changed.
    """
    place = workspace.find()
    refreshed = nightly.ask(place, say, join=args.join, allow_removals=args.allow_removals)
    nightly.write(refreshed, place)
    interfaces.update(
        place.interfaces, refreshed.known, package_index.client, say, begin=args.interfaces
    )
    for update in (digest_refresh.update, range_refresh.update):
        update(place, refreshed.known, package_index.client, say, begin=args.interfaces)
    print(refreshed.description(), end="")
    return 0
