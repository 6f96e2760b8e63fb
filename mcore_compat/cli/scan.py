"""Check whether your code fits a release: compare each import, attribute and call of megatron-core,
modelopt and transformer_engine with the interface of the release. The code is read, never run.

A missing name that the code handles itself (try, hasattr, a test of the version) is listed, but
does not count as a failure."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

import mcore_compat
from mcore_compat.api import against, checking, scan_report
from mcore_compat.cli import options
from mcore_compat.core import matrix, releases, workspace

ANSWERS = "0 all of it fits, 1 something does not fit"

FORMATS = ("text", "json", "sarif")


def add_options(parser: ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument(
        "path", type=Path, metavar="PATH", help="a Python file, or a folder of them"
    )
    parser.add_argument(
        "--against",
        required=True,
        metavar="CELL|VERSIONS",
        help='a cell, e.g. 0.19-modelopt0.47, or releases: "megatron-core 0.19.2, modelopt 0.47"',
    )
    parser.add_argument(
        "--written-for",
        metavar="CELL|VERSIONS",
        help="what the code was written for: also note changes that raise nothing (defaults)",
    )
    parser.add_argument(
        "--all",
        action="store_true",
        help="show all missing names that the code handles, and all notes",
    )
    options.choice(
        parser, "--format", FORMATS, default="text", help="text, json or sarif (default: text)"
    )
    options.output(parser, "write the report into a file instead")


def call(args: Namespace) -> int:
    """Print what does not fit; 1 if something does not."""
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
