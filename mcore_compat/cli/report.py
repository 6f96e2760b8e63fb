"""Write all that is published, from the results: tables, data, pictures, the site, texts for
upstream; and print each cell's verdict. With --check nothing is written."""

from argparse import ArgumentParser, Namespace

from mcore_compat.cli import publication

ANSWERS = "0 done; with --check 1 where a file is not what the results make"


def add_options(parser: ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("--check", action="store_true", help="write nothing; fail on drift")


def call(args: Namespace) -> int:
    """0 where what the matrix declares fits what the results show; with `--check` 1 where a file
    is not what the results make."""
    return publication.check(print) if args.check else publication.write(print)
