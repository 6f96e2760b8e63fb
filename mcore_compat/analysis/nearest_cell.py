"""The tested cell that stands for an environment of other versions. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mcore_compat.analysis.published import CellRecord
from mcore_compat.core.cells import AXES, series_of

_WEIGHT = {"megatron-core": 4, "nvidia-modelopt": 4, "transformer-engine": 2, "torch": 2}


def distance(pins: Mapping[str, str], cell: CellRecord) -> tuple[int, int, str]:
    """How far a cell is from some versions: whole series first, then patches; ModelOpt and
    megatron-core count most."""
    other = [a for a in AXES if cell.pins[a] != pins[a]]
    series = [a for a in other if series_of(cell.pins[a]) != series_of(pins[a])]
    near, far = (sum(_WEIGHT.get(a, 1) for a in axes) for axes in (series, other))
    return near, far, cell.name


def nearest(pins: Mapping[str, str], cells: Sequence[CellRecord]) -> CellRecord | None:
    """The tested cell that shares most axes."""
    tested = [c for c in cells if c.checks]
    return min(tested, key=lambda cell: distance(pins, cell), default=None)
