"""Find where a check changes along a line of releases, with as few runs as possible. Pure.

The answer is a pair of neighbours, or a range if releases between them give no answer. Releases
outside of the two ends are not considered.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass


class CheckState(enum.Enum):
    """The state of the check in a cell."""

    GOOD = "good"
    BAD = "bad"
    SILENT = "silent"
    """The cell gives no answer: unresolvable, unbuildable, needs-gpu, blocked, unsupported."""


@dataclass(frozen=True, kw_only=True)
class ChangePoint:
    """`last` has the state of the good end, `first` that of the bad one, and no point between them
    has either.

    `silent`: the points between them that give no answer; the change may be at any of them or at
    `first`. `asked`: the points that were run for this, in order. `against`: points that contradict
    a single change; then there is more than one change, and this is one of them.
    """

    last: int
    first: int
    silent: tuple[int, ...]
    asked: tuple[int, ...]
    against: tuple[int, ...]

    @property
    def exact(self) -> bool:
        """Whether the change is known to be at `first`."""
        return not self.silent


def bisect(
    count: int, ask: Callable[[int], CheckState], known: Mapping[int, CheckState] | None = None
) -> ChangePoint:
    """Find the change between point 0, which is good, and point `count - 1`, which is bad.

    `known`: the known states; `ask` is not called for these. Of n points, `ask` is called for at
    most ceil(log2(n)) that give an answer, and at most once for each that gives none.
    """
    states = {0: CheckState.GOOD, count - 1: CheckState.BAD, **(known or {})}
    asked: list[int] = []
    low, high = nearest(states, count)
    while True:
        open_ = [point for point in range(low + 1, high) if point not in states]
        if not open_:
            break
        # The middle of the open points: each answer leaves at most half of them.
        point = open_[len(open_) // 2]
        states[point] = ask(point)
        asked.append(point)
        if states[point] is CheckState.GOOD:
            low = point
        elif states[point] is CheckState.BAD:
            high = point
    return ChangePoint(
        last=low,
        first=high,
        silent=tuple(p for p in range(low + 1, high) if states[p] is CheckState.SILENT),
        asked=tuple(asked),
        # All points with an answer before `low` are good, because the first change was halved.
        against=tuple(p for p in sorted(states) if p > high and states[p] is CheckState.GOOD),
    )


def nearest(states: Mapping[int, CheckState], count: int) -> tuple[int, int]:
    """Return the first two consecutive points with an answer that are good and bad; else both
    ends."""
    points = sorted(p for p in states if states[p] is not CheckState.SILENT)
    for low, high in itertools.pairwise(points):
        if states[low] is CheckState.GOOD and states[high] is CheckState.BAD:
            return low, high
    return 0, count - 1


def lines(
    answer: ChangePoint,
    names: Sequence[str],
    check: str,
    *,
    axis: str = "",
    fixed: bool = False,
    broken: str = "broken",
    unrun: Collection[int] = (),
) -> list[str]:
    """Return the answer as lines. `fixed`: the first point is the bad one; `broken`: the word for
    the bad outcome; `unrun`: points that were not run because nothing may run."""
    was, is_now = (broken, "works") if fixed else ("works", broken)
    last, first = names[answer.last], names[answer.first]
    at = f"{axis} {first}".strip()
    seen = f"{was} at {last}, {is_now} at {first}"
    if answer.exact:
        rows = [f"{check} changes at {at}: {seen}"]
    else:
        rows = [f"{check} changes after {last} and at {at} at the latest: {seen}"]
        cannot = [names[point] for point in answer.silent if point not in unrun]
        left = [names[point] for point in answer.silent if point in unrun]
        rows += [f"no answer at: {', '.join(cannot)}"] if cannot else []
        rows += [f"not run: {', '.join(left)}"] if left else []
        rows.append(f"the change may be at any of them, or at {first}")
    if answer.against:
        others = ", ".join(names[point] for point in answer.against)
        rows.append(f"there is more than one change: {others} contradict a single one")
    return rows
