"""The answer to a cell for a profile, in words: for whom it works, what does not, and what to take
instead. The terminal, a cell's page and advice say the same. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mcore_compat.core import profiles
from mcore_compat.core.cells import AXES, parsed, series_of
from mcore_compat.core.matrix import Pairs
from mcore_compat.core.outcomes import FAILURES, CellOutcome, CheckOutcome
from mcore_compat.core.profiles import ALL, DEFAULT, Point, Profile
from mcore_compat.results.evidence import CheckResult, Evidence
from mcore_compat.results.verdict import gist, rule_for

MCORE, MODELOPT = AXES[:2]

LONGEST = 160
"""Characters of a reason in one line."""


def outcome(e: Evidence, profile: Profile = DEFAULT) -> CellOutcome:
    """The verdict on a cell for a profile; of one that did not come to its checks, how it ended."""
    if not e.checks or e.outcome is CellOutcome.ERROR:
        return e.outcome
    return profiles.outcome(e.checks, profile)


def taken(e: Evidence, profile: Profile) -> tuple[CheckResult, ...]:
    """The checks that a profile takes."""
    return tuple(check for check in e.checks if profile.takes(check))


def failing_points(e: Evidence, profile: Profile) -> int:
    """How many points of a profile fail."""
    return len(profiles.failing(e.checks, profile))


@dataclass(frozen=True, kw_only=True)
class Failing:
    """Features that do not work for some families, for one `reason`."""

    features: tuple[str, ...]
    families: tuple[str, ...]
    formats: tuple[str, ...]
    reason: str

    def text(self) -> str:
        """`quantize fp8 of mla-moe: ...`."""
        what = ", ".join(self.features)
        what += f" {', '.join(self.formats)}" if self.formats else ""
        what += f" of {', '.join(self.families)}" if self.families else ""
        return f"{what}: {self.reason}"


def failures(e: Evidence, profile: Profile, rules: Sequence[Pairs]) -> tuple[Failing, ...]:
    """What of a profile fails, each reason once: as the matrix declares it, where it does, else as
    the failure says. What is only blocked is told with what blocks it."""
    by_reason: dict[str, list[CheckResult]] = {}
    blocked = []
    for check in taken(e, profile):
        if check.outcome in FAILURES:
            by_reason.setdefault(_reason(e, check, rules), []).append(check)
        elif check.outcome is CheckOutcome.BLOCKED:
            blocked.append(check)
    if blocked and not by_reason:  # by what the profile does not take
        by_reason[_short(blocked[0].reason or "a check before it fails")] = blocked
    found = [_failing(checks, reason) for reason, checks in by_reason.items()]
    return tuple(sorted(found, key=lambda f: (-len(f.families), f.features, f.reason)))


def _failing(checks: Sequence[CheckResult], reason: str) -> Failing:
    points = [*profiles.points(checks)]
    return Failing(
        features=tuple(dict.fromkeys(p.feature or "other" for p in points)),
        families=tuple(sorted({p.family for p in points if p.family})),
        formats=tuple(sorted({p.format for p in points if p.format})),
        reason=reason,
    )


def _reason(e: Evidence, check: CheckResult, rules: Sequence[Pairs]) -> str:
    rule = rule_for(e, check.check, rules)
    if rule is not None:
        return rule.reason
    said = f"{check.failure.type}: {gist(check.failure.message)}" if check.failure else ""
    return _short(said or check.reason or check.outcome.value)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"


def conditional(e: Evidence, profile: Profile) -> dict[str, tuple[str, ...]]:
    """By condition, in one line: the features and families that hold only under it."""
    by_condition: dict[str, list[CheckResult]] = {}
    for check in taken(e, profile):
        if check.condition:
            by_condition.setdefault(check.condition, []).append(check)
    return {
        condition.splitlines()[-1].strip(): tuple(
            " of ".join(filter(None, (p.feature, p.label if p.family else "")))
            for p in profiles.points(by_condition[condition])
        )
        for condition in sorted(by_condition)
    }


def not_asked(e: Evidence, profile: Profile) -> tuple[str, ...]:
    """The features of a profile that could not be asked here, or that the release has not, in
    words: `inference: needs a GPU`."""
    words = {
        CheckOutcome.NEEDS_GPU: "needs a GPU",
        CheckOutcome.UNSUPPORTED: "the release has none",
    }
    by_feature: dict[str, set[CheckOutcome]] = {}
    for point, ended in profiles.points(taken(e, profile)).items():
        by_feature.setdefault(point.feature, set()).add(ended)
    return tuple(
        f"{feature or 'other'}: {words[profiles.worst(ended)]}"
        for feature, ended in by_feature.items()
        if ended <= words.keys()
    )


def table(e: Evidence) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
    """Features × families: the families, and by feature what each comes to, `✓` or with formats
    `3/4`; the last column is of what is about no family."""
    points = profiles.points(e.checks)
    families = e.families()
    rows = {}
    for feature in dict.fromkeys(p.feature for p in points):
        of = {p: o for p, o in points.items() if p.feature == feature}
        cells = [{p: o for p, o in of.items() if p.family == family} for family in families]
        alone = {p: o for p, o in of.items() if not p.family}
        rows[feature or "other"] = tuple(_square(each) for each in (*cells, alone))
    return families, rows


def _square(points: Mapping[Point, CheckOutcome]) -> str:
    """The outcome of one point; of several how many hold, or what they come to together."""
    if not points:
        return ""
    good, of = profiles.held(points)
    together = profiles.worst(points.values()).value
    if len(points) == 1 or not of:
        return together
    return f"{together} {good}/{of}"


@dataclass(frozen=True, kw_only=True)
class Instead:
    """A cell that is better for a profile: how it ends, and in what it differs."""

    cell: str
    outcome: CellOutcome
    fails: int
    differs: tuple[tuple[str, str, str], ...]
    """Axis, the version here, the version there."""


def instead(e: Evidence, others: Iterable[Evidence], profile: Profile) -> tuple[Instead, ...]:
    """What to take instead, from evidence of the same device class; empty where nothing is better.

    First the best with this series of megatron-core, else with this one of ModelOpt, else the
    nearest of all. Where that one is not compatible, the nearest that is comes second: it may be
    another megatron-core, on another stack, which `differs` says.
    """
    mine = _cost(e, profile)
    better = {
        other.cell: other
        for other in others
        if other.checks
        and other.device_class == e.device_class
        and other.cell != e.cell
        and _cost(other, profile) < mine
    }
    if not better:
        return ()
    costs = {name: _cost(other, profile) for name, other in better.items()}
    apart = {name: _distance(e, other) for name, other in better.items()}
    chosen = []
    for axis in (MCORE, MODELOPT):
        here = series_of(e.pins[axis])
        kept = [name for name, other in better.items() if series_of(other.pins[axis]) == here]
        if kept:
            chosen.append(min(kept, key=lambda name: (costs[name], apart[name])))
            break
    else:
        chosen.append(min(better, key=lambda name: (apart[name], costs[name])))
    good = [name for name in better if costs[name][0] == 0]
    if good and costs[chosen[0]][0]:
        chosen.append(min(good, key=lambda name: apart[name]))
    return tuple(_instead(e, better[name], profile) for name in chosen)


def _instead(e: Evidence, other: Evidence, profile: Profile) -> Instead:
    return Instead(
        cell=other.cell,
        outcome=outcome(other, profile),
        fails=failing_points(other, profile),
        differs=tuple(
            (axis, e.pins[axis], other.pins[axis])
            for axis in AXES
            if e.pins[axis] != other.pins[axis]
        ),
    )


_RANK = {CellOutcome.COMPATIBLE: 0, CellOutcome.PARTIAL: 1}


def _cost(e: Evidence, profile: Profile) -> tuple[int, int]:
    """How bad a cell is for a profile."""
    if not e.checks:
        return len(_RANK) + 1, 0
    return _RANK.get(outcome(e, profile), len(_RANK)), failing_points(e, profile)


def _distance(e: Evidence, other: Evidence) -> tuple[object, ...]:
    """How far another cell is: axes that differ, then series of megatron-core and of ModelOpt."""
    moved = sum(series_of(e.pins[axis]) != series_of(other.pins[axis]) for axis in AXES)
    apart = (abs(_number(e.pins[a]) - _number(other.pins[a])) for a in (MCORE, MODELOPT))
    return moved, *apart, other.cell


def _number(version: str) -> int:
    """Major and minor as one number: how far two series are apart."""
    first = parsed(version)
    return first.major * 1000 + first.minor


def lines(
    e: Evidence, others: Iterable[Evidence] | None, rules: Sequence[Pairs], profile: Profile
) -> Iterator[tuple[str, str]]:
    """The answer: what is said, and its text. `others`: from which advice is taken, None: none."""
    if e.checks:
        yield "works", "; ".join(profiles.counted(e.checks, profile)) or "nothing that was asked"
        failed = failures(e, profile, rules)
        beside = conditional(e, profile)
        for each in failed:
            yield "fails", each.text()
        for condition, what in beside.items():
            yield "only with", f"{condition}: {', '.join(what)}"
        if missing := not_asked(e, profile):
            yield "not asked", "; ".join(missing)
        more = failing_points(e, ALL) - failing_points(e, profile)
        if more:
            yield "beside", f"{more} more fail of what this profile does not take (all: --for all)"
    if others is not None and outcome(e, profile) is not CellOutcome.COMPATIBLE:
        found = instead(e, others, profile)
        here = failing_points(e, profile) if e.checks else None
        yield from (("instead", advice(one, here)) for one in found)
        if not found:
            yield "instead", "no known cell does better for this; nox -l lists them all"


def advice(one: Instead, here: int | None) -> str:
    """One cell to take instead, in words."""
    changes = ", ".join(f"{axis} {old} -> {new}" for axis, old, new in one.differs)
    fail = f", {one.fails} fail there" if one.fails else ""
    fail += f" and {here} here" if one.fails and here is not None else ""
    return f"nox -s {one.cell} ({one.outcome.value}{fail}): {changes}"
