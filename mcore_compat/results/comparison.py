"""What changed between two results, check by check, and which results to compare. Pure."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mcore_compat.core.cells import AXES, parsed, series_of
from mcore_compat.core.outcomes import FAILS, HOLDS, CellOutcome, CheckOutcome
from mcore_compat.results import verdict
from mcore_compat.results.result import LEFT_OUT, CheckEndings, CheckResult, Result

GOOD = frozenset({CellOutcome.COMPATIBLE, CellOutcome.PARTIAL})
"""Cells in which a checkpoint restores for at least one family."""

_PAIR = ("megatron-core", "nvidia-modelopt")


@dataclass(frozen=True, kw_only=True)
class Change:
    """One check in both. An outcome is None if the check is missing; `why`: the newer failure in
    one line, for a check with a condition that without it; `otherwise`: it fails in both, with
    another cause than before; `condition`: the one under which it works now."""

    check: str
    old: CheckOutcome | None
    new: CheckOutcome | None
    why: str = ""
    otherwise: bool = False
    condition: str = ""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Every check that fails in one of the two, or works in only one. Sorted by check.

    - `needs`: worked, and works only under a condition now, or under another one than before: a
      caller with all defaults fails now. `freed`: worked under a condition, needs none now.
    - `broke`: worked, fails now. `fixed`: failed, works now. `still`: fails in both.
    - `newly_untested`: worked or failed, and did not run now (`needs-gpu`, `unsupported`, or it is
      missing): it neither broke nor was fixed.
    - `newly_failing`, `newly_works`: did not run before, so the cause of the change is unknown.

    Checks that did not run in one of the two because a stand-in lacks a module are left out.
    Without `same_suite` a difference may come from the suite.
    """

    needs: tuple[Change, ...] = ()
    freed: tuple[Change, ...] = ()
    broke: tuple[Change, ...] = ()
    fixed: tuple[Change, ...] = ()
    still: tuple[Change, ...] = ()
    newly_untested: tuple[Change, ...] = ()
    newly_failing: tuple[Change, ...] = ()
    newly_works: tuple[Change, ...] = ()
    same_suite: bool = True


def difference(old: Result, new: Result) -> Difference:
    """What changed from `old` to `new`.

    Raises:
        ValueError: two device classes, which cannot be compared.
    """
    if old.device_class != new.device_class:
        raise ValueError(f"results of {old.device_class} and {new.device_class}")
    by_kind = _by_kind(old.endings, new.endings)
    return Difference(**by_kind, same_suite=old.suite == new.suite)


@functools.cache
def _by_kind(old: CheckEndings, new: CheckEndings) -> Mapping[str, tuple[Change, ...]]:
    before, after = _asked_of_both(old, new)
    by_kind: dict[str, list[Change]] = {}
    for check in sorted({*before, *after}):
        change = _change(check, before.get(check), after.get(check))
        kind = _KINDS.get((_answer(change.old), _answer(change.new)))
        if kind is None and change.condition and change.old in HOLDS:
            same = before[check].condition == change.condition
            kind = None if same else "needs"
        elif kind is None and change.old is CheckOutcome.WORKS_WITH:
            kind = "freed"
        if kind:
            by_kind.setdefault(kind, []).append(change)
    return {kind: tuple(changes) for kind, changes in by_kind.items()}


def unlike(old: Result, new: Result) -> tuple[Change, ...]:
    """The checks that differ between both: in their outcome, cause or condition. Checks that did
    not run in one of the two because a stand-in lacks a module are left out. Sorted."""
    before, after = _asked_of_both(old.endings, new.endings)
    changes = []
    for check in sorted({*before, *after}):
        one, other = before.get(check), after.get(check)
        change = _change(check, one, other)
        condition = one.condition or "" if one else ""
        if change.old is not change.new or change.otherwise or condition != change.condition:
            changes.append(change)
    return tuple(changes)


def _asked_of_both(
    old: CheckEndings, new: CheckEndings
) -> tuple[dict[str, CheckResult], dict[str, CheckResult]]:
    """The checks of each by name, without those that did not run in one of the two because a
    stand-in lacks a module."""
    left_out = {c.check for e in (old, new) for c in e.checks if LEFT_OUT in c.details}
    before = {c.check: c for c in old.checks if c.check not in left_out}
    return before, {c.check: c for c in new.checks if c.check not in left_out}


_KINDS = {
    ("works", "fails"): "broke",
    ("fails", "works"): "fixed",
    ("fails", "fails"): "still",
    ("works", ""): "newly_untested",
    ("fails", ""): "newly_untested",
    ("", "fails"): "newly_failing",
    ("", "works"): "newly_works",
}


def _answer(outcome: CheckOutcome | None) -> str:
    if outcome in HOLDS:
        return "works"
    return "fails" if outcome in FAILS else ""


