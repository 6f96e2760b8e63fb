"""For `noxfile.py`: which sessions exist, and how a command's exit code ends a session.

`nox -l` imports this, so it imports nothing slow.
"""

from __future__ import annotations

import argparse
import itertools
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mcore_compat.base.errors import CompatError, ExitCode, UsageError, nearest, one_line
from mcore_compat.core import combinations, matrix, releases, workspace
from mcore_compat.core.cells import Cell
from mcore_compat.core.outcomes import CellOutcome
from mcore_compat.results import verdict_index

if TYPE_CHECKING:
    import nox


@dataclass(frozen=True, kw_only=True)
class CellSession:
    """One line of `nox -l`."""

    name: str
    description: str
    tags: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class CellListing:
    """The cells that nox lists, newest first; `heading`: the text above them."""

    sessions: tuple[CellSession, ...]
    heading: str

    @property
    def default(self) -> list[str]:
        """The cells that plain `nox` runs."""
        return [session.name for session in self.sessions if "newest" in session.tags]


def listed(argv: Sequence[str]) -> CellListing:
    """The sessions of all declared cells and of cells named in `argv`; for `nox -l` only as many as
    fit a screen, or those with the given tags.

    An invalid name or matrix ends the process with one line and exit code 2; nox itself would only
    report an unknown session.
    """
    try:
        place = workspace.find()
        facts = releases.load(place.releases)
        declared = matrix.load(place.matrix)
        cells = {cell.name: cell for cell in combinations.cells(declared, facts)}
        asked = _asked(argv)
        _refuse_unknown(asked.tags, cells.values())
        count = len(cells)
        for name in requested(argv):
            # Under the name that was typed, which may repeat versions of the default stack.
            cells.setdefault(name, combinations.named(name, declared, facts))
        lines = verdict_index.listing(cells.values(), place.verdicts)
    except CompatError as error:
        print(one_line(error), file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    spelt = {cell.name: name for name, cell in cells.items()}
    every = tuple(
        CellSession(name=spelt[name], description=line, tags=cells[spelt[name]].tags)
        for name, line in lines.items()
    )
    if not asked.short:
        return CellListing(sessions=every, heading="")
    if asked.tags:
        tagged = tuple(session for session in every if set(session.tags) & {*asked.tags})
        return CellListing(sessions=tagged, heading=f"{len(tagged)} of {count} cells. {LEGEND}")
    return CellListing(sessions=_few(every, requested(argv)), heading=HEADING.format(count))


LEGEND = """\
R, Q, TE, GPU: how many checks of restore, quantize, quantize-te and inference
work. To run one on this machine: nox -s compat-0.16-modelopt0.41"""

HEADING = f"""\
For each megatron-core: the newest compatible ModelOpt, else the one with the highest level.
All {{}} cells: mcore-compat list. One series: nox -l -t mcore-0.16, or -t modelopt-0.41
{LEGEND}"""


def _few(every: Sequence[CellSession], names: Sequence[str]) -> tuple[CellSession, ...]:
    """One cell of each megatron-core, the named cells, and those that plain `nox` runs; without
    tags, which would fill the line."""
    by_series: dict[str, CellSession] = {}
    for session in every:
        series = session.tags[0]
        if "stack-default" not in session.tags:
            continue
        first = by_series.setdefault(series, session)
        if _rank(session) > _rank(first):
            by_series[series] = session
    few = {session.name for session in by_series.values()} | {*names}
    return tuple(
        CellSession(
            name=session.name,
            description=session.description,
            tags=tuple(tag for tag in session.tags if tag == "newest"),
        )
        for session in every
        if session.name in few or "newest" in session.tags
    )


def _rank(session: CellSession) -> tuple[bool, str]:
    """A sort key from a cell's line: whether it is compatible, else its level."""
    compatible = session.description.startswith(f"{CellOutcome.COMPATIBLE.value} ")
    level = re.search(r"level (\d)", session.description)
    return compatible, "" if compatible or level is None else level[1]


def _refuse_unknown(tags: Iterable[str], cells: Iterable[Cell]) -> None:
    known = {tag for cell in cells for tag in cell.tags}
    for tag in tags:
        if tag not in known:
            raise UsageError(f'no cell has the tag "{tag}"{nearest(tag, known)}')


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """The options of nox: sessions and tags; `short`: a list to read, without keywords."""

    names: tuple[str, ...]
    tags: tuple[str, ...]
    short: bool


def requested(argv: Sequence[str]) -> tuple[str, ...]:
    """The cells among the sessions in nox's `argv`."""
    return tuple(dict.fromkeys(n for n in _asked(argv).names if n.startswith("compat-")))


NOX_FLAGS = "hNrRvx"
"""The short options of nox that take no value, beside `-l`."""


def _asked(argv: Sequence[str]) -> _Asked:
    """The options in nox's `argv` before `--`: `-s a b`, `--session=a`, `-lt c`."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for letter in NOX_FLAGS:  # also as `-Rs CELL`: flags may precede an option with a value
        parser.add_argument(f"-{letter}", action="store_true")
    many: dict[str, Any] = {"nargs": "*", "action": "extend", "default": []}
    parser.add_argument("-s", "-e", "--session", "--sessions", dest="names", **many)
    parser.add_argument("-t", "--tags", dest="tags", **many)
    parser.add_argument("-k", "--keywords", dest="keywords")
    parser.add_argument("-l", "--list", "--list-sessions", dest="listing", action="store_true")
    parser.add_argument("--json", action="store_true")
    ours = itertools.takewhile(lambda word: word != "--", argv[1:])
    words = parser.parse_known_args([*ours])[0]
    short = words.listing and not words.json and words.keywords is None
    return _Asked(names=tuple(words.names), tags=tuple(words.tags), short=short)


def exit_unless_ok(
    session: nox.Session, main: Callable[[Sequence[str]], int], argv: Sequence[str]
) -> None:
    """Run a command by `main` in this process and end the session with its exit code.

    Exit code 1 (a verdict) fails this session only, with the reason as its last line; any other
    code but 0 (bad input, infrastructure error, Ctrl-C) ends nox with that code.
    """
    code = main(argv)
    if code == 1:
        why = code.why if isinstance(code, ExitCode) else ""
        session.error(why or f"{argv[0]}: ended with exit code 1; see above")
    if code != 0:
        raise SystemExit(code)
