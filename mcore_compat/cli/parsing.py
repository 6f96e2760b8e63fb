"""A command line → the function of its command, and its options."""

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
"""The function of a command; returns the exit code."""

HELP = ("-h", "--help")

HOMES = ("MCORE_COMPAT_HOME", "XDG_CACHE_HOME")
"""Variables that name the folder for environments, wheels and logs; the default is below HOME."""


class Parser(argparse.ArgumentParser):
    """The options of one command; errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError, without printing the usage or ending the process."""
        raise UsageError(f"{self.prog.rpartition(' ')[2]}: {message}")

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        """Convert a value; refuse an empty one, which would count as an option left out."""
        if not arg_string.strip():
            name = "/".join(action.option_strings) or action.metavar or action.dest
            raise UsageError(f"{self.prog.rpartition(' ')[2]}: {name} is empty; give a value")
        return super()._get_value(action, arg_string)

    def _print_message(self, message: str, file: Any = None) -> None:
        """Print help; argparse's own method ignores errors of output."""
        print(message, end="", file=file)


def parse(argv: Sequence[str]) -> tuple[Call, argparse.Namespace]:
    """The function to call and its arguments.

    Raises:
        UsageError: unknown command or option, or an invalid value; names the nearest.
        SystemExit: help was printed.
    """
    if not argv:
        raise UsageError("a command is required; mcore-compat --help lists them")
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
    if args.workspace is not None:  # child processes read it, too
        os.environ[workspace.VARIABLE] = os.path.abspath(args.workspace)
    place = workspace.find() if command.name != "init" else None
    if place and command.writes:
        place.need_writable()
    elif place and place.is_snapshot:
        _tell_date(place)
    call: Call = module.call
    return call, args


def _check_surroundings() -> None:
    """Check the working directory, and the folder for environments, wheels and logs.

    Raises:
        InfrastructureError: the working directory was removed.
        UsageError: a variable names something that cannot be that folder.
    """
    try:
        os.getcwd()
    except OSError as error:
        why = f"the working directory was removed ({error.strerror}); change to another one"
        raise InfrastructureError(why) from None
    named = next((name for name in HOMES if os.environ.get(name)), "HOME")
    try:
        home = files.home()
        file = files.in_the_way(home / "kept")
    except (OSError, RuntimeError) as error:  # an unknown user, a loop of links
        raise UsageError(f"{named}: {error}; name a folder in MCORE_COMPAT_HOME") from None
    if file:
        raise UsageError(f"{named}: {file} is a file, not a folder")


def _tell_date(snapshot: Workspace) -> None:
    """Print the date of the packaged results on stderr."""
    from mcore_compat.analysis import published  # not on the way to `nox -l`

    newest = max(cell.taken for cell in published.load(snapshot.published).cells)
    print(
        f"mcore-compat: using the results up to {newest[:10]} in this package; for newer ones: "
        "--workspace CLONE",
        file=sys.stderr,
    )


def parser_of(command: Command, module: ModuleType) -> Parser:
    """The parser of a command. Its help is the docstring of its module and the meaning of its exit
    codes. Adds the options that all commands have."""
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
        help="folder with matrix, locks and results (default: here, else the data in the package)",
    )
    if hasattr(module, "add_options"):
        module.add_options(parser)
    return parser


def _unknown(word: str, parser: Parser) -> str:
    """The message for an unknown argument, with the nearest option."""
    if not word.startswith("-"):
        return f'unexpected argument "{word}"'
    option = word.partition("=")[0]
    options = [*HELP, *re.findall(r"--[a-z][a-z-]*", parser.format_usage())]
    return f'no such option "{option}"{nearest(option, options)}'
