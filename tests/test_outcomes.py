"""A verdict follows from the checks that a profile takes, by the published definitions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcore_compat.base.errors import UsageError
from mcore_compat.core import profiles
from mcore_compat.core.outcomes import FAILS, FEATURES, HOLDS, CellOutcome, CheckOutcome
from mcore_compat.core.profiles import ALL, DEFAULT, Point, Profile, Words

W, B, N = CheckOutcome.WORKS, CheckOutcome.BROKEN, CheckOutcome.NEEDS_GPU
U, C = CheckOutcome.UNSUPPORTED, CheckOutcome.WORKS_WITH


@dataclass(frozen=True)
class Asked:
    """A check as far as a verdict goes."""

    feature: str | None
    family: str | None
    outcome: CheckOutcome
    format: str | None = None
    kind: str = "some-check"


def of(*rows: tuple[str | None, str | None, CheckOutcome]) -> list[Asked]:
    return [Asked(*row) for row in rows]


RESTORE = Profile(name="", features=("restore",))
QUANTIZE = Profile(name="", features=("quantize",), formats=("fp8",))
GPT = Profile(name="", features=("restore", "quantize"), families=("gpt",))


@pytest.mark.parametrize(
    ("checks", "profile", "expected"),
    [
        ([], DEFAULT, CellOutcome.UNTESTED),
        (of(("restore", "gpt", N)), DEFAULT, CellOutcome.UNTESTED),
        (of(("restore", "gpt", W), ("interface", "gpt", W)), DEFAULT, CellOutcome.COMPATIBLE),
        (of(("restore", "gpt", W), ("inference", "gpt", N)), DEFAULT, CellOutcome.COMPATIBLE),
        (of(("restore", "gpt", C), ("restore", "mla", U)), DEFAULT, CellOutcome.COMPATIBLE),
        (of(("restore", "gpt", W), ("restore", "mla", B)), DEFAULT, CellOutcome.PARTIAL),
        (of(("restore", "gpt", W), ("quantize", "gpt", B)), DEFAULT, CellOutcome.PARTIAL),
        # Everything of it that a family asks has to hold.
        (of(("restore", "gpt", W), ("restore", "gpt", B)), DEFAULT, CellOutcome.INCOMPATIBLE),
        (of(("restore", "gpt", B), ("interface", "gpt", W)), DEFAULT, CellOutcome.INCOMPATIBLE),
        (of(("quantize", "gpt", CheckOutcome.BLOCKED)), QUANTIZE, CellOutcome.INCOMPATIBLE),
        (
            of(("restore", "gpt", CheckOutcome.BLOCKED), ("install", None, B)),
            DEFAULT,
            CellOutcome.INCOMPATIBLE,
        ),
        (of(("restore", "gpt", N), ("interface", "gpt", W)), DEFAULT, CellOutcome.UNTESTED),
        # What a profile does not take counts for nothing.
        (of(("restore", "gpt", W), ("restore-back", "gpt", B)), DEFAULT, CellOutcome.COMPATIBLE),
        (of(("restore", "gpt", W), ("restore-back", "gpt", B)), ALL, CellOutcome.PARTIAL),
        (of(("restore", "gpt", W), ("quantize", "gpt", B)), RESTORE, CellOutcome.COMPATIBLE),
        (of(("restore", "gpt", W), ("restore", "mla", B)), GPT, CellOutcome.COMPATIBLE),
        (of(("quantize", "gpt", B), ("restore", "gpt", W)), QUANTIZE, CellOutcome.INCOMPATIBLE),
    ],
)
def test_the_definitions(checks: Sequence[Asked], profile: Profile, expected: CellOutcome) -> None:
    assert profiles.outcome(profiles.points(checks), profile) is expected


def test_formats_that_are_not_meant_count_for_nothing() -> None:
    checks = [
        Asked("quantize", "gpt", W, "fp8"),
        Asked("quantize", "gpt", B, "nvfp4"),
        Asked("quantize", "mla", W, "fp8"),
    ]
    assert profiles.outcome(profiles.points(checks), QUANTIZE) is CellOutcome.COMPATIBLE
    assert profiles.points(checks) == {
        Point("quantize", "gpt", "fp8"): W,
        Point("quantize", "gpt", "nvfp4"): B,
        Point("quantize", "mla", "fp8"): W,
    }


def test_a_check_of_no_family_is_a_point_by_itself_and_counts_for_each() -> None:
    checks = [Asked("install", None, B, kind="import-packages"), Asked("restore", "gpt", W)]
    assert Point("install", kind="import-packages") in profiles.points(checks)
    only_gpt = Profile(name="", features=("install", "restore"), families=("gpt",))
    assert profiles.outcome(profiles.points(checks), only_gpt) is CellOutcome.PARTIAL


ENDS = st.sampled_from(list(CheckOutcome))
CHECKS = st.lists(
    st.builds(
        Asked,
        feature=st.sampled_from([*FEATURES, None]),
        family=st.sampled_from(["gpt", "mla", None]),
        outcome=ENDS,
        format=st.sampled_from(["fp8", "int4", None]),
        kind=st.sampled_from(["restore", "some-check"]),
    )
)
PROFILES = st.builds(
    Profile,
    name=st.just(""),
    features=st.lists(st.sampled_from(FEATURES), min_size=1, unique=True).map(tuple),
    families=st.sampled_from([(), ("gpt",), ("gpt", "mla")]),
    formats=st.sampled_from([(), ("fp8",)]),
)


@given(CHECKS, PROFILES)
def test_compatible_means_that_nothing_it_takes_fails_and_something_holds(
    checks: list[Asked], profile: Profile
) -> None:
    if profiles.outcome(profiles.points(checks), profile) is CellOutcome.COMPATIBLE:
        mine = {check.outcome for check in checks if profile.takes(check)}
        assert mine & HOLDS
        assert not mine & FAILS


@given(CHECKS, PROFILES)
def test_needs_gpu_never_counts_as_works(checks: list[Asked], profile: Profile) -> None:
    without = [check for check in checks if check.outcome is not N]
    if profiles.outcome(profiles.points(checks), profile) is CellOutcome.COMPATIBLE:
        assert profiles.outcome(profiles.points(without), profile) is CellOutcome.COMPATIBLE


@given(CHECKS, PROFILES)
def test_order_does_not_matter(checks: list[Asked], profile: Profile) -> None:
    assert profiles.outcome(profiles.points(checks), profile) is profiles.outcome(
        profiles.points(checks[::-1]), profile
    )


@pytest.mark.parametrize(
    ("text", "features", "formats"),
    [
        ("default", DEFAULT.features, ()),
        ("all", FEATURES, ()),
        ("quantize:fp8+int4,restore", ("restore", "quantize"), ("fp8", "int4")),
        ("restore, restore", ("restore",), ()),
        ("mine", ("restore",), ("fp8",)),
    ],
)
def test_a_profile_is_named_or_spelt(
    text: str, features: tuple[str, ...], formats: tuple[str, ...]
) -> None:
    mine = Profile(name="mine", features=("restore",), formats=("fp8",))
    found = profiles.named(text, {"mine": mine})
    assert (found.features, found.formats) == (features, formats)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("quantise", 'no profile or feature "quantise"; did you mean "quantize"'),
        ("defalt", 'no profile or feature "defalt"; did you mean "default"'),
        (" , ", "no feature is named"),
    ],
)
def test_a_word_that_is_none_gets_the_nearest(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        profiles.named(text, {})


def test_families_and_formats_are_those_of_the_suite() -> None:
    words = Words(features=FEATURES, families=("gpt", "mla-moe"), formats=("fp8",))
    words.refuse_unknown(profiles.narrowed(DEFAULT, "gpt,mla-moe"), "--families")
    with pytest.raises(UsageError, match='--families: no family "mla-mo"; did you mean "mla-moe"'):
        words.refuse_unknown(profiles.narrowed(DEFAULT, "mla-mo"), "--families")
    with pytest.raises(UsageError, match='--for: no format "fp9"; did you mean "fp8"'):
        words.refuse_unknown(profiles.named("quantize:fp9", {}), "--for")
    with pytest.raises(UsageError, match="no family is named"):
        profiles.narrowed(DEFAULT, ",")
