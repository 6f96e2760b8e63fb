"""What the pages have in common: the cells by name, better cells, totals. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from mcore_compat.base.errors import ResultError
from mcore_compat.core.cells import AXES, Cell, parse_name, parsed, series_of
from mcore_compat.core.outcomes import CellOutcome
from mcore_compat.core.source_digests import NO_DIGESTS, SourceDigests
from mcore_compat.publish.collation import Collated
from mcore_compat.publish.site.staleness import Staleness
from mcore_compat.results import verdict
from mcore_compat.results.better_cells import BetterCells
from mcore_compat.results.result import DEVICE_CLASSES, Result


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A cell of the matrix or of a result. `default`: it is a pair of series on its default stack;
    `by_class`: its results."""

    name: str
    pins: Mapping[str, str]
    default: bool
    by_class: Mapping[str, Result]

    @property
    def pair(self) -> tuple[str, str]:
        """The series of megatron-core and ModelOpt."""
        return series_of(self.pins[AXES[0]]), series_of(self.pins[AXES[1]])

    def outcome(self, device_class: str) -> CellOutcome:
        found = self.by_class.get(device_class)
        return found.outcome if found else CellOutcome.UNTESTED


@dataclass(frozen=True)
class Site:
    """Everything collated, and why some results are out of date."""

    all_: Collated
    stale: Staleness
    digests: SourceDigests = NO_DIGESTS
    """The digests of sources, from which failures of untested releases are inferred."""

    @cached_property
    def entries(self) -> Mapping[str, Entry]:
        """Every cell of the matrix and of the results, by name, sorted by releases.

        Raises:
            ResultError: a result has an invalid cell name; it would become a file name.
        """
        cells: dict[str, Cell] = {cell.name: cell for cell in self.all_.cells}
        found: dict[str, dict[str, Result]] = {}
        for e in self.all_.found:
            if parse_name(e.cell) is None:
                raise ResultError(f'"{e.cell[:80]}" is not the name of a cell')
            found.setdefault(e.cell, {})[e.device_class] = e
        entries = []
        for name in {*cells, *found}:
            mine = found.get(name, {})
            pins = next(iter(mine.values())).pins if mine else cells[name].pins
            entries.append(
                Entry(
                    name=name,
                    pins=pins,
                    default=_default(name),
                    by_class={d: mine[d] for d in DEVICE_CLASSES if d in mine},
                )
            )
        return {entry.name: entry for entry in sorted(entries, key=_order)}

    @cached_property
    def device_class(self) -> str:
        """The device class with most results, which pages show first."""
        return max(self.all_.classes or ("host",), key=lambda d: len(self.all_.by_class.get(d, ())))

    @cached_property
    def better(self) -> Mapping[str, BetterCells]:
        """By device class: which cells to use instead of another, for the profile `default`."""
        return {d: BetterCells(results) for d, results in self.all_.by_class.items()}


def _default(name: str) -> bool:
    """Whether a name is that of a pair of series on its default stack."""
    asked = parse_name(name)
    if asked is None or asked.te or asked.torch or asked.python or asked.further:
        return False
    return all(word == series_of(word) for word in (asked.mcore, asked.modelopt))


def _order(entry: Entry) -> tuple[object, ...]:
    return (
        *(parsed(entry.pins[axis]) for axis in AXES[:2]),
        not entry.default,
        *rest(entry),
        entry.name,
    )


def rest(entry: Entry) -> tuple[object, ...]:
    """To sort by the versions of the stack, the newest first."""
    return tuple(tuple(-part for part in parsed(entry.pins[axis]).release) for axis in AXES[2:])


def totals(outcomes: Iterable[CellOutcome]) -> list[tuple[str, int]]:
    """How many cells have each outcome."""
    counts = Counter(outcomes)
    return [(o.value, counts[o]) for o in CellOutcome if counts[o]]


def restores(e: Result) -> str:
    """The families whose checkpoint restores, as text."""
    return ", ".join(verdict.restoring(e)) or "no family"
