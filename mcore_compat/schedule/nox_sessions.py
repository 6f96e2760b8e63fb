"""What `noxfile.py` needs: which sessions exist, and how a command's exit code ends a session.

Everything here is on the way to `nox -l`: nothing heavy is imported.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mcore_compat.base.errors import CompatError, UsageError, nearest, one_line
from mcore_compat.core import combinations, matrix, releases, workspace
from mcore_compat.results import verdict_index

if TYPE_CHECKING:
    import nox


@dataclass(frozen=True, kw_only=True)
class CellSession:
    """One line of `nox -l`."""

    name: str
    description: str
    tags: tuple[str, ...]


def listed(argv: Sequence[str]) -> tuple[CellSession, ...]:
    """The sessions of all declared cells, and of cells that `argv` asks for by name.

    A wrong name or a matrix that is not valid ends the process: one line, exit code 2. nox
    itself would only say that there is no such session.
    """
    try:
        place = workspace.find()
        facts = releases.load(place.releases)
        declared = matrix.load(place.matrix)
        cells = {cell.name: cell for cell in combinations.cells(declared, facts)}
        tags = {tag for cell in cells.values() for tag in cell.tags}
        for tag in values(argv, "-t", "--tags"):
            if tag not in tags:
                raise UsageError(f'no cell has the tag "{tag}"{nearest(tag, tags)}')
        for name in requested(argv):
            # Under the name that was typed, which may spell out what the stack has anyway.
            cells.setdefault(name, combinations.named(name, declared, facts))
        descriptions = verdict_index.listing(cells.values(), place.verdicts)
    except CompatError as error:
        print(one_line(error), file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    return tuple(
        CellSession(name=name, description=descriptions[cell.name], tags=cell.tags)
        for name, cell in cells.items()
    )


def requested(argv: Sequence[str]) -> tuple[str, ...]:
    """The cells' names among the sessions that nox's `argv` asks for."""
    names = values(argv, "-s", "-e", "--session", "--sessions")
    return tuple(dict.fromkeys(n for n in names if n.startswith("compat-")))


NOX_FLAGS = "hlNrRvx"
"""The short options of nox that take no value."""


def values(argv: Sequence[str], *options: str) -> tuple[str, ...]:
    """What `options` are given in nox's `argv`, before `--`: `-s a b`, `--session=a`."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for letter in NOX_FLAGS:  # also as `-Rs CELL`: what takes no value joins what does
        parser.add_argument(f"-{letter}", action="store_true")
    parser.add_argument(*options, dest="values", nargs="*", action="extend", default=[])
    ours = itertools.takewhile(lambda word: word != "--", argv[1:])
    return tuple(parser.parse_known_args([*ours])[0].values)


def newest(sessions: Sequence[CellSession]) -> str:
    """The session that plain `nox` runs."""
    return next(session.name for session in sessions if "newest" in session.tags)


def exit_unless_ok(
    session: nox.Session, main: Callable[[Sequence[str]], int], argv: Sequence[str]
) -> None:
    """Run a command by `main` in this process and end the session as it ended.

    Exit code 1 (a verdict) fails this session only; anything else that
    is not 0 (bad input, infrastructure, Ctrl-C) ends nox with that very code.
    """
    code = main(argv)
    if code == 1:
        session.error(f"{argv[0]} ended with exit code 1; see above")
    if code != 0:
        raise SystemExit(code)
