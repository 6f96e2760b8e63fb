"""Stage results → next cells: the untested combinations on non-default stacks that are most likely
to change an answer. Pure.

Transformer Engine and torch have too many combinations to run all. A candidate differs from a cell
that ran its checks in one of the two alone, or in the patch of a series, so that one version makes
the difference. The value of its possible answers is weighed against its minutes.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from packaging.version import Version

from mcore_compat.analysis.declarations import holds
from mcore_compat.analysis.explanation import Explained
from mcore_compat.analysis.rules import NO_CHECKS, Bound, FailureState, Rule
from mcore_compat.core.cells import AXES, Cell, parse_name, parsed, series_of
from mcore_compat.core.outcomes import HOLDS, CellOutcome
from mcore_compat.results.result import Result

VARIED = ("transformer-engine", "torch")
"""The axes to explore; all pairs of megatron-core and ModelOpt are run anyway."""

PACKAGES = AXES[:4]
"""The axes that are packages with releases."""

WANTED = 3
"""The number of versions of each varied axis to test with each megatron-core series."""

BOUNDARY, END, DIVIDES, UNSEEN, FEW, GUARD, PAIR = 6.0, 5.0, 6.0, 4.0, 3.0, 1.0, 0.02
"""The value of a candidate for each boundary that it halves, each end of a rule beyond which
nothing was tested, each failure for which it decides between rules, each release that no cell has,
each axis with fewer than `WANTED` versions, each guard whose other side was not tested, and each
pair of versions that no cell has. Chosen so that the reasons come in this order."""


@dataclass(frozen=True, kw_only=True)
class CellChoice:
    """A cell worth running, with the reasons in words, the weightiest first, and its minutes."""

    cell: Cell
    reasons: tuple[str, ...]
    minutes: float


Guards = Mapping[str, tuple[str, ...]]
"""By megatron-core series: the version guards of its cells' packages, as specifiers such as
`transformer-engine>=2.13.0`."""


@dataclass(kw_only=True)
class TestedCells:
    """What counts as tested: cells that ran checks, and cells chosen to run."""

    names: set[str] = field(default_factory=set)
    near: set[tuple[str, ...]] = field(default_factory=set)
    pairs: set[tuple[str, str, str, str]] = field(default_factory=set)
    versions: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    """By axis and megatron-core series: the versions of the axis that it was tested with."""
    seen: set[tuple[str, str]] = field(default_factory=set)
    """`(axis, version)` of every release that a cell has."""
    built: set[str] = field(default_factory=set)

    _sides: dict[str, list[tuple[str, str, str, set[bool | None]]]] = field(default_factory=dict)

    def sides(
        self, series: str, guards: Guards
    ) -> Sequence[tuple[str, str, str, set[bool | None]]]:
        """Return the guards on the varied axes in a megatron-core series' packages: the text, its
        axis and specifier, and the sides of the guard that the series was tested on."""
        if series not in self._sides:
            rows = [(text, axis) for text in guards.get(series, ()) for axis in VARIED]
            self._sides[series] = [
                (text, axis, specifier, {holds(specifier, v) for v in self._tested(axis, series)})
                for text, axis in rows
                if text.startswith(axis)
                for specifier in [text.removeprefix(axis)]
            ]
        return self._sides[series]

    def _tested(self, axis: str, series: str) -> set[str]:
        return self.versions.get((axis, series), set())

    def add(self, name: str, pins: Mapping[str, str], keys: Iterable[str] = ()) -> None:
        series = series_of(pins["megatron-core"])
        self._sides.pop(series, None)
        self.names.add(name)
        self.near.update(_rest(axis, pins) for axis in PACKAGES)
        self.pairs.update(pairs(pins))
        self.seen.update((axis, pins[axis]) for axis in PACKAGES)
        for axis in VARIED:
            self.versions.setdefault((axis, series), set()).add(pins[axis])
        self.built.update(keys)


def state_of(results: Iterable[Result]) -> TestedCells:
    """Return what the results have tested; a cell that ran no checks tests nothing."""
    tested = TestedCells()
    for e in results:
        if e.checks:
            tested.add(e.cell, e.pins)
        elif e.outcome is not CellOutcome.UNBUILDABLE:  # a later build may succeed
            tested.names.add(e.cell)
    return tested


def _rest(axis: str, pins: Mapping[str, str]) -> tuple[str, ...]:
    """Return a key that is equal for two cells that differ in `axis` alone."""
    return (axis, *(pins[other] for other in AXES if other != axis))


def bases(results: Iterable[Result], explained: Sequence[Explained]) -> set[tuple[str, str]]:
    """Return the pairs of megatron-core and ModelOpt to explore: for each series of either, the
    pair in which most checks work; for each failure whose rule names TE or torch, the newest
    pair."""
    by_name = {e.cell: e for e in results if e.checks}
    best: dict[tuple[str, str], tuple[int, list[Version], Result]] = {}
    for e in by_name.values():
        works = sum(c.outcome in HOLDS for c in e.checks)
        row = (works, [parsed(e.pins[axis]) for axis in PACKAGES], e)
        for axis in PACKAGES[:2]:
            series = axis, series_of(e.pins[axis])
            if series not in best or row[:2] > best[series][:2]:
                best[series] = row
    chosen = [row[2] for row in best.values()]
    for failure in explained:
        if any(axis in rule.axes for rule in failure.rules for axis in VARIED):
            failed = [by_name[s.cell] for s in failure.seen if s.broken and s.cell in by_name]
            chosen += sorted(failed, key=lambda e: Version(e.pins["megatron-core"]))[-1:]
    return {(e.pins["megatron-core"], e.pins["nvidia-modelopt"]) for e in chosen}


def pairs(pins: Mapping[str, str]) -> Iterator[tuple[str, str, str, str]]:
    """Yield `(axis, version, other axis, its version)` of a cell."""
    for axis, other in itertools.combinations(AXES, 2):
        yield axis, pins[axis], other, pins[other]


def coverage(state: TestedCells, possible: Iterable[Cell]) -> tuple[int, int]:
    """Return the number of pairs of versions that were tested together, and of all possible."""
    every = {pair for cell in possible for pair in pairs(cell.pins)}
    return len(every & state.pairs), len(every)


def candidates(possible: Iterable[Cell], state: TestedCells) -> Iterator[Cell]:
    """Yield the untested cells that differ from a tested one in TE or torch alone; if the cell's
    name has a patch release, in any one package."""
    for cell in possible:
        moving = PACKAGES if spells_patch(cell) else VARIED
        if cell.name not in state.names and any(
            _rest(axis, cell.pins) in state.near for axis in moving
        ):
            yield cell


def spells_patch(cell: Cell) -> bool:
    """Whether a cell's name has a release that is not its series' newest: `compat-0.15.0-…`."""
    return _spells_patch(cell.name)


@functools.cache
def _spells_patch(name: str) -> bool:
    asked = parse_name(name)
    words = (asked.mcore, asked.modelopt, asked.te, asked.torch) if asked else ()
    return any(word is not None and word.count(".") > 1 for word in words)


@dataclass(frozen=True, kw_only=True)
class Reason:
    """A reason to run a cell. `question`: what the cell would answer; no two chosen cells are for
    the same question. None: each cell answers a different one."""

    value: float
    text: str
    question: tuple[str, ...] | None = None


Lines = Mapping[str, Sequence[str]]
"""By axis: the versions that some cell can install, oldest first."""


Installs = Callable[[Cell], bool]
"""Whether a cell can be installed: a slow question, asked of as few cells as possible."""


def lines_of(possible: Iterable[Cell], state: TestedCells, installs: Installs) -> Lines:
    """Return the versions of the varied axes that some cell can install."""
    # What was tested installs, so one answer is mostly enough for a version.
    tested_first = sorted(possible, key=lambda cell: cell.name not in state.names)
    versions: dict[str, set[str]] = {axis: set() for axis in VARIED}
    for cell in tested_first:
        missing = [axis for axis in VARIED if cell.pins[axis] not in versions[axis]]
        if missing and installs(cell):
            for axis in missing:
                versions[axis].add(cell.pins[axis])
    return {axis: sorted(versions[axis], key=parsed) for axis in VARIED}


def of_failures(cell: Cell, explained: Sequence[Explained], lines: Lines) -> tuple[Reason, ...]:
    """Return the reasons to run a cell that concern known failures. For another patch release, only
    boundaries count, because rules are about the tested patch releases."""
    if spells_patch(cell):
        return tuple(_boundaries(cell, explained, lines))
    reasons = [*_boundaries(cell, explained, lines), *_ends(cell, explained, lines)]
    return (*reasons, *_divided(cell, explained))


def of_releases(cell: Cell, state: TestedCells, guards: Guards) -> tuple[Reason, ...]:
    """Return the reasons to run a cell that concern little-tested releases. A patch release that is
    not its series' newest needs only one cell."""
    unseen = tuple(_unseen(cell, state))
    if spells_patch(cell) and not unseen:
        return ()
    reasons = [*unseen, *_few(cell, state), *_guarded(cell, state, guards)]
    new = len(set(pairs(cell.pins)) - state.pairs)
    if new:
        reasons.append(Reason(value=PAIR * new, text=f"{new} pairs of versions that no cell has"))
    return tuple(reasons)


