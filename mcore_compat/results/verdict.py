"""Stage results → terminal: which families and checks work, why not, and what to try."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec import to_builtins

from mcore_compat.core.cells import AXES
from mcore_compat.core.outcomes import (
    CORE_KIND,
    FAILS,
    FAILURES,
    FEATURES,
    HOLDS,
    CellOutcome,
    CheckOutcome,
)
from mcore_compat.results.result import (
    FLAPPING,
    LEFT_OUT,
    STAND_IN,
    CheckEndings,
    CheckResult,
    Failure,
    Result,
)

if TYPE_CHECKING:
    from mcore_compat.core.matrix import Pairs

SYMBOLS = {
    "works": "✓",
    "works-with": "⊕",
    "broken": "✗",
    "unsupported": "–",
    "needs-gpu": "?",
    "blocked": "⊘",
    "crashed": "‼",
    "timed-out": "⧖",
    "compatible": "✓",
    "partial": "◐",
    "incompatible": "✗",
    "unresolvable": "⊘",
    "unbuildable": "⚒",
    "untested": "·",
    "error": "!",
}
"""Symbols differ in shape, so that they can be read without colour."""


def spelt(outcome: CheckOutcome | CellOutcome) -> str:
    """`✓ works`: the symbol and the word of an outcome."""
    return f"{SYMBOLS[outcome.value]} {outcome.value}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Cause(Failure):
    """Failures with one fingerprint, described by the first of them. `checks`: the ids of the
    checks that failed with it."""

    checks: tuple[str, ...]


def causes(results: Iterable[CheckResult]) -> tuple[Cause, ...]:
    """Each distinct cause once, the one of most checks first."""
    groups: dict[str, list[CheckResult]] = {}
    for result in results:
        if result.outcome in FAILURES and result.failure:
            groups.setdefault(result.failure.fingerprint, []).append(result)
    each = [
        Cause(**to_builtins(members[0].failure), checks=tuple(sorted(m.check for m in members)))
        for members in groups.values()
    ]
    return tuple(sorted(each, key=lambda c: (-len(c.checks), c.fingerprint)))


def gist(message: str) -> str:
    """A message without a traceback that it may contain: then only its last line."""
    lines = [line for line in message.strip().splitlines() if line.strip()]
    if any(line.startswith("Traceback (most recent call last)") for line in lines):
        return lines[-1].strip()[:600]
    return "\n  ".join(lines)[:600]


def rule_for(result: Result, check: str, rules: Iterable[Pairs]) -> Pairs | None:
    """The rule of the matrix that declares this check's failure in this cell: it names the check,
    covers the cell, and matches the failure's message if it gives one."""
    there = next((c for c in result.checks if c.check == check), None)
    return declaring(check, there, covering(result, rules))


def declaring(check: str, there: CheckResult | None, rules: Iterable[Pairs]) -> Pairs | None:
    """The first of some rules, all of which cover the cell, that declares a check's failure."""
    for rule in rules:
        if rule.naming(check) and (not rule.message or rule.says(_message(there))):
            return rule
    return None


def covering(result: Result, rules: Iterable[Pairs]) -> tuple[Pairs, ...]:
    """The rules that cover a cell."""
    return _covering(tuple(rules), *(result.pins[axis] for axis in AXES[:4]))


@functools.cache
def _covering(
    rules: tuple[Pairs, ...], mcore: str, modelopt: str, te: str, torch: str
) -> tuple[Pairs, ...]:
    pins = dict(zip(AXES, (mcore, modelopt, te, torch), strict=False))
    of_pair = _of_pair(rules, mcore, modelopt)
    return tuple(rule for rule in of_pair if rule.covers_pins(pins))


@functools.cache
def _of_pair(rules: tuple[Pairs, ...], mcore: str, modelopt: str) -> tuple[Pairs, ...]:
    return tuple(rule for rule in rules if rule.covers(mcore, modelopt))


