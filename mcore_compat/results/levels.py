"""The headline: the level of a pair, and how many checks of each feature work. Pure.

The levels follow the features in the order in which people need them. A level is reached if all
levels below it work for at least one family; it is `in part` if not all of it works. A feature that
the release does not have does not change a level; checks that need a GPU are shown beside it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import groupby

from mcore_compat.core.matrix import Pairs
from mcore_compat.core.outcomes import FAILS, HOLDS, CellOutcome, CheckOutcome
from mcore_compat.core.profiles import ALL, DEFAULT, Points
from mcore_compat.results import answer
from mcore_compat.results.result import STAND_IN, CheckEndings, Result


class Level(Enum):
    """A level, or why there is none: key, mark, the words of the legend."""

    UNTESTED = "untested", "·", "not tested"
    UNRESOLVABLE = "unresolvable", "⊘", "cannot be installed on this stack"
    UNBUILDABLE = "unbuildable", "⚒", "cannot be built on this stack"
    NOTHING = "nothing", "✗", "0: no checkpoint restores"
    NO_IMPORT = (
        "no-import",
        "◌",
        "checkpoints restore, but ModelOpt or its plugin does not import",
    )
    RESTORES = "restores", "○", "1: checkpoints restore, but no quantized state"
    SOME = "some", "◔", "2: quantized state restores, for some formats or families"
    QUANTIZES = "quantizes", "◑", "3: quantized state restores, for all formats and families"
    TE_SOME = "te-some", "◕", "4: some of it on the default TE spec, too"
    TE = "te", "●", "5: all of it on the default TE spec, too"
    GPU = "gpu", "★", "6: and a GPU computes the same"

    def __init__(self, key: str, mark: str, words: str) -> None:
        self.key, self.mark, self.words = key, mark, words

    @property
    def number(self) -> str:
        """Its number; empty if it is not a level."""
        return self.words.partition(":")[0] if ":" in self.words else ""


SHOWN = (("R", "restore"), ("Q", "quantize"), ("TE", "quantize-te"), ("GPU", "inference"))
"""The features that a square counts, by letter."""


@dataclass(frozen=True, kw_only=True)
class Square:
    """A pair in the headline. `counts`: by letter how many points work of how many, `–` if they
    need a GPU, `none` if the release does not have them; `good`: compatible for `default`; `says`:
    the reason in one sentence; `remarks`: further properties of the result."""

    level: Level
    counts: tuple[tuple[str, str], ...] = ()
    good: bool = False
    says: str = ""
    remarks: tuple[str, ...] = ()

    @property
    def lines(self) -> tuple[str, ...]:
        """`R 4/4`, and so on; without the GPU if no check would run on one."""
        every = (f"{letter} {count}" for letter, count in self.counts)
        return tuple(line for line in every if line != "GPU none")

    def text(self, *, gpu: bool = True) -> str:
        """`◑ R 4/4 · Q 16/16 · TE 9/10 · GPU –`; the last only with `gpu`."""
        said = [(letter, count) for letter, count in self.counts if gpu or letter != "GPU"]
        counts = " · ".join(f"{letter} {count}" for letter, count in said)
        return f"{self.level.mark} {counts}" if counts else self.level.mark


def square(e: Result | None, rules: Sequence[Pairs] = (), stale: str = "") -> Square:
    """The square of a result in the headline."""
    if e is None or level(e) is Level.UNTESTED:
        return Square(level=Level.UNTESTED, says="there is no result of this pair")
    if not e.checks:
        return Square(level=level(e), says=e.reason.message if e.reason else "")
    remarks = ["stale"] if stale else []
    if e.te_extension == STAND_IN:
        remarks.append("stand-in")
    failing = answer.failures(e, DEFAULT, rules) or answer.failures(e, ALL, rules)
    rung = _rung(e.endings)
    decides = [each for each in failing if rung is Level.NO_IMPORT and "install" in each.features]
    return Square(
        level=rung,
        counts=_counts(e.endings),
        good=answer.outcome(e) is CellOutcome.COMPATIBLE,
        says=(decides or failing)[0].text() if failing else "no check that was run fails",
        remarks=tuple(remarks),
    )


def line(e: Result) -> str:
    """The outcome and level of a cell, for a listing: `partial ◑ level 3: R 4/4 · Q 16/16`."""
    reached = level(e)
    if reached not in _REACHED:
        return e.outcome.value
    square = Square(level=reached, counts=_counts(e.endings))
    rung = f"level {reached.number}" if reached.number else reached.key
    return f"{e.outcome.value} {reached.mark} {rung}: {' · '.join(square.lines)}"


@functools.cache
def _counts(endings: CheckEndings) -> tuple[tuple[str, str], ...]:
    """The counts of a square by letter. GPU checks that are only blocked did not run."""
    points = endings.points.items()
    held = {p: NEEDS_GPU if (p.feature, o) == _NOT_RUN else o for p, o in points}
    return tuple((letter, _count(_of(held, feature))) for letter, feature in SHOWN)


NEEDS_GPU = CheckOutcome.NEEDS_GPU

_NOT_RUN = ("inference", CheckOutcome.BLOCKED)


def level(e: Result) -> Level:
    """The level of a result."""
    if e.outcome in (CellOutcome.ERROR, CellOutcome.UNTESTED):
        return Level.UNTESTED
    if not e.checks:
        unbuildable = e.outcome is CellOutcome.UNBUILDABLE
        return Level.UNBUILDABLE if unbuildable else Level.UNRESOLVABLE
    return _rung(e.endings)


@functools.cache
def _rung(endings: CheckEndings) -> Level:
    """The highest level that is reached."""
    points = endings.points
    restores, quantizes, te, gpu = (_held(_of(points, feature)) for _, feature in SHOWN)
    if not restores[0]:
        return Level.NOTHING
    if not quantizes[0]:
        tried = FAILS.intersection(_of(points, "quantize"))
        return Level.NO_IMPORT if tried == {CheckOutcome.BLOCKED} else Level.RESTORES
    if quantizes[0] < quantizes[1]:
        return Level.SOME
    if not te[0]:
        return Level.QUANTIZES
    if te[0] < te[1]:
        return Level.TE_SOME
    return Level.GPU if gpu[1] and gpu[0] == gpu[1] else Level.TE


def _of(points: Points, feature: str) -> list[CheckOutcome]:
    return [outcome for point, outcome in points.items() if point.feature == feature]


def _held(outcomes: Iterable[CheckOutcome]) -> tuple[int, int]:
    ended = [*outcomes]
    return sum(o in HOLDS for o in ended), sum(o in HOLDS or o in FAILS for o in ended)


def _count(outcomes: Sequence[CheckOutcome]) -> str:
    good, of = _held(outcomes)
    if of:
        return f"{good}/{of}"
    return "–" if CheckOutcome.NEEDS_GPU in outcomes else "none"


@dataclass(frozen=True, kw_only=True)
class Note:
    """A failure or condition that all pairs with checks of a row or column share."""

    text: str


def notes(results: Iterable[Result], rules: Sequence[Pairs]) -> tuple[Note, ...]:
    """The failures and conditions that all of some results share; empty for fewer than three."""
    asked = [e for e in results if e.checks]
    if len(asked) < 3:
        return ()
    said = [dict.fromkeys(_said(e, rules)) for e in asked]
    return tuple(Note(text=text) for text in said[0] if all(text in other for other in said))


def _said(e: Result, rules: Sequence[Pairs]) -> list[str]:
    failing = [each.text() for each in answer.failures(e, ALL, rules)]
    beside = answer.conditional(e, ALL)
    return [*failing, *(f"{', '.join(what)}: only with {how}" for how, what in beside.items())]


def best_of(squares: Mapping[tuple[str, str], Square], row: str, columns: Sequence[str]) -> str:
    """The best column of a row, of columns with the oldest first: the newest that is compatible for
    `default`; without one, the newest with the highest level, if quantized state is restored there
    at all. Empty if there is none."""
    line = {c: squares[row, c] for c in reversed(columns) if (row, c) in squares}
    good = next((column for column, square in line.items() if square.good), "")
    if good or not line:
        return good
    far = max(line, key=lambda column: _ORDER.index(line[column].level))
    return far if line[far].level in _ORDER[_ORDER.index(Level.SOME) :] else ""


_ORDER = [*Level]
_REACHED = _ORDER[_ORDER.index(Level.NOTHING) :]
"""Those of a pair that came to its checks."""


def runs(words: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Equal neighbours of a line, together: what, and `0.21 to 0.47` or the only one."""
    found = []
    for what, run in groupby(words, key=lambda pair: pair[0]):
        names = [name for _, name in run]
        found.append((what, names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"))
    return found
