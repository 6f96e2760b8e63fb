"""Where along a line of releases a check changes, asking as few cells as can be. Pure.

The answer is a pair of neighbours where every release between could be asked; else a range. What
lies outside of the two ends that were given is nobody's question.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass


class CheckState(enum.Enum):
    """What a cell says of the check."""

    GOOD = "good"
    BAD = "bad"
    SILENT = "silent"
    """It cannot be asked: unresolvable, unbuildable, needs-gpu, blocked, unsupported."""


@dataclass(frozen=True, kw_only=True)
class ChangePoint:
    """`last` is as the good end, `first` as the bad one, and no point between was told apart.

    `silent` are the points between them that could not be asked: the change may be at any of them
    or at `first`. `asked` were asked for this answer, in order. `against` are points that say
    otherwise than a single change would: then there is more than one, and this is one of them.
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
    """Between point 0, which is good, and point `count - 1`, which is bad.

    `known` are points of which the state is known already; they are not asked. Of n points at most
    ceil(log2(n)) that answer are asked, and each that is silent at most once.
    """
    states = {0: CheckState.GOOD, count - 1: CheckState.BAD, **(known or {})}
    asked: list[int] = []
    low, high = nearest(states, count)
    while True:
        open_ = [point for point in range(low + 1, high) if point not in states]
        if not open_:
            break
        # The middle of those that may answer: each answer leaves at most half of them.
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
        # All before `low` that answered are good: the first change that is known was halved.
        against=tuple(p for p in sorted(states) if p > high and states[p] is CheckState.GOOD),
    )


def nearest(states: Mapping[int, CheckState], count: int) -> tuple[int, int]:
    """The closest good point that has a bad one after it, with nothing else known between them;
    the first such pair where there are several."""
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
    """The answer in words. `fixed`: the first point is the bad one; `broken`: how that ends.
    `unrun`: points that would have answered, perhaps, and were not to be run."""
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
        rows += [f"could not be asked: {', '.join(cannot)}"] if cannot else []
        rows += [f"not run: {', '.join(left)}"] if left else []
        rows.append(f"the change may be at any of them, or at {first}")
    if answer.against:
        others = ", ".join(names[point] for point in answer.against)
        rows.append(f"there is more than one change: {others} say otherwise")
    return rows
