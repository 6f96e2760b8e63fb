"""What changed between two results, and which are compared. All cells are made up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from support import event, stand_in_cell

from mcore_compat.core.outcomes import CheckOutcome
from mcore_compat.results import comparison
from mcore_compat.results.result import Result

Made = Callable[..., Result]

WORKS, FAILS, UNASKED = (
    {"works", "works-with"},
    {"broken", "crashed", "timed-out", "blocked"},
    {"unsupported", "needs-gpu", None},
)
LISTS = (
    "needs",
    "freed",
    "broke",
    "fixed",
    "still",
    "newly_untested",
    "newly_failing",
    "newly_works",
)


def expected(old: str | None, new: str | None) -> str | None:
    """The rule, said once more in other words than the code's."""
    if {old, new} == WORKS:
        return "needs" if old == "works" else "freed"
    if old in WORKS:
        return "broke" if new in FAILS else "newly_untested" if new in UNASKED else None
    if old in FAILS:
        return "fixed" if new in WORKS else "still" if new in FAILS else "newly_untested"
    return "newly_failing" if new in FAILS else "newly_works" if new in WORKS else None


@pytest.mark.parametrize("old", [*(o.value for o in CheckOutcome), None])
@pytest.mark.parametrize("new", [*(o.value for o in CheckOutcome), None])
def test_every_pair_of_outcomes_is_in_one_list_or_in_none(
    old: str | None, new: str | None, made: Made
) -> None:
    events = [[event("restore[gpt]", outcome)] if outcome else [] for outcome in (old, new)]
    found = comparison.difference(made(*events[0]), made(*events[1]))
    lists = {name: getattr(found, name) for name in LISTS}
    where = [name for name, changes in lists.items() if changes]
    assert where == ([expected(old, new)] if expected(old, new) else [])
    for changes in lists.values():
        for change in changes:
            assert (change.old, change.new) == (old, new)


def test_a_check_that_fails_from_another_cause_says_so(made: Made) -> None:
    other = event("restore[gpt]", "broken")
    other["failure"] = {**other["failure"], "type": "RuntimeError", "message": "a\nb"}
    same = comparison.difference(
        made(event("restore[gpt]", "broken")), made(event("restore[gpt]", "broken"))
    )
    changed = comparison.difference(made(event("restore[gpt]", "broken")), made(other))
    assert not same.still[0].otherwise
    assert changed.still[0].otherwise
    assert changed.still[0].why == "RuntimeError: a"


def test_a_cell_that_came_to_no_check_broke_nothing(made: Made) -> None:
    found = comparison.difference(made(event("restore[gpt]")), made())
    assert found.broke == ()
    assert [c.check for c in found.newly_untested] == ["restore[gpt]"]


def test_two_suites_are_said(made: Made) -> None:
    old, new = made(event("a")), made(event("a"))
    assert comparison.difference(old, new).same_suite
    assert not comparison.difference(old, replace(new, suite="other")).same_suite


def test_device_classes_are_not_compared(made: Made) -> None:
    with pytest.raises(ValueError, match="host and gpu"):
        comparison.difference(made(), replace(made(), device_class="gpu"))


def of(made: Made, mcore: str, modelopt: str, outcome: str = "works", **pins: str) -> Result:
    cell = replace(stand_in_cell(mcore, modelopt), **pins)  # type: ignore[arg-type]
    return made(event("restore[gpt]", outcome), event("build[gpt]"), cell=cell)


def test_a_release_is_compared_with_the_newest_older_one_of_the_same_other_series(
    made: Made,
) -> None:
    found = [
        of(made, "0.14.0", "0.41.0"),
        of(made, "0.15.2", "0.41.0"),
        of(made, "0.15.3", "0.39.0"),
        of(made, "0.17.0", "0.41.0"),
    ]
    new = of(made, "0.16.1", "0.41.2")
    chosen = comparison.baseline(new, "megatron-core", [*found, new])
    assert chosen is not None
    assert chosen.pins["megatron-core"] == "0.15.2"


def test_a_known_good_cell_comes_before_a_newer_one_that_is_not(made: Made) -> None:
    found = [of(made, "0.14.0", "0.41.0"), of(made, "0.15.0", "0.41.0", "broken")]
    new = of(made, "0.16.1", "0.41.0")
    good = comparison.baseline(new, "megatron-core", found)
    last = comparison.baseline(new, "megatron-core", found, good=False)
    assert (good, last) == (found[0], found[1])


def test_an_older_patch_of_the_same_cell_is_older(made: Made) -> None:
    old, new = of(made, "0.16.0", "0.41.0"), of(made, "0.16.1", "0.41.0")
    assert comparison.baseline(new, "megatron-core", [old, new]) == old
    assert comparison.baseline(new, "nvidia-modelopt", [old, new]) is None


def test_of_several_cells_the_one_with_the_nearest_other_axes_is_taken(made: Made) -> None:
    found = [of(made, "0.15.0", "0.41.0", te=te) for te in ("2.4.0", "2.10.0", "2.20.0")]
    new = of(made, "0.16.1", "0.41.0", te="2.11.0")
    chosen = comparison.baseline(new, "megatron-core", found)
    assert chosen is not None
    assert chosen.pins["transformer-engine"] == "2.10.0"
    assert comparison.other_pins(chosen, new, "megatron-core") == {
        "transformer-engine": ("2.10.0", "2.11.0")
    }


def test_what_did_not_come_to_its_checks_or_is_of_another_device_is_no_baseline(
    made: Made,
) -> None:
    new = of(made, "0.16.1", "0.41.0")
    old = of(made, "0.15.0", "0.41.0")
    weak = [replace(old, complete=False), replace(old, checks=()), replace(old, device_class="gpu")]
    assert comparison.baseline(new, "megatron-core", weak) is None


def test_a_comparison_in_words_names_what_broke_and_what_else_differs(made: Made) -> None:
    old = of(made, "0.15.0", "0.41.0")
    new = replace(of(made, "0.16.1", "0.41.0", "broken", torch="2.10.0"), suite="other")
    text = "\n".join(comparison.lines(old, new, "megatron-core"))
    assert "broke 1, fixed 0" in text
    assert "- broke: `restore[gpt]`: KeyError: 'decoder.weight'" in text
    assert "other pins differ too: torch 2.9.1 -> 2.10.0" in text
    assert "two versions of the suite" in text