def _boundaries(cell: Cell, explained: Sequence[Explained], lines: Lines) -> Iterator[Reason]:
    """Yield the gaps between a version that fails and its tested neighbour that does not, if the
    cell is in one; the middle is worth most, and a neighbour that works more than another one."""
    for failure, bound in _bounds(cell, explained):
        version = cell.pins[bound.axis]
        for ends, other in _gaps(bound):
            low, high = sorted(map(parsed, ends))
            if low < parsed(version) < high:
                between = [v for v in lines[bound.axis] if low < parsed(v) < high]
                worth = BOUNDARY if other is FailureState.WORKS else END
                yield Reason(
                    value=worth * (1 + _middle(version, between)) / 2 / len(failure.rules),
                    text=f"{failure.checks[0]} {other} at {bound.axis} {ends[1]} and fails at "
                    f"{ends[0]}: {version} is between",
                    question=(failure.fingerprint, bound.axis, *ends),
                )


def _gaps(bound: Bound) -> Iterator[tuple[tuple[str, str], FailureState]]:
    """Yield `(version that fails, its neighbour)` on each side, and the neighbour's state."""
    for end, beside in ((bound.low, bound.next_below), (bound.high, bound.next_above)):
        if beside and beside.state not in NO_CHECKS:
            yield (end, beside.version), beside.state


