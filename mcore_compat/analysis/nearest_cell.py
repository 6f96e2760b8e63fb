"""The tested cell nearest to other versions. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mcore_compat.analysis.cell_record import CellRecord
from mcore_compat.core.cells import AXES, series_of

WEIGHTS = dict(zip(AXES, (4, 4, 2, 2, 1), strict=True))
"""How much an axis counts in a distance."""


def distance(pins: Mapping[str, str], cell: CellRecord) -> tuple[int, int, str]:
    """Return how far a cell is from some versions: different series count before different patches,
    megatron-core and ModelOpt most."""
    near = far = 0
    for axis, weight in WEIGHTS.items():
        one, other = cell.pins[axis], pins[axis]
        if one != other:
            far += weight
            near += weight if series_of(one) != series_of(other) else 0
    return near, far, cell.name


def nearest(pins: Mapping[str, str], cells: Sequence[CellRecord]) -> CellRecord | None:
    """Return the tested cell nearest to some versions; None if none was tested."""
    tested = [c for c in cells if c.checks]
    return min(tested, key=lambda cell: distance(pins, cell), default=None)
