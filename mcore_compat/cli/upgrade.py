"""Say what an upgrade from one cell to another breaks for what you rely on, whether checkpoints
load, and which pins to take instead: go, go with changes, or no, and why; with --code also what
of your own code no longer fits. Runs what is not up to date: both cells, and the checkpoints of
FROM loaded in both; with --no-run answers from what is published."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from mcore_compat.cli import options
from mcore_compat.results.evidence import DEVICE_CLASSES
from mcore_compat.run.context import context
from mcore_compat.upgrade import document
from mcore_compat.upgrade.reasons import Word
from mcore_compat.upgrade.validation import Question, validate

ANSWERS = "0 go, 1 go with changes, or no, for the profile"


def add_options(parser: ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument(
        "origin",
        nargs="?",
        metavar="FROM",
        help="a cell, e.g. 0.9-modelopt0.21; current: what is installed",
    )
    parser.add_argument("target", nargs="?", metavar="TO", help=options.CELL)
    options.containers(parser, "in the place of FROM", "in the place of TO")
    parser.add_argument(
        "--code", type=Path, metavar="PATH", help="your own code: what of it does not fit TO"
    )
    parser.add_argument(
        "--no-run",
        dest="run",
        action="store_false",
        help="answer from what is known; say what is out of date",
    )
    parser.add_argument(
        "--blame",
        action="store_true",
        help="run cells in between until it is known what is to blame",
    )
    options.profile(parser)
    parser.add_argument(
        "--accept",
        action="append",
        default=[],
        metavar="CHECK",
        help="what may be lost: a check or a glob, e.g. 'modelopt-state-int4*'; repeatable",
    )
    parser.add_argument(
        "--changes-ok", action="store_true", help="exit code 0 for go with changes, too"
    )
    formats = document.FORMATS
    options.choice(parser, "--format", formats, default=formats[0], help=f"default: {formats[0]}")
    options.output(parser, "write the answer there")
    parser.add_argument(
        "--python",
        type=Path,
        metavar="PATH",
        help="of current: its Python; default: the active environment's",
    )
    options.choice(
        parser,
        "--device-class",
        DEVICE_CLASSES,
        help="of the results; default: this machine's",
    )


def call(args: Namespace) -> int:
    """Answer; 0 for go (and with `--changes-ok` for go with changes), else 1."""
    here = context(profile=options.profile_of(args))
    if args.run:
        here.workspace.need_writable()
    answer = validate(options.taken(Question, args), here)
    document.write(answer, args.format, args.output)
    fine = {Word.GO, Word.CHANGES} if args.changes_ok else {Word.GO}
    return 0 if answer.word in fine else 1