def _message(check: CheckResult | None) -> str:
    """The failure message of a check; for a killed or hung one, the reason."""
    if check is None:
        return ""
    return check.failure.message if check.failure else check.reason or ""


def outlived(results: Iterable[Result], rules: Sequence[Pairs]) -> tuple[str, ...]:
    """Rules that declare failures which the results contradict: a line for each check that a rule
    names and that works in a cell that it covers. A check that works only under a condition fails
    with all defaults, so a rule may declare it."""
    works: dict[tuple[int, str], list[str]] = {}
    for e in results:
        working = [c.check for c in e.checks if c.outcome is CheckOutcome.WORKS]
        for place, rule in enumerate(rules):
            if rule.covers_pins(e.pins):
                for check in working:
                    if rule.naming(check):
                        works.setdefault((place, check), []).append(e.cell)
    return tuple(
        f'matrix.toml: expect: "{check}" ({rules[place].interval()}) works in {_some(cells)}: '
        "narrow or remove the rule"
        for (place, check), cells in sorted(works.items())
    )


def _some(cells: Sequence[str]) -> str:
    return ", ".join(cells[:3]) + (" and others" if len(cells) > 3 else "")


def unused(results: Iterable[Result], rules: Sequence[Pairs]) -> tuple[str, ...]:
    """A line for each name of a check in a rule that matches no failure in all results: a typo, or
    the failure is gone. A check that works under a condition does not count as a failure."""
    used: set[tuple[int, str]] = set()
    places = {id(rule): place for place, rule in enumerate(rules)}
    for e in results:
        for result in e.checks:
            rule = rule_for(e, result.check, rules) if result.outcome in FAILURES else None
            if rule is not None:
                used.update((places[id(rule)], name) for name in rule.naming(result.check))
    return tuple(
        f'matrix.toml: expect: "{name}" ({rule.interval()}) matches no failure in the results: '
        "correct or remove it"
        for place, rule in enumerate(rules)
        for name in rule.checks
        if (place, name) not in used
    )


def expired(rules: Sequence[Pairs]) -> tuple[str, ...]:
    """A line for each rule past its date."""
    return tuple(
        f"matrix.toml: {rule.key}: {_subject(rule)} expired on {rule.expires} and has no effect: "
        "check whether it still applies, then remove it or give it a new date"
        for rule in rules
    )


def _subject(rule: Pairs) -> str:
    return f'"{rule.check}" ({rule.interval()})' if rule.checks else rule.interval()


def unexpected(result: Result, rules: Sequence[Pairs]) -> tuple[CheckResult, ...]:
    """The failures of a cell that no rule of the matrix declares as expected."""
    places = _unexpected(result.endings, covering(result, rules))
    return tuple(result.checks[place] for place in places)


@functools.cache
def _unexpected(endings: CheckEndings, rules: tuple[Pairs, ...]) -> tuple[int, ...]:
    return tuple(
        place
        for place, c in enumerate(endings.checks)
        if c.outcome in FAILURES and declaring(c.check, c, rules) is None
    )


def declared(result: Result, cause: Cause, rules: Sequence[Pairs]) -> tuple[str, ...]:
    """Why the matrix expects these failures, each reason once; empty if it does not."""
    every = (rule_for(result, check, rules) for check in cause.checks)
    return tuple(
        dict.fromkeys(
            f"{rule.reason} ({rule.owner}, {rule.upstream}; until {rule.expires})"
            for rule in every
            if rule
        )
    )


def undeclared(result: Result) -> tuple[tuple[str, str, str], ...]:
    """`(importing package, undeclared requirement, importing module)` that the suite recorded."""
    rows = {
        (
            str(entry.get("package", "")),
            str(entry.get("requires") or entry.get("module") or ""),
            str(entry.get("imported_by", "")),
        )
        for c in result.checks
        for entry in c.details.get("undeclared") or ()
        if isinstance(entry, Mapping) and not entry.get("guarded")
    }
    return tuple(sorted(rows))


