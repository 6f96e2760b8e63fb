"""Which results are out of date, according to a checkout. Pure.

The wheelhouse of the machine is ignored, so that the answer is the same on every machine.
"""

from __future__ import annotations

from collections.abc import Mapping

from mcore_compat.core.cells import Cell, moved
from mcore_compat.core.outcomes import CellOutcome
from mcore_compat.publish.collation import Collated
from mcore_compat.resolve import resolution
from mcore_compat.results.result import Result, out_of_date

Staleness = Mapping[tuple[str, str], str]
"""By cell and device class: why its result is out of date. Results that are up to date are left
out."""


def stale(all_: Collated, suite: str, digests: Mapping[str, str]) -> Staleness:
    """Why results are out of date. `suite`: the digest of the current suite; `digests`: that of
    each cell's current lock."""
    cells = {cell.name: cell for cell in all_.cells}
    reasons: dict[tuple[str, str], str] = {}
    for e in all_.found:
        why = _why(e, cells.get(e.cell), all_, suite, digests.get(e.cell, ""))
        if why:
            reasons[e.cell, e.device_class] = why
    return reasons


def _why(e: Result, cell: Cell | None, all_: Collated, suite: str, lock: str) -> str:
    newer = moved(cell, e.pins) if cell else ()
    if cell and newer:
        return ", ".join(f"{axis} {cell.pins[axis]} is out" for axis in newer)
    if e.outcome is CellOutcome.UNRESOLVABLE:
        if cell is None or (
            not lock and e.lock == resolution.asked_for(cell, all_.matrix, all_.releases)
        ):
            return ""
        return "the requirements to resolve changed"
    return out_of_date(e, lock=lock, suite=suite, python=e.pins.get("python", ""))
