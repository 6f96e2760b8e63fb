"""Two cells that differ in Transformer Engine and torch → the line of stacks between them, and
after a bisection which of the two decides. Pure.

The two packages change together, because each TE is built for a torch: a point is the default stack
of some megatron-core series, with the megatron-core and ModelOpt of the good cell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from mcore_compat.analysis.bisect import release_line
from mcore_compat.analysis.bisect.halving import CheckState
from mcore_compat.analysis.bisect.release_line import (
    PYTHON,
    STACK,
    TE,
    TORCH,
    Facts,
    Point,
    ReleaseLine,
    differing,
)
from mcore_compat.analysis.bisect.search import PointState
from mcore_compat.base.errors import UsageError
from mcore_compat.core.cells import Cell, parsed

AXIS = "stack"
MOVING = (TE, TORCH)


def is_meant(good: Cell, bad: Cell) -> bool:
    """Whether two cells differ in TE and torch, and in no other axis except Python."""
    other = {*differing(good.pins, bad.pins)}
    return {*MOVING} <= other <= {*STACK}


def between(good: Cell, bad: Cell, facts: Facts) -> ReleaseLine:
    """Return the line of stacks between two cells; the other axes stay as in the good one.

    Raises:
        UsageError: they do not differ in both, or one has the newer TE and the older torch.
    """
    other = differing(good.pins, bad.pins)
    for axis in MOVING:
        if axis not in other:
            raise UsageError(
                f"{good.name} and {bad.name} have the same {axis}: {good.pins[axis]}; "
                "leave out --axis stack, or name another axis"
            )
    old, new = sorted((good, bad), key=lambda cell: parsed(cell.te))
    if parsed(old.torch) > parsed(new.torch):
        raise UsageError(
            f"{new.name} has the newer {TE} and the older {TORCH}: name one of them with --axis"
        )
    held = {axis: v for axis, v in good.pins.items() if axis not in (*MOVING, *_python(other))}
    chosen = {(s.te, s.torch): s.python for s in facts.matrix.stacks.values()}
    inner = [
        (te, torch)
        for te, torch in sorted(chosen, key=lambda pair: [parsed(version) for version in pair])
        if parsed(old.te) <= parsed(te) <= parsed(new.te)
        and parsed(old.torch) <= parsed(torch) <= parsed(new.torch)
        and (te, torch) not in ((old.te, old.torch), (new.te, new.torch))
    ]
    pythons = {**chosen, (old.te, old.torch): old.python, (new.te, new.torch): new.python}
    points = []
    for te, torch in ((old.te, old.torch), *inner, (new.te, new.torch)):
        moved = {TE: te, TORCH: torch, PYTHON: pythons[te, torch]}
        points.append(_point(_text(te, torch), {**moved, **held}, facts))
    return ReleaseLine(
        axis=AXIS,
        points=tuple(points),
        fixed=old is not good,
        held=held,
        moving=(),
        without=(),
        notes=release_line.unlike(bad, points[0 if old is bad else -1].cell),
    )


def _python(other: Sequence[str]) -> tuple[str, ...]:
    """Return the axis Python if the two ends differ in it: only then it changes."""
    return (PYTHON,) if PYTHON in other else ()


def _text(te: str, torch: str) -> str:
    return f"TE {te}, torch {torch}"


def _point(text: str, pins: Mapping[str, str], facts: Facts) -> Point:
    cell = release_line.cell_with(pins, (), facts)
    return Point(version=text, cell=cell, refused=release_line.refusal(cell, facts))


def single_moves(line: ReleaseLine, facts: Facts) -> ReleaseLine:
    """Return two points, for a line whose ends are neighbours: the good end with the bad one's TE,
    and the good end with the bad one's torch. The two have no order."""
    good, bad = (line.points[place].cell for place in line.ends)
    points = [
        _point(f"{axis} {bad.pins[axis]}", {**good.pins, axis: bad.pins[axis]}, facts)
        for axis in MOVING
    ]
    return replace(line, points=tuple(points), fixed=False, notes=())


def neighbours(line: ReleaseLine, last: int, first: int) -> ReleaseLine:
    """Return the part of a line between two points."""
    return replace(line, points=(line.points[last], line.points[first]))


def decision(states: Sequence[PointState]) -> str:
    """Return which of TE and torch decides, from the states of the good cell with each of them."""
    good, bad, silent = CheckState.GOOD, CheckState.BAD, CheckState.SILENT
    te, torch = (state.state for state in states)
    return {
        (bad, good): f"{TE} decides: it alone changes the check, and {TORCH} alone does not",
        (good, bad): f"{TORCH} decides: it alone changes the check, and {TE} alone does not",
        (bad, bad): f"{TE} alone changes the check, and so does {TORCH} alone",
        (good, good): f"neither alone changes the check: {TE} and {TORCH} decide together",
        (bad, silent): f"{TE} alone changes the check; the effect of {TORCH} alone is not known",
        (silent, bad): f"{TORCH} alone changes the check; the effect of {TE} alone is not known",
        (good, silent): f"{TE} alone does not change the check: {TORCH} decides, or both together",
        (silent, good): f"{TORCH} alone does not change the check: {TE} decides, or both together",
        (
            silent,
            silent,
        ): f"not known which of {TE} and {TORCH} decides: neither alone has a result",
    }[te, torch]
