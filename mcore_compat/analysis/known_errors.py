"""Published data → known errors, each with an answer of a few lines. Pure.

Here: failures of checks, and failures that a condition avoids. In `known_names`: names that a
release lacks, undeclared requirements, and cells that cannot be resolved or built.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mcore_compat.analysis import recommend
from mcore_compat.analysis.cell_record import CellRecord, CheckTable
from mcore_compat.analysis.error_text import CUT, frame_key, types_in, words
from mcore_compat.analysis.published import Compatibility, PublishedCause
from mcore_compat.analysis.rules import Bound, inside
from mcore_compat.base import foreign
from mcore_compat.core.cells import AXES, parsed, series_of
from mcore_compat.core.outcomes import FAILS, HOLDS
from mcore_compat.results import verdict

MOST_RULES = 3
"""The number of rules that one line names; it counts the others."""

LONGEST = 160
"""The most characters of a title."""

_STOCK = """
a an and are argument arguments at attribute be bool bytes call callable cannot could d dict element
expected float for from function got has have in index int invalid is iterable items key len list
many module must named no non none nonetype not object of or out position range required
sequence set size str string subscriptable supported takes tensor to tuple type types unpack
unsupported value values were with
"""
STOCK = frozenset(_STOCK.split())
"""Words of Python's own messages, which any code can raise."""


class Answer(NamedTuple):
    """`first`: the main point; `rest`: the details; `page`: path on the site, from its root;
    `cells`: the cells whose results the answer rests on."""

    first: str
    rest: tuple[str, ...]
    page: str = ""
    cells: tuple[CellRecord, ...] = ()


@dataclass(frozen=True, kw_only=True)
class KnownError:
    """A known error. `types`: of its exception, empty if it may be any; `words`: of its message;
    `frames`: of its traceback, if it has one; `tell` returns its answer."""

    key: str
    title: str
    types: tuple[str, ...]
    words: tuple[str, ...]
    frames: tuple[str, ...]
    tell: Callable[[], Answer]
    fingerprints: tuple[str, ...] = ()
    """The fingerprints of its causes."""

    @property
    def stock(self) -> bool:
        """Whether the message has only Python's own words, so that any code can raise it."""
        return STOCK.issuperset(self.words)

    def told(self) -> list[object]:
        """Return the title, whether it is `stock`, and the answer, for the site's script."""
        answer = self.tell()
        return [self.title, int(self.stock), answer.first, [*answer.rest], answer.page]


def title(kind: str, message: str) -> str:
    """Return `TypeError: ...` on one line."""
    text = foreign.line(message)
    types = types_in(f"{kind}:")
    text = text if not types or text.startswith(kind) else f"{kind}: {text}"
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


