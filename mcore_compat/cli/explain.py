"""Explain why a cell fails: each cause, whether it is declared, and with which versions it fails.
With --error: the known cause of an error message, a traceback or a log. Runs nothing."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from mcore_compat.base import foreign
from mcore_compat.base.errors import UsageError
from mcore_compat.cli import options

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mcore_compat.analysis.error_text import SeenError
    from mcore_compat.analysis.known_errors import Answer
    from mcore_compat.core.cells import Cell
    from mcore_compat.core.workspace import Workspace
    from mcore_compat.run.context import Context

ANSWERS = "0 the causes are printed, or the error is known, 1 the error is not known"

STDIN = "-"


def add_options(parser: ArgumentParser) -> None:
    """What the command takes."""
    options.cell(parser, nargs="?")
    parser.add_argument(
        "--error",
        metavar="TEXT|FILE|-",
        help="an error message, or a file with a traceback or a log (-: standard input): prints "
        "which versions fail with it, who can fix it, and which versions to take",
    )


def call(args: Namespace) -> int:
    """Print the causes of a cell and return 0; for an error return 0 if it is known, else 1."""
    if (args.cell is None) == (args.error is None):
        raise UsageError("explain: name either a cell or an error: --error TEXT, FILE or -")
    return _of_error(args.error) if args.error is not None else _of_cell(args.cell)


def _of_cell(name: str) -> int:
    from mcore_compat.core import combinations
    from mcore_compat.publish import one_cell
    from mcore_compat.results import citation, repairs, store
    from mcore_compat.run import own
    from mcore_compat.run.context import context

    here = context()
    cell = combinations.named(name, here.matrix, here.releases)
    stored = store.load_all(here.workspace.results)
    every, _ = repairs.applied_to_all(stored, here.workspace.results)
    mine = [result for result in every if result.cell == cell.name]
    place = here.workspace
    if not mine:
        place = own.workspace(place)
        mine = [*one_cell.results_of(cell, place)]
    for result in mine:
        alike = [other for other in every if other.device_class == result.device_class]
        alike += () if result in alike else (result,)
        print("\n".join(one_cell.causes(result, alike, here)))
    if not mine:
        _not_run(cell, here)
    for row in citation.lines(citation.of_result(result, place.results) for result in mine):
        print(row)
    return 0


def _not_run(cell: Cell, here: Context) -> None:
    """Print why a cell without a result cannot be installed, or known failures of its releases.

    Raises:
        UsageError: nothing is known of it.
    """
    from mcore_compat.publish import one_cell

    try:
        rows = [one_cell.without_result(cell, here)]
    except UsageError:
        rows = one_cell.untested(cell, here)
        if not rows:
            raise
    print("\n".join(rows))


def _of_error(given: str) -> int:
    from mcore_compat.analysis import error_answer, error_text, known_names, published
    from mcore_compat.analysis.error_search import ErrorSearch
    from mcore_compat.core import matrix, releases, workspace
    from mcore_compat.core.cells import AXES
    from mcore_compat.results import citation

    text, what = _text(given)
    seen = error_text.errors(text)
    if not any(error.frames or any(map(error_text.words, error.messages)) for error in seen):
        raise UsageError(f"--error: {what} has no error message in it, and no traceback")
    place = workspace.find()
    facts = releases.load(place.releases)
    versions = {axis: [release.version for release in facts.of(axis)] for axis in AXES[:4]}
    known = published.load(place.published)
    rules = matrix.load(place.matrix).undeclared
    found = ErrorSearch(known_names.known_errors(known, versions, rules)).find(seen)
    read = [*_read(found.strange if found.sure else seen, place)]
    cells = found.cells() if found.sure or not read else ()
    rows = [
        *error_answer.lines(found, read),
        *citation.lines(citation.of_cells(cells, place.results)),
    ]
    print("\n".join(map(foreign.plain, rows)))
    return 0 if found.sure or read else 1


def _read(seen: Sequence[SeenError], place: Workspace) -> Iterator[tuple[SeenError, Answer]]:
    """What the releases' interfaces, the versions that their code accepts, and the names of
    compiled files say of errors."""
    from mcore_compat.analysis import missing_names, refused_versions, undefined_symbols
    from mcore_compat.analysis.around import release_ranges
    from mcore_compat.api import interface_index, packages

    folder = place.interfaces
    there = [p for p in packages.PACKAGES if interface_index.path_of(p, folder).is_file()]
    asked = there if any(map(missing_names.is_one, seen)) else []
    indexes = [interface_index.load(package, folder) for package in asked]
    refused = any(map(refused_versions.is_one, seen))
    ranges = release_ranges.load(place.version_ranges) if refused else release_ranges.NO_RANGES
    for error in seen:
        known = (
            missing_names.answer(error, indexes)
            or undefined_symbols.answer(error)
            or refused_versions.answer(error, ranges)
        )
        if known:
            yield error, known


def _text(given: str) -> tuple[str, str]:
    """Return the text of the option, and a name for where it comes from.

    Raises:
        UsageError: the option names a file that does not exist or cannot be read.
    """
    if given == STDIN:
        data = sys.stdin.buffer.read(foreign.MOST_BYTES + 1)
        return _decoded(data, "standard input"), "standard input"
    path = Path(given)
    try:
        is_file = path.is_file()
        if is_file:
            with path.open("rb") as file:
                return _decoded(file.read(foreign.MOST_BYTES + 1), given), given
        is_there = path.exists()
    except (OSError, ValueError) as error:  # a message: too long for a file's name, or with a NUL
        if "\n" not in given and isinstance(error, PermissionError):
            raise UsageError(f"--error: {given} cannot be read ({error.strerror})") from None
        return given, "the text"
    if is_there:
        raise UsageError(f"--error: {given} is not a regular file; pipe it: --error -")
    if len(given.split()) == 1 and (
        path.suffix in (".log", ".txt", ".out", ".err") or "/" in given
    ):
        raise UsageError(f"--error: {given} does not exist")
    return given, "the text"


def _decoded(data: bytes, what: str) -> str:
    if len(data) > foreign.MOST_BYTES:
        most = foreign.MOST_BYTES >> 20
        raise UsageError(f"--error: {what} has more than {most} MiB; give its end: tail -c {most}M")
    return data.decode("utf-8", "replace")
