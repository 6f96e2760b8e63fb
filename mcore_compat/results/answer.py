"""The verdict on a cell for a profile, in words: what works, what fails, and under which condition
it works. The terminal and a cell's page use the same words. Pure."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from mcore_compat.core import profiles
from mcore_compat.core.cells import AXES
from mcore_compat.core.matrix import Pairs
from mcore_compat.core.outcomes import FAILURES, CellOutcome, CheckOutcome
from mcore_compat.core.profiles import ALL, DEFAULT, Point, Profile
from mcore_compat.results.result import CheckEndings, CheckResult, Result
from mcore_compat.results.verdict import covering, declaring, gist, spelt, unsure, unsure_text

MCORE, MODELOPT = AXES[:2]

LONGEST = 160
"""The maximum length of a reason in one line, in characters."""


def outcome(e: Result, profile: Profile = DEFAULT) -> CellOutcome:
    """The verdict on a cell for a profile; without checks, the outcome of the cell."""
    if not e.checks or e.outcome is CellOutcome.ERROR:
        return e.outcome
    return profiles.outcome(e.points, profile)


def taken(of: Result | CheckEndings, profile: Profile) -> tuple[CheckResult, ...]:
    """The checks that a profile includes."""
    return tuple(check for check in of.checks if profile.takes(check))


def failing_points(e: Result, profile: Profile) -> int:
    """How many points of a profile fail."""
    return len(profiles.failing(e.points, profile))


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


def failures(e: Result, profile: Profile, rules: Sequence[Pairs]) -> tuple[Failing, ...]:
    """The failures within a profile, each reason once: the one that the matrix declares, else the
    failure's own. Blocked checks appear only if nothing else fails."""
    return _failures(e.endings, profile, covering(e, rules))


@functools.cache
def _failures(
    endings: CheckEndings, profile: Profile, rules: tuple[Pairs, ...]
) -> tuple[Failing, ...]:
    by_reason: dict[str, list[CheckResult]] = {}
    blocked = []
    for check in taken(endings, profile):
        if check.outcome in FAILURES:
            by_reason.setdefault(_reason(check, rules), []).append(check)
        elif check.outcome is CheckOutcome.BLOCKED:
            blocked.append(check)
    if blocked and not by_reason:  # by a check outside the profile
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


def _reason(check: CheckResult, rules: Sequence[Pairs]) -> str:
    rule = declaring(check.check, check, rules)
    if rule is not None:
        return rule.reason
    said = f"{check.failure.type}: {gist(check.failure.message)}" if check.failure else ""
    return _short(said or check.reason or check.outcome.value)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"


def compatible_families(e: Result, profile: Profile) -> tuple[str, ...]:
    """The families for which a cell is compatible; empty if it is for the whole profile, or for
    none."""
    if outcome(e, profile) is CellOutcome.COMPATIBLE:
        return ()
    asked = profile.families or e.families()
    alone = {family: replace(profile, families=(family,)) for family in asked}
    return tuple(f for f in asked if outcome(e, alone[f]) is CellOutcome.COMPATIBLE)


def conditional(e: Result, profile: Profile) -> dict[str, tuple[str, ...]]:
    """By condition, in one line: the features and families that work only under it."""
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


def not_asked(e: Result, profile: Profile) -> tuple[str, ...]:
    """The features of a profile that cannot run here, or that the release does not have, in words:
    `inference: needs a GPU`."""
    words = {
        CheckOutcome.NEEDS_GPU: "needs a GPU",
        CheckOutcome.UNSUPPORTED: "the release has none",
    }
    by_feature: dict[str, set[CheckOutcome]] = {}
    for point, ended in profiles.of(e.points, profile).items():
        by_feature.setdefault(point.feature, set()).add(ended)
    return tuple(
        f"{feature or 'other'}: {words[profiles.worst(ended)]}"
        for feature, ended in by_feature.items()
        if ended <= words.keys()
    )


def table(
    endings: CheckEndings,
) -> tuple[tuple[str, ...], Mapping[str, tuple[str, ...]]]:
    """Features × families: the families, and by feature the outcome for each, `works` or with
    formats `works 3/4`; the last column is for checks without a family."""
    points, families = endings.points, endings.families
    rows = {}
    for feature in dict.fromkeys(p.feature for p in points):
        of = {p: o for p, o in points.items() if p.feature == feature}
        cells = [{p: o for p, o in of.items() if p.family == family} for family in families]
        alone = {p: o for p, o in of.items() if not p.family}
        rows[feature or "other"] = tuple(_square(each) for each in (*cells, alone))
    return families, rows


def _square(points: Mapping[Point, CheckOutcome]) -> str:
    """The outcome of one point; of several also how many work."""
    if not points:
        return ""
    good, of = profiles.held(points)
    together = profiles.worst(points.values()).value
    if len(points) == 1 or not of:
        return together
    return f"{together} {good}/{of}"


def head(e: Result, profile: Profile) -> str:
    """The verdict in one line, with the cell and the device class."""
    ended = spelt(outcome(e, profile))
    return f"{e.cell}: {ended} for {profile.text()} (device class {e.device_class})"


def lines(e: Result, rules: Sequence[Pairs], profile: Profile) -> Iterable[tuple[str, str]]:
    """The verdict in lines: a label and its text."""
    if not e.checks:
        return ()
    at = e.endings, covering(e, rules), profile, e.outcome is CellOutcome.ERROR
    if at not in _lines_of:
        _lines_of[at] = tuple(_lines(e, rules, profile))
    return _lines_of[at]


_lines_of: dict[tuple[object, ...], tuple[tuple[str, str], ...]] = {}
"""A cache: the verdict follows from how the checks ended, and from the rules for the cell."""


def _lines(e: Result, rules: Sequence[Pairs], profile: Profile) -> Iterator[tuple[str, str]]:
    yield "works", "; ".join(profiles.counted(e.points, profile)) or "no check that ran"
    if of := compatible_families(e, profile):
        yield "compatible", f"for {', '.join(of)} alone (--families {','.join(of)})"
    for each in failures(e, profile, rules):
        yield "fails", each.text()
    for condition, what in conditional(e, profile).items():
        yield "only with", f"{condition}: {', '.join(what)}"
    if missing := not_asked(e, profile):
        yield "not run", "; ".join(missing)
    if e.outcome is CellOutcome.UNTESTED:
        for failure in unsure(c.reason for c in e.checks):
            yield "ended in", unsure_text(failure)
    more = failing_points(e, ALL) - failing_points(e, profile)
    if more:
        count = "1 failure" if more == 1 else f"{more} failures"
        shown = "it" if more == 1 else "them"
        yield "also", f"{count} outside this profile (--for all shows {shown})"
