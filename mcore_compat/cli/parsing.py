"""A command line → the function of its command, and what was asked of it."""

from __future__ import annotations

import argparse
import importlib
import os
import re
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, NoReturn

from mcore_compat.base import files
from mcore_compat.base.errors import InfrastructureError, UsageError, nearest
from mcore_compat.cli import registry
from mcore_compat.cli.registry import Command
from mcore_compat.core import workspace
from mcore_compat.core.workspace import Workspace

Call = Callable[[argparse.Namespace], int]
"""What a command does; its exit code."""

HELP = ("-h", "--help")

HOMES = ("MCORE_COMPAT_HOME", "XDG_CACHE_HOME")
"""What says where environments, wheels and logs are kept; else it is below HOME."""


class Parser(argparse.ArgumentParser):
    """The options of one command; errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Raises UsageError; never prints the usage, nor ends the process."""
        raise UsageError(f"{self.prog.rpartition(' ')[2]}: {message}")

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        """A value as its type; one that is empty would be taken for one that was not given."""
        if not arg_string.strip():
            name = "/".join(action.option_strings) or action.metavar or action.dest
            raise UsageError(f"{self.prog.rpartition(' ')[2]}: {name} is empty: say which")
        return super()._get_value(action, arg_string)

    def _print_message(self, message: str, file: Any = None) -> None:
        """Print help; argparse's own passes over what cannot be printed."""
        print(message, end="", file=file)


def parse(argv: Sequence[str]) -> tuple[Call, argparse.Namespace]:
    """What to call, and with what.

    Raises:
        UsageError: a command, an option or a value that is none; names the nearest.
        SystemExit: help was asked for, and is printed.
    """
    if not argv:
        raise UsageError("a command is required; mcore-compat --help names them")
    if argv[0] in HELP:
        print(registry.program_help())
        raise SystemExit(0)
    command = registry.command(argv[0])
    _check_surroundings()
    module = importlib.import_module(f"mcore_compat.cli.{command.name}")
    parser = parser_of(command, module)
    args, rest = parser.parse_known_args(argv[1:])
    if rest:
        parser.error(_unknown(rest[0], parser))
    if args.workspace is not None:  # for the processes that are started, too
        os.environ[workspace.VARIABLE] = os.path.abspath(args.workspace)
    place = workspace.find() if command.name != "init" else None
    if place and command.writes:
        place.need_writable()
    elif place and place.is_snapshot:
        _tell_date(place)
    call: Call = module.call
    return call, args


def _check_surroundings() -> None:
    """See that there is a working directory, and may be a folder for what is kept.

    Raises:
        InfrastructureError: the working directory was removed.
        UsageError: what a variable names as that folder can be none.
    """
    try:
        os.getcwd()
    except OSError as error:
        why = f"the working directory is gone ({error.strerror}); go to one that is there"
        raise InfrastructureError(why) from None
    named = next((name for name in HOMES if os.environ.get(name)), "HOME")
    try:
        home = files.home()
        file = files.in_the_way(home / "kept")
    except (OSError, RuntimeError) as error:  # a user who is none, links in a circle
        raise UsageError(f"{named}: {error}; name a folder in MCORE_COMPAT_HOME") from None
    if file:
        raise UsageError(f"{named}: {file} is a file, and no folder")


def _tell_date(snapshot: Workspace) -> None:
    """Say on stderr of what date the answers are."""
    from mcore_compat.analysis import published  # not on the way to `nox -l`

    newest = max(cell.taken for cell in published.load(snapshot.published).cells)
    print(
        f"mcore-compat: from the results up to {newest[:10]} that came with this package; newer "
        "ones: --workspace CLONE",
        file=sys.stderr,
    )


def parser_of(command: Command, module: ModuleType) -> Parser:
    """The parser of a command: its help is the docstring of its module, with what its exit codes
    0 and 1 answer. Options of all commands are added here."""
    parser = Parser(
        prog=f"mcore-compat {command.name}",
        description=module.__doc__,
        epilog=f"example: mcore-compat {command.name} {command.example}".rstrip()
        + f"\n\n{registry.exit_codes(getattr(module, 'ANSWERS', '0 done'))}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--workspace",
        metavar="FOLDER",
        help="where matrix, locks and results lie (here, else the snapshot in the package)",
    )
    if hasattr(module, "add_options"):
        module.add_options(parser)
    return parser


def _unknown(word: str, parser: Parser) -> str:
    """A word that the command has no use for, and the nearest option that it has."""
    if not word.startswith("-"):
        return f'there is no use for "{word}"'
    option = word.partition("=")[0]
    options = [*HELP, *re.findall(r"--[a-z][a-z-]*", parser.format_usage())]
    return f'no such option "{option}"{nearest(option, options)}'
