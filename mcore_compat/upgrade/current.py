"""Which cell stands for what is installed. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from packaging.version import InvalidVersion

from mcore_compat import doctor
from mcore_compat.cells import AXES, parsed
from mcore_compat.errors import UsageError
from mcore_compat.inspected import Installed
from mcore_compat.published import CellRecord

WORDS = ("current", "FROM=current")


def current(there: Installed, cells: Sequence[CellRecord]) -> tuple[str, str]:
    """The tested cell that is the same or nearest, and in words how near it is.

    Raises:
        UsageError: an axis is not installed, or has a version that is none; nothing was tested.
    """
    pins = doctor.pins_of(there)
    core = next((there.versions[name] for name in doctor.CORES if name in there.versions), None)
    if core is not None:
        pins.setdefault(doctor.TE, core.partition("+")[0])
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
        return min(same), "FROM is what is installed"
    near = doctor.nearest(pins, cells)
    if near is None:
        raise UsageError("current: no cell was tested that could stand for what is installed")
    other = [f"{a} {pins[a]} (there {near.pins[a]})" for a in AXES if near.pins[a] != pins[a]]
    told = f"what is installed was not tested; {near.name} is the nearest, unlike it in "
    return near.name, told + ", ".join(other)
