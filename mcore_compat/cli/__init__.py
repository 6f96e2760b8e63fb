"""The console command `mcore-compat`; nox sessions call the same `main`."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from mcore_compat.base import files, options
from mcore_compat.base.errors import CompatError, Interrupted, UsageError, nearest
from mcore_compat.cli import bundle as bundles
from mcore_compat.cli import part_options as parts
from mcore_compat.cli import upgrade_options
from mcore_compat.core.cells import Request, format_name, full_name
from mcore_compat.schedule.jobs import job_options

if TYPE_CHECKING:
    from mcore_compat.schedule.selection import Selection

EXIT_CODES = """\
exit codes: 0 compatible (or partial, every failure declared in constraints/matrix.toml), 1 any
other verdict (incompatible always), 2 bad input, 3 network, disk or another failure of the
surroundings, 130 interrupted"""


class _Parser(argparse.ArgumentParser):
    """Errors as one line that names the nearest valid choice."""

    def error(self, message: str) -> NoReturn:
        word, _, rest = message.partition("invalid choice: ")
        if rest:
            value = rest.split("'")[1]
            name = word.removeprefix("argument ").removesuffix(": ")
            named = (a for a in self._actions if argparse._get_action_name(a) == name)
            known = [choice for action in named for choice in action.choices or ()]
            message = f'{word}no such choice "{value}"{nearest(value, known)}'
        elif message.startswith("unrecognized arguments: "):
            value = message.removeprefix("unrecognized arguments: ").split()[0]
            _, of, command = self.prog.partition(" ")
            of = f"{command}: " if of else ""
            message = f'{of}there is no use for "{value}"'
            if value.startswith("-"):
                option = value.partition("=")[0]
                options = [o for action in self._actions for o in action.option_strings]
                message = f'{of}no such option "{option}"{nearest(option, options)}'
        raise UsageError(message)


class _Command(_Parser):
    """The parser of a command: what it does not know is its own error. Left to the parser of all
    commands, nobody could tell whose options are meant."""

    def parse_known_args(  # type: ignore[override]  # its overloads are for other namespaces
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        found, rest = super().parse_known_args(args, namespace)
        if rest:
            self.error(f"unrecognized arguments: {' '.join(rest)}")
        return found, rest


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = _Parser(prog="mcore-compat", description=__doc__, epilog=EXIT_CODES, allow_abbrev=False)
    commands = top.add_subparsers(dest="command", required=True, parser_class=_Command)

    run = commands.add_parser("run", help="run cells by name", allow_abbrev=False)
    run.add_argument("cells", nargs="+", metavar="CELL", help="e.g. compat-0.16-modelopt0.41")
    _run_options(run)

    compat = commands.add_parser("compat", help="run any combination", allow_abbrev=False)
    compat.add_argument("mcore", help="megatron-core series or release, e.g. 0.16 or 0.16.1")
    compat.add_argument("modelopt", help="nvidia-modelopt series or release, e.g. 0.41")
    compat.add_argument("--te", help="transformer-engine; default: the series' stack")
    compat.add_argument("--torch", help="torch; default: the series' stack")
    compat.add_argument("--python", help="python, e.g. 3.12; default: the series' stack")
    _run_options(compat)

    grid = commands.add_parser("matrix", help="run what is not fresh", allow_abbrev=False)
    grid.add_argument("--mcore", metavar="SPEC", help="version specifier, e.g. '>=0.14'")
    grid.add_argument("--modelopt", metavar="SPEC", help="version specifier, e.g. '==0.41.*'")
    grid.add_argument("--tag", action="append", default=[], help="e.g. mcore-0.16; repeatable")
    grid.add_argument(
        "--only", action="append", default=[], metavar="OUTCOME", help="e.g. broken; repeatable"
    )
    grid.add_argument("--stale", action="store_true", help="only cells with outdated evidence")
    grid.add_argument("--force", action="store_true", help="run although evidence is fresh")
    grid.add_argument("--dry-run", action="store_true", help="print the plan and its cost")
    grid.add_argument("-j", "--jobs", type=int, default=2, help="cells at a time (2)")

    grid.add_argument("--shard", metavar="K/N", default="1/1", help="one part of N, e.g. 2/8")
    job_options.add(grid)

    static = commands.add_parser(
        "static", help="which combinations cannot be installed", allow_abbrev=False
    )
    static.add_argument("--offline", action="store_true", help="never ask the index")
    static.add_argument("-j", "--jobs", type=int, default=2, help="processes (2)")

    far = commands.add_parser(
        "explore", help="run what tells most off the default stacks", allow_abbrev=False
    )
    far.add_argument("--budget", default="60m", metavar="TIME", help="e.g. 90m or 2h (60m)")
    far.add_argument("--dry-run", action="store_true", help="print what would be run, and why")
    far.add_argument("--offline", action="store_true", help="never ask the index what fits")
    far.add_argument("-j", "--jobs", type=int, default=2, help="cells at a time (2)")

    over = commands.add_parser("exchange", help="load what other cells saved", allow_abbrev=False)
    over.add_argument(
        "--from", dest="origins", nargs="+", default=[], metavar="CELL", help="cells that save"
    )
    over.add_argument(
        "--to", dest="targets", nargs="+", default=[], metavar="CELL", help="cells that load"
    )
    over.add_argument(
        "--way",
        dest="ways",
        action="append",
        default=[],
        metavar="WAY",
        help="only this; repeatable",
    )
    over.add_argument("-j", "--jobs", type=int, default=1, help="cells at a time (1)")
    over.add_argument("--force", action="store_true", help="save and load although that is fresh")
    over.add_argument("--dry-run", action="store_true", help="print what would run, and its cost")

    built = commands.add_parser("build", help="build one wheel of a cell", allow_abbrev=False)
    built.add_argument("cell", metavar="CELL")
    built.add_argument("package", metavar="PACKAGE", help="e.g. transformer-engine-torch")

    lock = commands.add_parser("lock", help="(re)make locks", allow_abbrev=False)
    lock.add_argument("cells", nargs="*", metavar="CELL", help="default: all with a lock")

    why = commands.add_parser("explain", help="why a cell fails", allow_abbrev=False)
    why.add_argument("cell", metavar="CELL")

    which = commands.add_parser(
        "recommend", help="tested combinations that fit what you have", allow_abbrev=False
    )
    which.add_argument(
        "constraints", nargs="?", default="", metavar="TEXT", help='"torch 2.9, modelopt >=0.39"'
    )
    which.add_argument("-n", type=int, default=5, metavar="N", help="how many to show (5)")

    ill = commands.add_parser(
        "doctor", help="what is wrong with an environment; changes nothing", allow_abbrev=False
    )
    ill.add_argument(
        "--python", metavar="PATH", help="its Python; default: the active environment's"
    )
    ill.add_argument("-v", "--verbose", action="store_true", help="say so where all is right, too")
    options.doctor_run(ill)

    options.bisect(commands)
    upgrade_options.add_parser(commands)
    bundles.add_parsers(commands)
    commands.add_parser("list", help="the cells and their last verdicts", allow_abbrev=False)
    fresh = commands.add_parser("refresh", help="ask the index for releases", allow_abbrev=False)
    fresh.add_argument("--join", action="store_true", help="new series join the matrix")
    _nightly_options(commands.add_parser("nightly", help="keep up", allow_abbrev=False))
    report = commands.add_parser("report", help="evidence -> table", allow_abbrev=False)
    report.add_argument("--check", action="store_true", help="write nothing; fail on drift")
    return top


def _nightly_options(command: argparse.ArgumentParser) -> None:
    command.description = "refresh, join, lock, run what is new, report, say what it broke"
    command.add_argument("-j", "--jobs", type=int, default=2, help="cells at a time (2)")
    command.add_argument("--shard", metavar="K/N", default="1/1", help="one part of N, e.g. 2/8")
    command.add_argument("--dry-run", action="store_true", help="write nothing; say what would run")
    command.add_argument("--all-stale", action="store_true", help="run all that is not fresh")
    command.add_argument(
        "--step",
        choices=("prepare", "cells", "report"),
        help="this one alone, for several machines",
    )
    command.add_argument(
        "--before", type=Path, metavar="FOLDER", help="earlier evidence to compare with"
    )
    command.add_argument("--list", action="store_true", help="only name the cells that would run")


def _run_options(command: argparse.ArgumentParser) -> None:
    parts.add(command)
    command.add_argument("--force", action="store_true", help="run although evidence is fresh")
    command.add_argument(
        "--only", metavar="WORDS", help="ids, kinds or families of checks, comma-separated; globs"
    )
    command.add_argument(
        "--limit",
        type=float,
        metavar="S",
        help="most seconds a check may take (its own limit, or 120)",
    )
    command.add_argument(
        "--base",
        metavar="PYTHON",
        help="over the torch and TE that a Python has; current: this one",
    )


OWN = {
    "bisect": "mcore_compat.schedule.bisection",
    "bundle": "mcore_compat.cli.bundle",
    "collect": "mcore_compat.cli.bundle",
    "upgrade": "mcore_compat.cli.upgrade",
}
"""Commands whose module has a `run(args)`; imported only then: a quick start."""


def _named(args: argparse.Namespace) -> argparse.Namespace:
    """With cells by their names, of which the first word may be left out."""
    for name, value in vars(args).items():
        if name == "cell":
            args.cell = full_name(value)
        elif name == "cells":
            args.cells = [full_name(word) for word in value]
    return args


def _dispatch(args: argparse.Namespace) -> int:
    from mcore_compat.cli import commands

    if args.command in OWN:
        code: int = importlib.import_module(OWN[args.command]).run(args)
        return code
    if args.command in ("run", "compat"):
        return _cells(args)
    if args.command == "matrix":
        return _matrix(args)
    if args.command == "recommend":
        return commands.recommend_(args.constraints, most=args.n)
    if args.command == "doctor":
        from mcore_compat.cli import doctor_run

        return doctor_run.doctor(args)
    if args.command in ("static", "explore", "exchange"):
        return _beside_the_matrix(args)
    if args.command == "build":
        return commands.build(args.cell, args.package)
    if args.command == "explain":
        return commands.explain_cell(args.cell)
    if args.command == "lock":
        return commands.make_locks(args.cells)
    if args.command in ("refresh", "nightly"):
        return _keep_up(args)
    if args.command == "report":
        return commands.report_(check=args.check)
    return commands.list_cells()


def _cells(args: argparse.Namespace) -> int:
    names = args.cells if args.command == "run" else [_name(args)]
    if args.base:  # never fresh, so --force has nothing to add
        return bundles.over_base(
            names, args.base, parts=parts.chosen(args), only=args.only, limit=args.limit
        )
    from mcore_compat.cli import part_commands

    return part_commands.run_cells(
        names, parts.chosen(args), force=args.force, only=args.only, limit=args.limit
    )


def _matrix(args: argparse.Namespace) -> int:
    from mcore_compat.cli import matrix_jobs

    where = job_options.of(args)
    return matrix_jobs.matrix(_selection(args), where, force=args.force, dry_run=args.dry_run)


def _beside_the_matrix(args: argparse.Namespace) -> int:
    from mcore_compat.cli import commands

    if args.command == "static":
        return commands.static_pass(offline=args.offline, jobs=args.jobs)
    if args.command == "explore":
        return commands.explore_(
            budget=args.budget, jobs=args.jobs, dry_run=args.dry_run, offline=args.offline
        )
    from mcore_compat.cli import exchange

    asked = exchange.Asked(origins=args.origins, targets=args.targets, ways=args.ways)
    return exchange.exchange(asked, force=args.force, dry_run=args.dry_run, jobs=args.jobs)


def _name(args: argparse.Namespace) -> str:
    return format_name(
        Request(
            mcore=args.mcore,
            modelopt=args.modelopt,
            te=args.te,
            torch=args.torch,
            python=args.python,
        )
    )


def _keep_up(args: argparse.Namespace) -> int:
    from mcore_compat.cli import nightly
    from mcore_compat.schedule.nightly import NightOptions
    from mcore_compat.schedule.selection import parse_shard

    if args.command == "refresh":
        return nightly.refresh(join=args.join)
    options = NightOptions(
        jobs=args.jobs,
        shard=parse_shard(args.shard),
        step=args.step,
        every=args.all_stale,
        before=args.before,
    )
    return nightly.night(options, dry_run=args.dry_run, names_only=args.list)


def _selection(args: argparse.Namespace) -> Selection:
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    from mcore_compat.schedule.selection import Selection, parse_shard

    for option in ("mcore", "modelopt"):
        try:
            SpecifierSet(getattr(args, option) or "")
        except InvalidSpecifier as error:
            raise UsageError(f"--{option}: {error}; write e.g. '>=0.14' or '==0.41.*'") from None
    return Selection(
        mcore=args.mcore,
        modelopt=args.modelopt,
        tags=tuple(args.tag),
        only=tuple(args.only),
        stale=args.stale,
        shard=parse_shard(args.shard),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code and prints errors as one line each."""
    with contextlib.suppress(ValueError):  # not in the main thread: its owner has the signals
        # As Ctrl-C: whoever runs a process ends its whole group on the way out.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with files.disk_errors(files.home()):
            return _dispatch(_named(parser().parse_args(argv)))
    except CompatError as error:
        print(f"mcore-compat: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("mcore-compat: interrupted; the next run continues", file=sys.stderr)
        return Interrupted.exit_code
