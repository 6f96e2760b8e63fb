"""Which cell stands for what is installed. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from packaging.version import InvalidVersion

from mcore_compat.analysis import doctor
from mcore_compat.analysis.published import CellRecord
from mcore_compat.base.errors import UsageError
from mcore_compat.core.cells import AXES, parsed
from mcore_compat.environments.scan import Installed

WORDS = ("current", "FROM=current")


class Chosen(NamedTuple):
    """The cell's name, in words how near it is, and whether it is only the nearest."""

    name: str
    note: str
    stands_in: bool


def current(there: Installed, cells: Sequence[CellRecord]) -> Chosen:
    """The tested cell that is the same as what is installed, else the nearest.

    Raises:
        UsageError: an axis is not installed, or has a version that is none; nothing was tested.
    """
    pins = doctor.pins_of(there)
    for axis in AXES:
        if axis not in pins:
            raise UsageError(
                f"current: {axis} is not installed there; name a cell, or another environment "
                "with --python"
            )
        try:
            parsed(pins[axis])
        except InvalidVersion:
            raise UsageError(f'current: {axis} has no valid version: "{pins[axis]}"') from None
    same = [c.name for c in cells if all(c.pins[axis] == pins[axis] for axis in AXES)]
    if same:
        return Chosen(min(same), "FROM is what is installed", stands_in=False)
    near = doctor.nearest(pins, cells)
    if near is None:
        raise UsageError("current: no cell was tested that could stand for what is installed")
    other = [f"{a} {pins[a]} (there {near.pins[a]})" for a in AXES if near.pins[a] != pins[a]]
    told = f"what is installed was not tested; {near.name} is the nearest, unlike it in "
    return Chosen(near.name, told + ", ".join(other), stands_in=True)
