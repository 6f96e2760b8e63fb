"""The answer to a cell for a profile: what works, what fails and why, what to take instead. All
results are made up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import snapshot
from support import CONDITION, ROOT, event, stand_in_cell, stand_in_result

from mcore_compat.analysis.bisect import search
from mcore_compat.base.errors import MatrixError, UsageError
from mcore_compat.core import profiles
from mcore_compat.core.matrix import Matrix
from mcore_compat.core.outcomes import CellOutcome
from mcore_compat.core.profiles import ALL, DEFAULT, Profile
from mcore_compat.core.workspace import Workspace
from mcore_compat.results import answer, suite_checks, verdict
from mcore_compat.results.better_cells import BetterCells
from mcore_compat.results.result import Result
from mcore_compat.run.profile_words import ProfileWords
from mcore_compat.schedule import bisection

FAMILIES = ("gpt", "hybrid-mamba", "llama4-moe", "mla-moe")

RESTORE = Profile(name="", features=("restore",))


def restore(family: str, outcome: str = "works", **more: Any) -> dict[str, Any]:
    return event(f"restore[{family}]", outcome, feature="restore", **more)


def quantize(family: str, outcome: str = "works", format: str = "fp8") -> dict[str, Any]:
    check = f"modelopt-state-{format}[{family}]"
    return event(check, outcome, feature="quantize", format=format)


def back(family: str, outcome: str = "works", **more: Any) -> dict[str, Any]:
    return event(f"restore-back[{family}]", outcome, feature="restore-back", **more)


def cell(mcore: str, modelopt: str, *events: dict[str, Any]) -> Result:
    return stand_in_result(*events, cell=stand_in_cell(f"{mcore}.0", f"{modelopt}.0"))


GOOD = (restore("gpt"), quantize("gpt"))
LAME = (restore("gpt"), quantize("gpt", "broken"))


def told(e: Result, profile: Profile = DEFAULT) -> list[str]:
    return [f"{what}: {text}" for what, text in answer.lines(e, (), profile)]


def test_what_a_run_without_a_verdict_ended_in_is_told() -> None:
    why = f"{verdict.UNSURE}RuntimeError: curand shared object not found."
    e = cell("0.16", "0.41", restore("gpt", "needs-gpu", reason=why))
    line = "ended in: RuntimeError: curand shared object not found; not known whether a GPU would "
    assert f"{line}change that" in told(e)
    beside = cell("0.16", "0.41", restore("gpt", "needs-gpu", reason=why), restore("mla-moe"))
    assert not any(row.startswith("ended in") for row in told(beside)), "it has a verdict"


def test_what_works_is_counted_by_feature_and_what_fails_is_told_with_why() -> None:
    e = cell("0.16", "0.41", restore("gpt"), restore("mla", "broken"), quantize("gpt"))
    assert told(e)[:3] == [
        "works: restore 1/2 (gpt); quantize 1/1",
        "compatible: for gpt alone (--families gpt)",
        "fails: restore of mla: KeyError: 'decoder.weight'",
    ]


def test_the_families_for_which_alone_it_is_compatible_are_named() -> None:
    e = cell("0.16", "0.41", *GOOD, restore("mla"), quantize("mla", "broken"))
    assert "compatible: for gpt alone (--families gpt)" in told(e)
    assert not [line for line in told(cell("0.16", "0.41", *GOOD)) if "alone" in line]
    nowhere = cell("0.16", "0.41", *GOOD, event("import-packages", "broken", feature="install"))
    assert answer.compatible_families(nowhere, DEFAULT) == ()


def test_one_reason_is_told_once_for_all_that_it_fails() -> None:
    e = cell("0.16", "0.41", restore("gpt"), quantize("gpt", "broken"), quantize("mla", "broken"))
    (failing,) = answer.failures(e, DEFAULT, ())
    assert failing.text() == "quantize fp8 of gpt, mla: KeyError: 'decoder.weight'"


def test_what_a_profile_does_not_take_is_only_counted() -> None:
    e = cell("0.16", "0.41", *GOOD, back("gpt", "broken"))
    assert answer.outcome(e) is CellOutcome.COMPATIBLE
    assert answer.outcome(e, ALL) is CellOutcome.PARTIAL
    said = told(e)
    assert not [line for line in said if line.startswith("fails")]
    assert "also: 1 failure outside this profile (--for all shows it)" in said


def test_conditions_and_what_could_not_be_asked_are_told() -> None:
    e = cell(
        "0.16",
        "0.41",
        restore("gpt", "works-with", condition=CONDITION),
        event("inference-shapes[gpt]", "needs-gpu", feature="inference"),
    )
    said = told(e)
    assert f"only with: {CONDITION.splitlines()[-1].strip()}: restore of gpt" in said
    assert "not run: inference: needs a GPU" in said


def test_the_table_says_of_each_feature_and_family_what_its_checks_come_to() -> None:
    e = cell(
        "0.16",
        "0.41",
        event("import-packages", feature="install"),
        restore("gpt"),
        quantize("gpt"),
        quantize("gpt", "broken", "int4"),
    )
    assert answer.table(e.endings) == (
        ("gpt",),
        {"install": ("", "works"), "restore": ("works", ""), "quantize": ("broken 1/2", "")},
    )


class TestInstead:
    """What to take instead is better for the profile, and near."""

    HERE = cell("0.19", "0.44", *LAME)

    def of(self, *others: Result, profile: Profile = DEFAULT) -> list[str]:
        better = BetterCells((self.HERE, *others), profile)
        return [one.cell for one in better.of(self.HERE.cell, self.HERE.pins)]

    def test_the_best_with_the_same_megatron_core_comes_first(self) -> None:
        near = cell("0.18", "0.44", *GOOD)
        same = cell("0.19", "0.46", *GOOD)
        assert self.of(near, same) == [same.cell]

    def test_then_with_the_same_modelopt(self) -> None:
        near = cell("0.18", "0.44", *GOOD)
        assert self.of(near, cell("0.17", "0.43", *GOOD)) == [near.cell]

    def test_nobody_is_sent_to_another_megatron_core_for_a_failure_less(self) -> None:
        here = cell("0.19", "0.44", *LAME, quantize("mla", "broken"))
        less = cell("0.18", "0.44", *LAME)
        assert BetterCells((here, less)).of(here.cell, here.pins) == ()

    def test_where_it_is_not_compatible_the_nearest_that_is_comes_second(self) -> None:
        here = cell("0.19", "0.44", *LAME, quantize("mla", "broken"))
        same = cell("0.19", "0.46", *LAME)
        good = cell("0.14", "0.44", *GOOD, quantize("mla", "works"))
        others = (here, same, good, cell("0.13", "0.44", *GOOD, quantize("mla", "works")))
        found = BetterCells(others).of(here.cell, here.pins)
        assert [one.cell for one in found] == [same.cell, good.cell]
        assert ("megatron-core", "0.19.0", "0.14.0") in found[1].differs
        assert "megatron-core 0.19.0 -> 0.14.0" in found[1].text()

    def test_a_release_without_a_family_is_no_way_out_for_who_uses_it(self) -> None:
        here = cell("0.19", "0.44", *LAME, quantize("mla", "works"))
        old = cell("0.10", "0.33", *GOOD)
        assert BetterCells((here, old)).of(here.cell, here.pins) == ()
        only_gpt = replace(DEFAULT, families=("gpt",))
        found = BetterCells((here, old), only_gpt).of(here.cell, here.pins)
        assert [one.cell for one in found] == [old.cell]

    def test_what_is_no_better_for_the_profile_is_not_named(self) -> None:
        better = cell("0.19", "0.46", *GOOD)
        assert self.of(better, profile=RESTORE) == []
        untested = cell("0.19", "0.43")
        assert BetterCells([better]).of(untested.cell, untested.pins)[0].cell == better.cell


class TestWords:
    """A profile is a name of the matrix, one of a file, or features; unknown words get the
    nearest."""

    MINE = Profile(name="mine", features=("restore",), families=("gpt",))

    def of(self, text: str | None, families: str | None = None) -> Profile | None:
        declared: Matrix = replace(snapshot.matrix(), profiles={"mine": self.MINE})
        return ProfileWords(text, families).profile(declared, ROOT / "suite")

    def test_nothing_is_asked_where_nothing_is_said(self) -> None:
        assert self.of(None) is None

    def test_named_spelt_and_narrowed(self) -> None:
        assert self.of("mine") == self.MINE
        spelt = self.of("restore,quantize:fp8", "mla-moe")
        assert spelt is not None
        assert (spelt.features, spelt.families) == (("restore", "quantize"), ("mla-moe",))
        assert spelt.formats == ("fp8",)

    def test_of_a_file_of_its_own(self, tmp_path: Any) -> None:
        path = tmp_path / "mine.toml"
        path.write_text('[profile.ptq]\nfeatures = ["quantize"]\nformats = ["fp8"]\n')
        for text in (str(path), f"{path}:ptq"):
            found = self.of(text)
            assert found is not None
            assert found.formats == ("fp8",)
        with pytest.raises(UsageError, match='no profile "ptw"; did you mean "ptq"'):
            self.of(f"{path}:ptw")
        path.write_text('[profile.ptq]\nfeatures = ["quantise"]\n')
        with pytest.raises(MatrixError, match='unknown value "quantise"; did you mean "quantize"'):
            self.of(str(path))

    @pytest.mark.parametrize(
        ("text", "families", "said"),
        [
            ("quantise", None, 'did you mean "quantize"'),
            ("quantize:fp9", None, 'no format "fp9"; did you mean "fp8"'),
            (None, "mla", 'no family "mla"; did you mean "mla-moe"'),
        ],
    )
    def test_a_word_that_is_none(self, text: str | None, families: str | None, said: str) -> None:
        with pytest.raises(UsageError, match=said):
            self.of(text, families)

    def test_the_words_are_those_of_the_suite(self) -> None:
        words = suite_checks.words(ROOT / "suite")
        assert set(DEFAULT.features) < set(words.features)
        assert words.families == FAMILIES
        assert words.formats == ("fp8", "int4", "int8", "nvfp4")


def test_counts_leave_out_what_the_release_does_not_have() -> None:
    e = cell("0.16", "0.41", restore("gpt"), restore("mla", "unsupported"))
    assert profiles.counted(e.points, DEFAULT) == ("restore 1/1",)


def test_bisect_takes_a_feature_for_its_checks() -> None:
    place = Workspace(ROOT)
    back = bisection.asked_for("restore-back", place).split(",")
    assert sorted(back) == sorted(f"restore-back[{family}]" for family in FAMILIES)
    fp8 = search.matching(
        bisection.asked_for("quantize:fp8", place), ["x", "modelopt-state-fp8[gpt]"]
    )
    assert fp8 == ("modelopt-state-fp8[gpt]",)
    assert bisection.asked_for("restore-tied*", place) == "restore-tied*"
    with pytest.raises(UsageError, match='no format "fp9"; did you mean "fp8"'):
        bisection.asked_for("quantize:fp9", place)