def _change(check: str, old: CheckResult | None, new: CheckResult | None) -> Change:
    causes = [c.failure.fingerprint if c and c.failure else "" for c in (old, new)]
    return Change(
        check=check,
        old=old.outcome if old else None,
        new=new.outcome if new else None,
        why=why(new) if new and (new.outcome in FAILS or new.condition) else "",
        otherwise=bool(causes[0] and causes[1] and causes[0] != causes[1]),
        condition=new.condition or "" if new else "",
    )


def why(result: CheckResult) -> str:
    """Why a check did not work with all defaults, in one line."""
    if result.failure:
        message = verdict.gist(result.failure.message).split("\n")[0]
        return f"{result.failure.type}: {' '.join(message.split())[:200]}"
    return (result.reason or result.outcome.value)[:200]


def known_good(result: Result) -> bool:
    """Whether a checkpoint restores for at least one family."""
    return result.outcome in GOOD


def baseline(
    new: Result, package: str, results: Iterable[Result], *, good: bool = True
) -> Result | None:
    """The result that a release of `package` is compared with: one of an older release.

    Of the same device class; of `good` cells, if there is any; with the same series of the other of
    megatron-core and ModelOpt, else the nearest; of those the newest release of the package, with
    the other axes nearest. None if no older result has checks.
    """
    pool = [
        e
        for e in results
        if e.complete
        and e.checks
        and e.device_class == new.device_class
        and parsed(e.pins[package]) < parsed(new.pins[package])
    ]
    if good:
        pool = [e for e in pool if known_good(e)] or pool
    if not pool:
        return None
    others = [axis for axis in _PAIR if axis != package]

    def apart(e: Result) -> tuple[tuple[int, ...], ...]:
        return tuple(
            _apart(series_of(e.pins[axis]), series_of(new.pins[axis]), 2) for axis in others
        )

    nearest = min(map(apart, pool))
    pool = [e for e in pool if apart(e) == nearest]
    newest = max(parsed(e.pins[package]) for e in pool)
    pool = [e for e in pool if parsed(e.pins[package]) == newest]
    axes = [axis for axis in AXES if axis != package]
    return min(pool, key=lambda e: ([_apart(e.pins[a], new.pins[a], 3) for a in axes], e.cell))


def _apart(one: str, other: str, digits: int) -> tuple[int, ...]:
    numbers = [(parsed(v).major, parsed(v).minor, parsed(v).micro)[:digits] for v in (one, other)]
    return tuple(abs(a - b) for a, b in zip(*numbers, strict=True))


def other_pins(old: Result, new: Result, package: str) -> Mapping[str, tuple[str, str]]:
    """By axis: both versions, if another package differs, too, and may be the cause."""
    return {
        axis: (old.pins[axis], new.pins[axis])
        for axis in AXES
        if axis != package and old.pins[axis] != new.pins[axis]
    }


def one_line(condition: str) -> str:
    """The code of a condition, its lines joined to one."""
    return "; ".join(line.strip() for line in condition.splitlines() if line.strip())


def _named(change: Change) -> str:
    """A check, with the condition under which alone it works."""
    only = f", only with `{one_line(change.condition)}`" if change.condition else ""
    return f"`{change.check}`{only}"


def _because(change: Change) -> str:
    if not change.why:
        return ""
    return f"; without it: {change.why}" if change.condition else f": {change.why}"


def lines(old: Result, new: Result, package: str) -> list[str]:
    """A comparison in words, as a Markdown list: what the newer one broke and fixed."""
    compared = difference(old, new)
    also = ", ".join(f"{a} {x} -> {y}" for a, (x, y) in other_pins(old, new, package).items())
    head = (
        f"- `{new.cell}`: {new.outcome.value}; against `{old.cell}` "
        f"({package} {old.pins[package]}, {old.outcome.value}): "
        f"broke {len(compared.broke)}, fixed {len(compared.fixed)}, "
        f"still fails {len(compared.still)}, "
        f"not run any more {len(compared.newly_untested)}"
    )
    rows = [head]
    if new.reason:
        rows.append(f"  - {new.reason.kind}: {' '.join(new.reason.message.split())[:300]}")
    if also:
        rows.append(f"  - other pins differ too: {also}")
    if not compared.same_suite:
        rows.append("  - of two versions of the suite: a difference may come from the suite")
    for word, changes in (
        ("broke", compared.broke),
        ("fixed", compared.fixed),
        ("fails with another cause", tuple(c for c in compared.still if c.otherwise)),
        ("fails, not run before", compared.newly_failing),
    ):
        rows += [f"  - {word}: {_named(c)}{_because(c)}" for c in changes]
    rows += [f"  - works only with `{one_line(c.condition)}`: `{c.check}`" for c in compared.needs]
    rows += [f"  - needs no condition any more: `{c.check}`" for c in compared.freed]
    fresh = compared.newly_works
    rows += [f"  - works, not run before: {_named(c)}" for c in fresh if c.condition]
    works = ", ".join(_named(c) for c in fresh if not c.condition)
    return [*rows, f"  - works, not run before: {works}"] if works else rows
