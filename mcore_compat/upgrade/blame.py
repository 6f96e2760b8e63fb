"""Which of the changes that came together make something fail: delta debugging. Pure.

A combination is the set of axes that are moved to their new version, all others being at their
old one. Nothing is taken for granted of combinations that were not asked: that more changes fail
where fewer do is what the search follows, and never what a set is called minimal for.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from mcore_compat.analysis.bisect.halving import CheckState

Moved = frozenset[str]
"""A combination: the axes that are moved."""

Ask = Callable[[Moved], CheckState | None]
"""The state of a combination; None where it is not asked now."""


@dataclass(frozen=True, kw_only=True)
class Culprit:
    """Axes that make it fail together, and no smaller combination of them that was asked does.

    `silent`: smaller ones that cannot be asked; `unknown`: smaller ones that were not asked.
    """

    axes: tuple[str, ...]
    silent: tuple[tuple[str, ...], ...] = ()
    unknown: tuple[tuple[str, ...], ...] = ()

    @property
    def proved(self) -> bool:
        """Whether every smaller combination was seen to work."""
        return not self.silent and not self.unknown


@dataclass(frozen=True, kw_only=True)
class Blame:
    """`culprits` are the minimal sets that were found, the smallest first.

    `innocent`: combinations that work; `silent`: those that cannot be asked. `whole`: there is no
    other minimal set, unless one change repairs what others break or it needs what cannot be asked.
    """

    culprits: tuple[Culprit, ...]
    innocent: tuple[tuple[str, ...], ...]
    silent: tuple[tuple[str, ...], ...]
    whole: bool


@dataclass(frozen=True, kw_only=True)
class BlameReport:
    """What is to blame. `cells`: by combination, the cell that was asked; `why`: by combination,
    why it cannot be; `open`: the cells that could still be asked; `seconds` for one of them."""

    blame: Blame
    cells: Mapping[tuple[str, ...], str] = field(default_factory=dict)
    why: Mapping[tuple[str, ...], str] = field(default_factory=dict)
    open: tuple[str, ...] = ()
    seconds: float = 0.0

    def reasons(self, combinations: Sequence[tuple[str, ...]]) -> dict[str, list[str]]:
        """Combinations by why they cannot be asked; empty where that is not known."""
        reasons: dict[str, list[str]] = {}
        for axes in combinations:
            reasons.setdefault(self.why.get(axes, ""), []).append(" + ".join(axes))
        return reasons


def combinations(axes: Sequence[str]) -> Iterator[Moved]:
    """Every combination that moves some and not all, the smallest first."""
    for size in range(1, len(axes)):
        yield from map(frozenset, itertools.combinations(axes, size))


def find(
    axes: Sequence[str],
    ask: Ask,
    known: Mapping[Moved, CheckState] | None = None,
    hints: Iterable[Collection[str]] = (),
) -> Blame:
    """Every minimal set of `axes` that makes it fail.

    Nothing moved works, and all moved fails: that is the question. What is `known` is never asked,
    and nothing is asked twice. `hints` are asked first: that is cheaper where they are right.
    """
    search = _Search(axes, ask, known or {}, [frozenset(hint) for hint in hints])
    minimal: list[Moved] = []
    # Another minimal set lacks an axis of each that was found: leave them out, one by one.
    queue, seen = deque([Moved()]), {Moved()}
    whole = True
    while queue:
        out = queue.popleft()
        rest = search.every - out
        culprit = next((axes for axes in minimal if axes <= rest), None)
        if culprit is None:
            start = search.start(rest)
            if start is not None:
                culprit = search.least(start)
                minimal.append(culprit)
        if culprit is None and search.states[rest] is None:
            whole = False
        # What cannot be asked as a whole may hold smaller ones that fail.
        silent = culprit is None and search.states[rest] is CheckState.SILENT
        for axis in search.ordered(rest if silent else culprit or ()):
            further = out | {axis}
            if further not in seen:
                seen.add(further)
                queue.append(further)
    return search.blame(minimal, whole)


class _Search:
    """What is known so far, and how more is learnt."""

    def __init__(
        self,
        axes: Sequence[str],
        ask: Ask,
        known: Mapping[Moved, CheckState],
        hints: Sequence[Moved],
    ) -> None:
        self.every = frozenset(axes)
        self._axes = tuple(axes)
        self._ask = ask
        self._hints = hints
        given = {moved: state for moved, state in known.items() if moved <= self.every}
        self.states: dict[Moved, CheckState | None] = {
            **given,
            Moved(): CheckState.GOOD,
            self.every: CheckState.BAD,
        }

    def ordered(self, moved: Iterable[str]) -> tuple[str, ...]:
        """In the order in which the axes were given."""
        return tuple(sorted(moved, key=self._axes.index))

    def bad(self, moved: Moved) -> bool:
        """Whether it fails with these moved; asks where that is not known."""
        if moved not in self.states:
            self.states[moved] = self._ask(moved)
        return self.states[moved] is CheckState.BAD

    def start(self, rest: Moved) -> Moved | None:
        """A combination within `rest` that fails: one that is known, else `rest` itself."""
        return self._known_bad(self._below(rest)) or (rest if self.bad(rest) else None)

    def least(self, moved: Moved) -> Moved:
        """A combination within `moved`, which fails, of which no smaller one was seen to fail."""
        while smaller := self._smaller(moved):
            moved = smaller
        return moved

    def _smaller(self, moved: Moved) -> Moved | None:
        known = self._known_bad(self._below(moved))
        if known is not None:
            return known
        hinted = [hint for hint in self._hints if hint and hint < moved]
        # Parts and what is left without them, ever finer; then all that is left to be asked, for
        # a change may repair what another breaks.
        smaller = itertools.chain(hinted, self._parts(moved), self._below(moved))
        return next((axes for axes in smaller if self.bad(axes)), None)

    def _parts(self, moved: Moved) -> Iterator[Moved]:
        order, count = self.ordered(moved), 2
        while count <= len(order):
            edges = [len(order) * place // count for place in range(count + 1)]
            parts = [frozenset(order[a:b]) for a, b in itertools.pairwise(edges)]
            yield from parts
            if count > 2:
                yield from (moved - part for part in parts)
            if count == len(order):
                return
            count = min(2 * count, len(order))

    def _below(self, moved: Moved) -> Iterator[Moved]:
        """Smaller combinations within it that move anything, the smallest first."""
        return combinations(self.ordered(moved))

    def _known_bad(self, among: Iterable[Moved]) -> Moved | None:
        return next((axes for axes in among if self.states.get(axes) is CheckState.BAD), None)

    def blame(self, minimal: Sequence[Moved], whole: bool) -> Blame:
        """What the search came to."""
        every = [*self._below(self.every), self.every]
        return Blame(
            culprits=tuple(
                Culprit(
                    axes=self.ordered(axes),
                    silent=self._those(CheckState.SILENT, self._below(axes)),
                    unknown=self._those(None, self._below(axes)),
                )
                for axes in every
                if axes in minimal
            ),
            innocent=self._those(CheckState.GOOD, every),
            silent=self._those(CheckState.SILENT, every),
            whole=whole,
        )

    def _those(
        self, state: CheckState | None, among: Iterable[Moved]
    ) -> tuple[tuple[str, ...], ...]:
        """Those of which this is known; None: that they were not asked."""
        return tuple(self.ordered(axes) for axes in among if self.states.get(axes) is state)