def restoring(result: Result) -> tuple[str, ...]:
    """The families whose checkpoint restores, also under a condition. Sorted."""
    core = [c for c in result.checks if c.kind == CORE_KIND and c.family]
    return tuple(sorted(c.family or "" for c in core if c.outcome in HOLDS))


def restores_all(result: Result) -> bool:
    """Whether the checkpoint restores for every family that the release has."""
    core = {c.outcome for c in result.checks if c.kind == CORE_KIND}
    asked = core - {CheckOutcome.UNSUPPORTED}
    return bool(asked) and asked <= HOLDS


def conditions(results: Iterable[CheckResult]) -> dict[str, tuple[CheckResult, ...]]:
    """By condition: the checks that work under it, and fail with all defaults."""
    groups: dict[str, list[CheckResult]] = {}
    for result in results:
        if result.condition:
            groups.setdefault(result.condition, []).append(result)
    return {condition: tuple(groups[condition]) for condition in sorted(groups)}


UNSURE = "cannot be told from a missing GPU: "
"""In the reason of a check that is `needs-gpu`: the failure after it may have another cause. As in
the suite (a test compares them)."""


def unsure(reasons: Iterable[str | None]) -> tuple[str, ...]:
    """The failures that may or may not come from a missing GPU, from the checks' reasons. Sorted.
    If all of a cell ended in one, it is mostly something else: a library that is not installed."""
    return tuple(sorted({why.partition(UNSURE)[2] for why in reasons if why and UNSURE in why}))


def unsure_text(failure: str) -> str:
    """What is known of such a failure, in words."""
    return f"{failure.rstrip('.')}; not known whether a GPU would change that"


def flapping(results: Iterable[CheckResult]) -> dict[str, tuple[str, ...]]:
    """By check that ended differently when it ran again: all its outcomes, in order."""
    found = {check.check: check.details.get(FLAPPING) for check in results}
    return {name: tuple(map(str, seen)) for name, seen in found.items() if isinstance(seen, list)}


def refusals(results: Iterable[CheckResult]) -> dict[str, list[str]]:
    """How callers with all defaults fail, each failure in a line, with the checks that fail so."""
    lines: dict[str, list[str]] = {}
    for result in results:
        if result.failure:
            lines_of = gist(result.failure.message).splitlines() or ["no message"]
            # A line that ends with a colon introduces the next.
            said = lines_of[: 1 + lines_of[0].endswith(":")]
            message = " ".join(line.strip() for line in said)
            lines.setdefault(f"{result.failure.type}: {message}", []).append(result.check)
    return lines


def failing(result: Result) -> int:
    """The number of checks that failed, or did not run because one before them failed."""
    return sum(c.outcome in FAILS for c in result.checks)


def needing_gpu(results: Iterable[CheckResult]) -> int:
    """The number of checks that need a GPU."""
    return sum(c.outcome is CheckOutcome.NEEDS_GPU and LEFT_OUT not in c.details for c in results)


def stood_in(result: Result) -> str:
    """What a stand-in for TE's torch extension means for a result; empty if the real one ran."""
    if result.te_extension != STAND_IN or not result.checks:
        return ""
    names = ", ".join(c.check for c in result.checks if LEFT_OUT in c.details)
    asked = f"; not run on it: {names}" if names else ""
    return f"ran with a stand-in without kernels for TE's torch extension{asked}"


def by_feature(
    checks: Iterable[CheckResult],
) -> dict[str, dict[str, dict[str, CheckResult]]]:
    """By feature, in the order in which people need them, and by kind: the checks by family. Checks
    of results without features have the feature ""."""

    def rank(check: CheckResult) -> tuple[int, str, str]:
        name = check.feature or ""
        return FEATURES.index(name) if name in FEATURES else len(FEATURES), name, check.kind

    groups: dict[str, dict[str, dict[str, CheckResult]]] = {}
    for c in sorted(checks, key=rank):
        groups.setdefault(c.feature or "", {}).setdefault(c.kind, {})[c.family or ""] = c
    return groups
