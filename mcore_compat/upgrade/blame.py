"""Which of several simultaneous version changes cause a failure: delta debugging. Pure.

A combination is a set of axes at their new version; all other axes are at their old one. The search
tries combinations in an order that is good if a failure persists when more axes move, but it never
concludes anything about a combination that was not tested: a set is called minimal only for its
tested subsets.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from mcore_compat.analysis.bisect.halving import CheckState

Moved = frozenset[str]
"""A combination: the axes that are at their new version."""

Ask = Callable[[Moved], CheckState | None]
"""Tests a combination and returns its state; None if it is not tested now."""


@dataclass(frozen=True, kw_only=True)
class Culprit:
    """Axes that together cause the failure, while no tested smaller combination of them does.

    `silent`: smaller combinations that cannot be tested; `unknown`: those that were not tested.
    """

    axes: tuple[str, ...]
    silent: tuple[tuple[str, ...], ...] = ()
    unknown: tuple[tuple[str, ...], ...] = ()

    @property
    def proved(self) -> bool:
        """Whether every smaller combination was tested and works."""
        return not self.silent and not self.unknown


@dataclass(frozen=True, kw_only=True)
class Blame:
    """What the search found. `culprits`: the minimal failing sets, the smallest first.

    `innocent`: combinations that work; `silent`: those that cannot be tested. `whole`: no other
    minimal set exists, unless one change repairs what others break, or the set contains a
    combination that cannot be tested.
    """

    culprits: tuple[Culprit, ...]
    innocent: tuple[tuple[str, ...], ...]
    silent: tuple[tuple[str, ...], ...]
    whole: bool


@dataclass(frozen=True, kw_only=True)
class BlameReport:
    """What is to blame, with the cells that show it. `cells`: by combination, the tested cell;
    `why`: by combination, why it cannot be tested; `open`: cells that could still be tested;
    `seconds`: how long one of these takes."""

    blame: Blame
    cells: Mapping[tuple[str, ...], str] = field(default_factory=dict)
    why: Mapping[tuple[str, ...], str] = field(default_factory=dict)
    open: tuple[str, ...] = ()
    seconds: float = 0.0

    def reasons(self, combinations: Sequence[tuple[str, ...]]) -> dict[str, list[str]]:
        """Combinations, grouped by why they cannot be tested; the empty reason: not known."""
        reasons: dict[str, list[str]] = {}
        for axes in combinations:
            reasons.setdefault(self.why.get(axes, ""), []).append(" + ".join(axes))
        return reasons


def combinations(axes: Sequence[str]) -> Iterator[Moved]:
    """Every combination that moves some of the axes and not all, the smallest first."""
    for size in range(1, len(axes)):
        yield from map(frozenset, itertools.combinations(axes, size))


def find(
    axes: Sequence[str],
    ask: Ask,
    known: Mapping[Moved, CheckState] | None = None,
    hints: Iterable[Collection[str]] = (),
) -> Blame:
    """Every minimal set of `axes` that causes the failure.

    The caller has seen that it works with all axes at their old version and fails with all at
    their new one. `known` combinations are not tested again, and none is tested twice. `hints` are
    tested first, which saves tests if they are right.
    """
    search = _Search(axes, ask, known or {}, [frozenset(hint) for hint in hints])
    minimal: list[Moved] = []
    # Any other minimal set lacks at least one axis of each set found so far: leave each axis out.
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
        # A combination that cannot be tested may contain smaller ones that fail.
        silent = culprit is None and search.states[rest] is CheckState.SILENT
        for axis in search.ordered(rest if silent else culprit or ()):
            further = out | {axis}
            if further not in seen:
                seen.add(further)
                queue.append(further)
    return search.blame(minimal, whole)


class _Search:
    """The states known so far, and how to find more."""

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
        """Sorted in the order in which the caller gave the axes."""
        return tuple(sorted(moved, key=self._axes.index))

    def bad(self, moved: Moved) -> bool:
        """Whether a combination fails; tests it if that is not known."""
        if moved not in self.states:
            self.states[moved] = self._ask(moved)
        return self.states[moved] is CheckState.BAD

    def start(self, rest: Moved) -> Moved | None:
        """A combination within `rest` that fails: a known one, else `rest` itself; None if neither
        fails."""
        return self._known_bad(self._below(rest)) or (rest if self.bad(rest) else None)

    def least(self, moved: Moved) -> Moved:
        """A failing combination within `moved`, none of whose subsets is known to fail. `moved`
        itself fails."""
        while smaller := self._smaller(moved):
            moved = smaller
        return moved

    def _smaller(self, moved: Moved) -> Moved | None:
        known = self._known_bad(self._below(moved))
        if known is not None:
            return known
        hinted = [hint for hint in self._hints if hint and hint < moved]
        # Ever smaller parts and their complements; then all other combinations, because one change
        # may repair what another breaks.
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
        """The non-empty proper subsets of `moved`, the smallest first."""
        return combinations(self.ordered(moved))

    def _known_bad(self, among: Iterable[Moved]) -> Moved | None:
        return next((axes for axes in among if self.states.get(axes) is CheckState.BAD), None)

    def blame(self, minimal: Sequence[Moved], whole: bool) -> Blame:
        """The result of the search. `minimal`: the sets that it found."""
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
        """The combinations that are in a state; `state` None: those that were not tested."""
        return tuple(self.ordered(axes) for axes in among if self.states.get(axes) is state)
