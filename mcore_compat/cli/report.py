"""Write all published files from the results: tables, data, pictures, the site, drafts of issues
for upstream. Print each cell's verdict. With --check nothing is written."""

from argparse import ArgumentParser, Namespace

from mcore_compat.cli import publication

ANSWERS = "0 done, 1 a file is out of date (with --check)"


def add_options(parser: ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument(
        "--check",
        action="store_true",
        help="write nothing; list published files that are out of date",
    )


def call(args: Namespace) -> int:
    """0 if every failure that the matrix declares occurs; with `--check` 1 if a published file is
    out of date."""
    return publication.check(print) if args.check else publication.write(print)
