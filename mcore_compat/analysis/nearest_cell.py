"""The tested cell that stands for an environment of other versions. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mcore_compat.analysis.cell_record import CellRecord
from mcore_compat.core.cells import AXES, series_of

_WEIGHTS = tuple(zip(AXES, (4, 4, 2, 2, 1), strict=True))


def distance(pins: Mapping[str, str], cell: CellRecord) -> tuple[int, int, str]:
    """How far a cell is from some versions: whole series first, then patches; ModelOpt and
    megatron-core count most."""
    near = far = 0
    for axis, weight in _WEIGHTS:
        one, other = cell.pins[axis], pins[axis]
        if one != other:
            far += weight
            near += weight if series_of(one) != series_of(other) else 0
    return near, far, cell.name


def nearest(pins: Mapping[str, str], cells: Sequence[CellRecord]) -> CellRecord | None:
    """The tested cell that shares most axes."""
    tested = [c for c in cells if c.checks]
    return min(tested, key=lambda cell: distance(pins, cell), default=None)
