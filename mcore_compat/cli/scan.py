"""Does my code fit a release? Read it (nothing of it is run), and hold each import, attribute and
call of megatron-core, modelopt and transformer_engine against the release's interface.

A place that is prepared for a name not to be there (try, hasattr, a look at the version) is told,
and is no failure."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

import mcore_compat
from mcore_compat.api import against, checking, scan_report
from mcore_compat.cli import options
from mcore_compat.core import matrix, releases, workspace

ANSWERS = "0 all of it fits, 1 something does not"

FORMATS = ("text", "json", "sarif")


def add_options(parser: ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("path", type=Path, metavar="PATH", help="a file, or a folder of code")
    parser.add_argument(
        "--against",
        required=True,
        metavar="CELL|VERSIONS",
        help='a cell, e.g. 0.19-modelopt0.47, or e.g. "megatron-core 0.19.2, modelopt 0.47"',
    )
    parser.add_argument(
        "--written-for",
        metavar="CELL|VERSIONS",
        help="what the code fits today: changes that do not fail are noted, too (defaults, order)",
    )
    parser.add_argument(
        "--all", action="store_true", help="show all that is prepared for, and all notes"
    )
    options.choice(parser, "--format", FORMATS, default="text", help="text, json or sarif (text)")
    options.output(parser, "write it into a file instead")


def call(args: Namespace) -> int:
    """Print what does not fit; 1 where something does not."""
    place = workspace.find()
    declared, known = matrix.load(place.matrix), releases.load(place.releases)
    wanted = against.releases_of(args.against, "--against", declared, known)
    written_for = (
        against.releases_of(args.written_for, "--written-for", declared, known)
        if args.written_for
        else None
    )
    report = checking.check(args.path, wanted, place, known, written_for)
    if args.format == "json":
        text = scan_report.as_json(report)
    elif args.format == "sarif":
        text = scan_report.as_sarif(report, mcore_compat.__version__)
    else:
        text = "\n".join(scan_report.lines(report, every=args.all))
    if args.output:
        args.output.write_text(text + "\n", encoding="utf-8")
    else:
        print(text)
    return 1 if report.failures else 0
