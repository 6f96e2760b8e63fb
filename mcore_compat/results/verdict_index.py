"""The verdicts alone, in one small file: the text that `nox -l` shows beside each cell. Imports
little: the level of a cell was put into words when its result was stored."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from mcore_compat.base import files, foreign
from mcore_compat.base.errors import ResultError
from mcore_compat.core.cells import Cell, parsed

if TYPE_CHECKING:
    from mcore_compat.results.result import Result


def listing(cells: Iterable[Cell], index: Path) -> dict[str, str]:
    """By cell, the newest first: its latest verdicts, level and stack on one line, for `nox -l`.
    Reads one small file."""
    known = _verdicts(index) or {}
    lines = {}
    newest_first = sorted(cells, key=lambda c: (parsed(c.mcore), parsed(c.modelopt)), reverse=True)
    for cell in newest_first:
        verdicts = known.get(cell.name) or {}
        ends = ", ".join(f"{o} ({d})" for d, o in sorted(verdicts.items())) or "untested"
        lines[cell.name] = f"{ends}: TE {cell.te}, torch {cell.torch}, python {cell.python}"
    return lines


class _Index(msgspec.Struct):
    """The file: by cell and device class the outcome and level."""

    verdicts: dict[str, dict[str, str]]


def _verdicts(index: Path) -> dict[str, dict[str, str]] | None:
    """The verdicts of an index by cell and device class; None if it cannot be read: a listing works
    without them, and `report --check` finds it."""
    try:
        return msgspec.json.decode(foreign.read(index), type=_Index).verdicts
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.MsgspecError, ResultError, RecursionError):
        return None


def has_any(index: Path) -> bool:
    """Whether a verdict is published."""
    return bool(_verdicts(index))


def text_of(results: Iterable[Result]) -> str:
    """The text of `reports/verdicts.json` of these results."""
    return _text(_with({}, results))


def _text(verdicts: Mapping[str, Mapping[str, str]]) -> str:
    return files.dump_json({"made_by": "nox -s report", "verdicts": verdicts})


def _with(
    verdicts: dict[str, dict[str, str]], results: Iterable[Result]
) -> dict[str, dict[str, str]]:
    """The verdicts with those of some results, as text."""
    from mcore_compat.results import levels

    for result in results:
        verdicts.setdefault(result.cell, {})[result.device_class] = levels.line(result)
    return verdicts


def note(result: Result, index: Path) -> None:
    """Put one cell's verdict into the index of `nox -l`; cells may end at the same time."""
    with noting([result], index) as texts:
        for path, text in texts.items():
            files.write_text(path, text)


@contextlib.contextmanager
def noting(results: Iterable[Result], index: Path) -> Iterator[Mapping[Path, str]]:
    """The index with the verdicts of these results, to be written in the `with` block, which locks
    it. Empty if there is nothing to write: no results, or the index is damaged, and may still have
    other verdicts (`nox -s report` replaces it)."""
    from filelock import FileLock

    with files.disk_errors(index):
        files.home().mkdir(parents=True, exist_ok=True)
    with FileLock(files.home() / "verdicts.lock"):
        results, known = list(results), _verdicts(index)
        yield {index: _text(_with(known, results))} if known is not None and results else {}
