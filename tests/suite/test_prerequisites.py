"""Prerequisites: who comes first, and what their outcomes mean for those after them."""

from __future__ import annotations

import pytest

from suite.prerequisites import Check, needed, order, unknown, verdict

BUILD, RESTORE = Check("build", "gpt"), Check("restore", "gpt", ("build", "import"))


def test_a_kind_means_the_same_family_or_else_the_check_of_none() -> None:
    ids = ["build[gpt]", "build[mla-moe]", "import"]
    assert needed(RESTORE, ids) == ["build[gpt]", "import"]


def test_an_id_means_itself_whatever_the_family() -> None:
    check = Check("stack", None, ("modules[hybrid-mamba]",))
    assert needed(check, ["modules[hybrid-mamba]", "modules[gpt]"]) == ["modules[hybrid-mamba]"]
    assert unknown([check, Check("modules", "hybrid-mamba")]) == []


def test_prerequisites_come_first_and_the_rest_stays_in_order() -> None:
    checks = [RESTORE, Check("other"), BUILD]
    assert [check.id for check in order(checks)] == ["other", "build[gpt]", "restore[gpt]"]


def test_checks_that_wait_for_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="wait for each other"):
        order([Check("a", None, ("b",)), Check("b", None, ("a",))])


def test_what_no_check_is_of_is_found() -> None:
    assert unknown([RESTORE, BUILD]) == ["import"]


@pytest.mark.parametrize("outcome", ["broken", "crashed", "timed-out"])
def test_a_failure_blocks_and_is_named(outcome: str) -> None:
    assert verdict(RESTORE, {"build[gpt]": (outcome, "why")}) == (
        "blocked",
        f"build[gpt] is {outcome}",
    )


def test_a_failure_weighs_more_than_what_is_unsupported() -> None:
    ended = {"build[gpt]": ("unsupported", "none"), "import": ("broken", "why")}
    assert verdict(RESTORE, ended) == ("blocked", "import is broken")


def test_unsupported_and_needs_gpu_are_passed_on() -> None:
    assert verdict(RESTORE, {"build[gpt]": ("unsupported", "none")}) == ("unsupported", "none")
    assert verdict(RESTORE, {"build[gpt]": ("needs-gpu", "a kernel")}) == (
        "needs-gpu",
        "build[gpt]: a kernel",
    )


def test_a_prerequisite_that_was_not_selected_stops_nothing() -> None:
    assert verdict(RESTORE, {}) is None
    assert verdict(RESTORE, {"build[gpt]": ("works", None)}) is None