def _middle(version: str, between: Sequence[str]) -> float:
    """Return 1 for the middle of a row of versions, near 0 at its ends, and 0 outside of it."""
    if version not in between:
        return 0.0
    place = between.index(version)
    return 2 * min(place + 1, len(between) - place) / (len(between) + 1)


def _ends(cell: Cell, explained: Sequence[Explained], lines: Lines) -> Iterator[Reason]:
    """Yield the ends of rules beyond which nothing was tested, if the cell is beyond one and within
    the rule otherwise. A cell farther out is worth more: it leaves a larger gap to halve next."""
    for failure, bound in _bounds(cell, explained):
        line, version = lines[bound.axis], cell.pins[bound.axis]
        if version not in line:
            continue
        place = line.index(version)
        older = parsed(version) < parsed(bound.low), bound.next_below, bound.low, -place
        newer = parsed(version) > parsed(bound.high), bound.next_above, bound.high, place + 1
        for word, (beyond, beside, end, far) in (("an older", older), ("a newer", newer)):
            if beyond and (beside is None or beside.state in NO_CHECKS):
                share = (far + len(line) * (far <= 0)) / len(line)
                yield Reason(
                    value=END * (1 + share) / 2 / len(failure.rules),
                    text=f"{failure.checks[0]} fails at {bound.axis} {end} and was not tested with "
                    f"{word} one",
                    question=(failure.fingerprint, bound.axis, word),
                )


def _bounds(cell: Cell, explained: Sequence[Explained]) -> Iterator[tuple[Explained, Bound]]:
    """Yield the bounds on TE and torch of rules that hold the cell on all other axes."""
    for failure in explained:
        for rule in failure.rules:
            for bound in rule.bounds:
                if bound.axis in VARIED and _within(rule, bound.axis, cell):
                    yield failure, bound


def _within(rule: Rule, axis: str, cell: Cell) -> bool:
    """Whether a cell is within a rule on all axes but one; False if the rule has other packages."""
    others = [other for other in rule.axes if other != axis]
    return set(others) <= set(AXES) and all(rule.admits(o, cell.pins[o]) for o in others)


def _unseen(cell: Cell, state: TestedCells) -> Iterator[Reason]:
    """Yield the cell's releases that no cell has."""
    for axis in PACKAGES:
        if (axis, cell.pins[axis]) not in state.seen:
            yield Reason(value=UNSEEN, text=f"no cell has {axis} {cell.pins[axis]}")


def _divided(cell: Cell, explained: Sequence[Explained]) -> Iterator[Reason]:
    """Yield the failures with rules on TE or torch of which some hold the cell and some do not."""
    for failure in explained:
        for rivals in failure.rivals():
            fit = [rule for rule in rivals if set(rule.axes) <= set(AXES)]
            if not any(axis in rule.axes for rule in fit for axis in VARIED):
                continue
            holding = sum(rule.holds(cell.pins) for rule in fit)
            if 0 < holding < len(fit):
                decides = " or ".join(dict.fromkeys(" with ".join(rule.axes) for rule in fit))
                yield Reason(
                    value=DIVIDES,
                    text=f"shows whether {decides} decides {failure.checks[0]}",
                    question=(failure.fingerprint, decides),
                )


