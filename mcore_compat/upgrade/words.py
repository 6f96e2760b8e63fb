"""What checks test, and why they fail, in the words of a profile. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from mcore_compat.core import profiles
from mcore_compat.core.matrix import Matrix, Pairs
from mcore_compat.core.outcomes import FAILS, CheckOutcome
from mcore_compat.core.profiles import BUILT_IN, DEFAULT, Profile
from mcore_compat.publish.rendering import short
from mcore_compat.results import answer
from mcore_compat.results.answer import LONGEST
from mcore_compat.results.result import CheckResult, Result


def about(checks: Iterable[CheckResult]) -> str:
    """What checks test: `quantize fp8, int4 of gpt, mla-moe`. Checks of an old suite, which named
    no features, appear by their kind."""
    checks = tuple(checks)
    points = [*profiles.points(checks)]
    kinds = {c.kind for c in checks if not profiles.feature_of(c)}
    features = [*dict.fromkeys(p.feature for p in points if p.feature), *sorted(kinds)]
    formats = sorted({p.format for p in points if p.format})
    families = sorted({p.family for p in points if p.family})
    text = ", ".join(features) + (f" {', '.join(formats)}" if formats else "")
    return f"{text} of {', '.join(families)}" if families else text


NOT_THERE = "its result does not have this check"


def sentence(result: Result, check: CheckResult | None, rules: Sequence[Pairs]) -> str:
    """Why a check does not work: the reason that the matrix declares, else the failure's message.
    For a blocked check: why the check fails that blocks it. `check` None: it has no result."""
    if check is None:
        return NOT_THERE
    by_id = {c.check: c for c in result.checks}
    seen = {check.check}
    while check.outcome is CheckOutcome.BLOCKED:
        before = by_id.get((check.reason or "").partition(" ")[0])
        if before is None or before.outcome not in FAILS or before.check in seen:
            break
        check = before
        seen.add(check.check)
    its_own = Profile(name="", features=(profiles.feature_of(check),))
    failed = answer.failures(replace(result, checks=(check,)), its_own, rules)
    return failed[0].reason if failed else short(check.reason or check.outcome.value, LONGEST)


def options(profile: Profile, declared: Matrix) -> str:
    """The options that make a command answer for this profile; empty for the default one."""
    if profile == DEFAULT:
        return ""
    if {**BUILT_IN, **declared.profiles}.get(profile.name) == profile:
        return f"--for {profile.name}"
    features = list(profile.features)
    if profile.formats:
        # Formats may follow any feature; they read best after quantization.
        place = next((n for n, word in enumerate(features) if word.startswith("quantize")), 0)
        features[place] += ":" + "+".join(profile.formats)
    families = f" --families {','.join(profile.families)}" if profile.families else ""
    return f"--for {','.join(features)}{families}"