class Failures:
    """The failures of published checks as known errors. `releases`: all versions of each axis,
    oldest first, to name untested ones."""

    def __init__(self, known: Compatibility, releases: Mapping[str, Sequence[str]]) -> None:
        self._known, self._releases = known, releases

    def all(self) -> Iterator[KnownError]:
        """Yield all known errors, the most frequent causes first. Causes of the same type, words
        and frame are one error."""
        groups: dict[tuple[str, tuple[str, ...], str], list[PublishedCause]] = {}
        for cause in self._known.causes:
            whole = cause.message[:CUT].rpartition(" ")[0] if len(cause.message) >= CUT else ""
            said = words(whole or cause.message)
            groups.setdefault((cause.type, said, cause.frame), []).append(cause)
        for (_, said, _), causes in groups.items():
            first = causes[0]
            of_suite = first.frame.startswith("suite.")
            types = [] if of_suite else [first.type, *types_in(first.message)]
            yield KnownError(
                key=first.fingerprint,
                title=title("" if of_suite else first.type, first.message)
                + ("" if of_suite or not first.frame else f" (in {first.frame})"),
                types=tuple(dict.fromkeys(types)),
                words=said,
                frames=() if of_suite else _frames(first),
                tell=functools.partial(self._cause, tuple(causes)),
                fingerprints=tuple(cause.fingerprint for cause in causes),
            )
        known = {said for _, said, _ in groups}
        yield from self._conditional(known)
        yield from self._unsure(known)

    def _conditional(self, failures: Collection[tuple[str, ...]]) -> Iterator[KnownError]:
        """Yield how checks that are `works-with` fail with all defaults, unless a cause has the
        same words."""
        groups: dict[tuple[str, ...], list[tuple[CellRecord, str]]] = {}
        for cell in self._known.cells:
            for check in cell.conditions:
                reason = cell.reasons.get(check)
                if reason and words(reason) not in failures:
                    groups.setdefault(words(reason), []).append((cell, check))
        for said, where in sorted(groups.items(), key=lambda row: -len(row[1])):
            reason = where[0][0].reasons[where[0][1]]
            yield KnownError(
                key=" ".join(("condition", *said)),
                title=title("", reason),
                types=tuple(types_in(reason)),
                words=said,
                frames=(),
                tell=functools.partial(self._condition, said, tuple(where)),
            )

    def _unsure(self, failures: Collection[tuple[str, ...]]) -> Iterator[KnownError]:
        """Yield the failures that left cells without a verdict, unless a cause has the same
        words."""
        groups: dict[str, list[CellRecord]] = {}
        for cell in self._known.cells:
            for failure in cell.unsure:
                groups.setdefault(failure, []).append(cell)
        for failure, cells in sorted(groups.items(), key=lambda row: (-len(row[1]), row[0])):
            if words(failure) not in failures:
                yield KnownError(
                    key=" ".join(("unsure", *words(failure))),
                    title=title("", failure),
                    types=tuple(types_in(failure)),
                    words=words(failure),
                    frames=(),
                    tell=functools.partial(_without_verdict, failure, tuple(cells)),
                )

    def _cause(self, causes: Sequence[PublishedCause]) -> Answer:
        first = causes[0]
        why = dict.fromkeys(reason for cause in causes for reason in cause.declared)
        rules = dict.fromkeys(_either(fit) for cause in causes for fit in cause.rivals)
        seen = [self._cell(name, cause) for cause in causes for name in cause.cells]
        repairs = self._repairs(first)
        count = "1 cell" if len(seen) == 1 else f"{len(seen)} cells"
        where = some([*rules]) or f"in {count}, and it works in none"
        if repairs and not rules:
            where = f"works, and nothing is lost, with {repairs[0]}"
        text = "; ".join(reason.reason for reason in why) or "the reason is not known yet"
        rest = [f"works with: {repair}" for repair in repairs]
        rest += [f"maintainer: {reason.owner}; {reason.link()}" for reason in why]
        if not why and first.attributed_to and first.bounded_rules:
            rest += [f"decided by: {' or '.join(first.attributed_to)}"]
        bounds = _bounds(causes)
        if bounds:
            edges = [f"{bound.specifier()} ({bound.edges()})" for bound in bounds]
            rest.append(f"versions: {some(edges)}")
        rest.append(f"take: {self._instead(causes)}")
        if likely := self._likely(bounds):
            rest.append(f"likely to fail, too, but not run: {likely}")
        newest = max((cell.taken[:10] for cell in seen), default="")
        more = f"; mcore-compat explain {seen[0].name}" if seen else ""
        rest.append(
            f"tested: {_checks(first)} with it in {count} ({first.device_class}, {newest}){more}"
        )
        page = f"causes/{first.fingerprint}.html"
        return Answer(f"{where}: {text}", tuple(rest), page, tuple(seen))

    def _condition(self, said: Sequence[str], where: Sequence[tuple[CellRecord, str]]) -> Answer:
        conditions = dict.fromkeys(cell.conditions[check] for cell, check in where)
        first = "; or ".join(foreign.line(text) for text in conditions)
        cells = {cell.name: cell for cell, _ in where}
        why = dict.fromkeys(
            reason
            for cause in self._known.causes
            for reason in cause.declared
            if {*said} <= {*words(cause.message)}
        )
        rest = [f"maintainer: {reason.owner}; {reason.link()}: {reason.reason}" for reason in why]
        rest.append(f"tested: {span(cells.values())}")
        rest += [f"repaired by: {cell.repair.text()}" for cell in cells.values() if cell.repair][:1]
        rest.append(f"more: mcore-compat explain {next(iter(cells))}")
        page = f"cells/{next(iter(cells))}.html"
        text = f"works, and nothing is lost, with: {first}"
        return Answer(text, tuple(rest[:6]), page, tuple(cells.values()))

    def _cell(self, name: str, cause: PublishedCause) -> CellRecord:
        return self._known.cell(name, cause.device_class)

    def _repairs(self, cause: PublishedCause) -> list[str]:
        """Return conditions under which checks work that fail with this cause elsewhere."""
        message = {*words(cause.message)}
        found = (
            condition
            for (check, reason), condition in self._conditions
            if check in cause.checks and reason <= message
        )
        return [foreign.line(text) for text in dict.fromkeys(found)][:2]

    @functools.cached_property
    def _conditions(self) -> list[tuple[tuple[str, frozenset[str]], str]]:
        """Every check and the words of its failure, with the condition under which it works; each
        once, in the order of the cells."""
        every = dict.fromkeys(
            (check, cell.reasons.get(check, "-"), condition)
            for cell in self._known.cells
            for check, condition in cell.conditions.items()
        )
        return [((check, frozenset(words(why))), condition) for check, why, condition in every]

    @functools.cached_property
    def _best_first(self) -> list[CellRecord]:
        return sorted(self._known.cells, key=recommend.rank)

    @functools.cached_property
    def _best_of(self) -> dict[str, list[CellRecord]]:
        """Those of each series of megatron-core, the best first."""
        found: dict[str, list[CellRecord]] = {}
        for cell in self._best_first:
            found.setdefault(_mcore(cell), []).append(cell)
        return found

    @functools.cached_property
    def _tested(self) -> dict[str, set[str]]:
        """The tested versions of each axis."""
        return {axis: {cell.pins[axis] for cell in self._known.cells} for axis in AXES}

    def _instead(self, causes: Sequence[PublishedCause]) -> str:
        """Name the best and newest cell in which these checks work: one of the newest series of
        megatron-core in which they fail, if there is one."""
        checks = frozenset(check for cause in causes for check in cause.checks)
        failing = (self._cell(name, cause) for cause in causes for name in cause.cells)
        series = max((_mcore(cell) for cell in failing), key=parsed)
        good = (
            cell
            for cell in (*self._best_of[series], *self._best_first)
            if cell.device_class == causes[0].device_class and _holds(cell.table, checks)
        )
        best = next(good, None)
        if best is None:
            return "no tested cell works"
        pins = ", ".join(f"{axis} {best.pins[axis]}" for axis in AXES)
        with_it = ", some of it under a condition" if checks & best.conditions.keys() else ""
        return f"{pins} ({best.name}, {best.outcome}, tested {best.taken[:10]}){with_it}"

    def _likely(self, bounds: Iterable[Bound]) -> str:
        """Name untested releases between and after those that fail."""
        found = []
        for bound in bounds:
            tested = self._tested.get(bound.axis, set())
            every = self._releases.get(bound.axis, ())
            between = [v for v in every if v not in tested and inside(v, bound.low, bound.high)]
            if between:
                found.append(f"{bound.axis} {some(between)}")
            if bound.next_above is None:
                found.append(f"{bound.axis} newer than {bound.high}")
        return ", ".join(found)


