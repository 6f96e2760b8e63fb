"""Two cells → the line of releases between them of a package other than an axis. Pure.

The axes and the other pins in the cell's name stay as in the good cell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mcore_compat.analysis.bisect.release_line import Facts, Point, ReleaseLine, differing
from mcore_compat.base.errors import UsageError
from mcore_compat.core.cells import (
    Cell,
    format_name,
    name_of_pin,
    parse_name,
    parsed,
    series_of,
)


@dataclass(frozen=True, kw_only=True)
class End:
    """A cell, and the release of the package in its lock."""

    cell: Cell
    version: str


def between(
    package: str, ends: tuple[End, End], releases: Sequence[str], facts: Facts, *, patches: bool
) -> ReleaseLine:
    """Return the line between the good cell and the bad one.

    `releases`: all releases of the package, oldest first; `patches`: use every patch release, not
    only the newest of each series.

    Raises:
        UsageError: both cells have the same release.
    """
    good, bad = ends
    if good.version == bad.version:
        raise UsageError(
            f"{good.cell.name} and {bad.cell.name} have the same {package}: {good.version}"
        )
    old, new = sorted((good.version, bad.version), key=parsed)
    known = [v for v in releases if parsed(old) < parsed(v) < parsed(new)]
    series = {series_of(v): v for v in known if series_of(v) != series_of(new)}
    every = patches or series_of(old) == series_of(new)
    chosen = known if every else [v for v in known if v in series.values()]
    own = {good.version: good.cell}
    if not differing(good.cell.pins, bad.cell.pins) and _others(good.cell, package) == _others(
        bad.cell, package
    ):
        own[bad.version] = bad.cell
    cells = {
        v: own.get(v) or with_release(good.cell, package, v, facts).cell
        for v in (old, *chosen, new)
    }
    note = f"instead of --bad {bad.cell.name}: {cells[bad.version].name}, otherwise as --good"
    return ReleaseLine(
        axis=package,
        points=tuple(Point(version=version, cell=cell) for version, cell in cells.items()),
        fixed=old != good.version,
        held={**good.cell.pins, **_held(good.cell, package)},
        moving=(),
        without=tuple(v for v in known if v not in chosen),
        notes=() if bad.version in own else (note,),
    )


def _others(cell: Cell, package: str) -> tuple[str, ...]:
    """Return the other pins in a cell's name."""
    return tuple(pin for pin in cell.further if name_of_pin(pin) != package)


def _held(cell: Cell, package: str) -> Mapping[str, str]:
    return dict(pin.split("==", 1) for pin in _others(cell, package))


def with_release(cell: Cell, package: str, version: str, facts: Facts) -> End:
    """Return the cell with a release of the package."""
    asked = parse_name(cell.name)
    assert asked is not None
    pins = (*_others(cell, package), f"{package}=={version}")
    name = format_name(replace(asked, further=tuple(sorted(pins, key=name_of_pin))))
    return End(cell=facts.cell_of(name), version=version)