def _few(cell: Cell, state: TestedCells) -> Iterator[Reason]:
    """Yield the axes of which the cell's series was tested with few versions."""
    series = series_of(cell.mcore)
    for axis in VARIED:
        tested = state.versions.get((axis, series), set())
        if cell.pins[axis] not in tested and len(tested) < WANTED:
            count = f"{len(tested)} version{'s' if len(tested) > 1 else ''}"
            yield Reason(
                value=FEW / max(1, len(tested)),
                text=f"megatron-core {series} was tested with {count} of {axis}",
            )


def _guarded(cell: Cell, state: TestedCells, guards: Guards) -> Iterator[Reason]:
    """Yield the version guards in the cell's packages of which only the other side was tested."""
    series = series_of(cell.mcore)
    pins = cell.pins
    crossed = [
        text
        for text, axis, specifier, tested in state.sides(series, guards)
        if (side := holds(specifier, pins[axis])) is not None and side not in tested
    ]
    if crossed:
        shown = ", ".join(crossed[:3]) + (", …" if len(crossed) > 3 else "")
        yield Reason(
            value=GUARD * min(len(crossed), 5),
            text=f"megatron-core {series} was tested on only one side of its guards {shown}",
        )


def guards_of(results: Iterable[Result]) -> Guards:
    """Return the guards that cells recorded, by megatron-core series. Sorted."""
    texts: dict[str, set[str]] = {}
    for e in results:
        of_series = texts.setdefault(series_of(e.pins["megatron-core"]), set())
        for package, places in e.recorded("version-guards").items():
            if package in AXES and isinstance(places, Mapping):
                of_series.update(places)
    return {series: tuple(sorted(texts[series])) for series in sorted(texts) if texts[series]}


def choose(
    possible: Sequence[Cell],
    state: TestedCells,
    explained: Sequence[Explained],
    guards: Guards,
    *,
    minutes: float,
    cost: Mapping[str, tuple[tuple[str, ...], float]],
    cell_minutes: float,
    refused: Collection[str] = (),
    most: int | None = None,
    installs: Installs = lambda cell: True,
) -> tuple[CellChoice, ...]:
    """Choose the cells with the most value for their cost, as many as fit into `minutes`, and at
    most `most`.

    `cost`: by cell name, the keys of the wheels to build and the minutes for each; `refused`: keys
    of wheels that are known not to build. Each chosen cell counts as tested for the next choice.
    `installs`: cells for which it is False are not chosen.
    """
    chosen: list[CellChoice] = []
    spent = 0.0
    asked: set[tuple[str, ...] | None] = set()
    lines = lines_of(possible, state, installs)
    out: set[str] = set()
    known = functools.cache(lambda cell: of_failures(cell, explained, lines))
    while most is None or len(chosen) < most:
        options: list[tuple[float, str, CellChoice, tuple[Reason, ...]]] = []
        for cell in candidates(possible, state):
            keys, each = cost.get(cell.name, ((), 0.0))
            if cell.name in out or set(keys) & set(refused):
                continue
            price = cell_minutes + each * len(set(keys) - state.built)
            if spent + price > minutes:
                continue
            every = (*known(cell), *of_releases(cell, state, guards))
            reasons = tuple(reason for reason in every if reason.question not in asked)
            value = sum(reason.value for reason in reasons)
            # Later cells of the same stack use the wheel, too, so half of its price counts.
            rank = -value / (cell_minutes + (price - cell_minutes) / 2)
            if value:
                order = sorted(reasons, key=lambda reason: (-reason.value, reason.text))
                texts = tuple(reason.text for reason in order)
                choice = CellChoice(cell=cell, reasons=texts, minutes=price)
                options.append((rank, cell.name, choice, reasons))
        options.sort(key=lambda option: option[:2])
        best = next(
            (option for option in options if _possible(option[2].cell, installs, out)), None
        )
        if best is None:
            break
        *_, choice, reasons = best
        chosen.append(choice)
        spent += choice.minutes
        asked |= {reason.question for reason in reasons} - {None}
        state.add(choice.cell.name, choice.cell.pins, cost.get(choice.cell.name, ((), 0.0))[0])
    return tuple(chosen)


def _possible(cell: Cell, installs: Installs, out: set[str]) -> bool:
    """Whether a cell can be installed; if not, its name goes to `out`."""
    if not installs(cell):
        out.add(cell.name)
    return cell.name not in out