@functools.cache
def _holds(table: CheckTable, checks: frozenset[str]) -> bool:
    """Whether none of some checks fails, and at least one works."""
    ended = [table.checks.get(check) for check in checks]
    return any(word in HOLDS for word in ended) and not any(word in FAILS for word in ended)


def _frames(cause: PublishedCause) -> tuple[str, ...]:
    """Return the frames of a cause's traceback, or at least the frame that raised it."""
    module, _, function = cause.frame.partition(":")
    return cause.frames or ((frame_key(module, function),) if module else ())


def _checks(cause: PublishedCause) -> str:
    more = f" and {len(cause.checks) - 1} more" if len(cause.checks) > 1 else ""
    return f"{cause.checks[0]}{more} fail{'' if more else 's'}"


def _either(rules: Sequence[str]) -> str:
    """Join rules of which one holds with "or"; parts that all of them share are written once."""
    parts = [rule.split(" and ") for rule in rules]
    common = [part for part in parts[0] if all(part in other for other in parts)]
    rest = [" and ".join(p for p in other if p not in common) for other in parts]
    if len(rules) == 1 or not all(rest):
        return " or ".join(rules)
    either = " or ".join(rest)
    return f"{' and '.join(common)} and ({either})" if common else either


def _bounds(causes: Iterable[PublishedCause]) -> list[Bound]:
    """Return the intervals of all rules, without duplicates."""
    every = (b for cause in causes for rule in cause.bounded_rules for b in rule.bounds)
    return [*{bound.specifier(): bound for bound in every}.values()]


def some(texts: Sequence[str]) -> str:
    """Return `a; b; c and 2 more`."""
    more = f" and {len(texts) - MOST_RULES} more" if len(texts) > MOST_RULES else ""
    return f"{'; '.join(texts[:MOST_RULES])}{more}"


def _mcore(cell: CellRecord) -> str:
    return series_of(cell.pins[AXES[0]])


def _without_verdict(failure: str, cells: Sequence[CellRecord]) -> Answer:
    stacks = dict.fromkeys(f"{axis} {cell.pins[axis]}" for cell in cells for axis in AXES[2:4])
    rest = (
        f"with: {', '.join(sorted(stacks))}",
        f"tested: {span(cells)}",
        f"more: mcore-compat explain {cells[0].name}",
    )
    text = f"everything ended in {verdict.unsure_text(failure)}"
    return Answer(text, rest, f"cells/{cells[0].name}.html", tuple(cells))


def span(cells: Iterable[CellRecord]) -> str:
    """Return the number of cells, and their ranges of megatron-core and ModelOpt, in words."""
    rows = list(cells)
    texts = []
    for axis in AXES[:2]:
        versions = sorted({cell.pins[axis] for cell in rows}, key=parsed)
        texts.append(f"{axis} {' to '.join(dict.fromkeys((versions[0], versions[-1])))}")
    newest = max(cell.taken[:10] for cell in rows)
    count = "1 cell" if len(rows) == 1 else f"{len(rows)} cells"
    return f"{count} of {', '.join(texts)} ({newest})"
