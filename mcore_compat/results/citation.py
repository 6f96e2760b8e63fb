"""The results that an answer is based on: the last line of each answer, in one form. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

from mcore_compat.base import files
from mcore_compat.results.result import MAIN, Result, result_path

MOST = 5
"""The number of results to name; the others are counted."""


class OfCell(Protocol):
    """A cell on one device class, and when it ran."""

    @property
    def name(self) -> str: ...
    @property
    def device_class(self) -> str: ...
    @property
    def taken(self) -> str: ...


class Citation(NamedTuple):
    """A result: its cell, device class, day and file."""

    cell: str
    device_class: str
    taken: str
    path: Path

    def text(self) -> str:
        """`compat-… (host, 2026-11-29): reports/results/compat-…/main.host.json`."""
        return f"{self.cell} ({self.device_class}, {self.taken}): {files.shown(self.path)}"

    def data(self) -> dict[str, str]:
        """The same for JSON."""
        return {**self._asdict(), "path": files.shown(self.path)}


def of_result(result: Result, results: Path) -> Citation:
    """A result below the folder `results`."""
    return of(result.cell, result.device_class, result.taken, results, result.check_set)


def of(cell: str, device_class: str, taken: str, results: Path, check_set: str = MAIN) -> Citation:
    """The result of a check set."""
    path = result_path(cell, device_class, results, check_set)
    return Citation(cell=cell, device_class=device_class, taken=taken[:10], path=path)


def of_cells(cells: Iterable[OfCell], results: Path) -> tuple[Citation, ...]:
    """The main results of cells as they are published, each once."""
    rows = (of(cell.name, cell.device_class, cell.taken, results) for cell in cells)
    return tuple(dict.fromkeys(rows))


def of_data(row: Mapping[str, str]) -> Citation:
    """A citation as JSON has it."""
    return Citation(**{**row, "path": Path(row["path"])})  # type: ignore[arg-type]


def line(citations: Iterable[Citation]) -> str:
    """One line for all of them; empty if there is none."""
    every = [*dict.fromkeys(citations)]
    more = f"; and {len(every) - MOST} more" if len(every) > MOST else ""
    label = "result" if len(every) == 1 else "results"
    return f"{label}: {'; '.join(c.text() for c in every[:MOST])}{more}" if every else ""


def lines(citations: Iterable[Citation]) -> list[str]:
    """That line, or none."""
    return [text] if (text := line(citations)) else []
