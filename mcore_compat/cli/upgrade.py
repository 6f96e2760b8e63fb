"""Decide an upgrade from one cell to another: go, go with changes, or no, and why. Shows which of
the features you use break, whether checkpoints load, which versions to use instead, and with
--code what in your own code no longer fits. Runs whatever is out of date: both cells, and loading
the checkpoints of FROM in both; with --no-run it runs nothing and uses published results only."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from mcore_compat.cli import options
from mcore_compat.results.result import DEVICE_CLASSES
from mcore_compat.run.context import context
from mcore_compat.upgrade import document
from mcore_compat.upgrade.reasons import Word
from mcore_compat.upgrade.validation import Question, validate

ANSWERS = "0 go, 1 go with changes, or no, for the profile"


def add_options(parser: ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "origin",
        nargs="?",
        metavar="FROM",
        help="a cell, e.g. 0.9-modelopt0.21; current: the installed combination",
    )
    parser.add_argument("target", nargs="?", metavar="TO", help=options.CELL)
    options.containers(parser, "instead of FROM", "instead of TO")
    parser.add_argument(
        "--code", type=Path, metavar="PATH", help="your own code: show what in it does not fit TO"
    )
    parser.add_argument(
        "--no-run",
        dest="run",
        action="store_false",
        help="use published results only, run nothing; say which are out of date",
    )
    parser.add_argument(
        "--blame",
        action="store_true",
        help="run cells in between to find which version changes are to blame",
    )
    options.profile(parser)
    parser.add_argument(
        "--accept",
        action="append",
        default=[],
        metavar="CHECK",
        help="a check, or a glob of checks, that you can do without, e.g. 'modelopt-state-int4*'; "
        "repeatable",
    )
    parser.add_argument(
        "--changes-ok", action="store_true", help="exit with 0 for go with changes too"
    )
    formats = document.FORMATS
    options.choice(parser, "--format", formats, default=formats[0], help=f"default: {formats[0]}")
    options.output(parser, "write the answer to this file")
    parser.add_argument(
        "--python",
        type=Path,
        metavar="PATH",
        help="the interpreter of the environment `current`; default: the active one",
    )
    options.choice(
        parser,
        "--device-class",
        DEVICE_CLASSES,
        help="the device class of the results; default: that of this machine",
    )


def call(args: Namespace) -> int:
    """Print the answer. Returns 0 for go (with `--changes-ok` also for go with changes), else 1."""
    here = context(profile=options.profile_of(args))
    if args.run:
        here.workspace.need_writable()
    answer = validate(options.taken(Question, args), here)
    document.write(answer, args.format, args.output)
    fine = {Word.GO, Word.CHANGES} if args.changes_ok else {Word.GO}
    return 0 if answer.word in fine else 1
