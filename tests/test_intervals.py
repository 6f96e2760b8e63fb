"""Intervals say what was tested, and nothing of what lies between. All results are made up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import event, stand_in_cell

from mcore_compat.analysis import intervals
from mcore_compat.analysis.intervals import Interval
from mcore_compat.core.outcomes import CheckOutcome
from mcore_compat.results.result import Result

Made = Callable[..., Result]
RELEASES = tuple(f"0.{n}.0" for n in range(9, 20))


ASKED = ("megatron-core", "restore", "gpt")


def over(made: Made, **outcomes: str) -> tuple[Interval, ...]:
    """The intervals of restore[gpt], where `v9="works"` is its outcome at 0.9.0."""
    found = [
        made(
            event("restore[gpt]", outcome),
            cell=replace(stand_in_cell(), name=name, mcore=f"0.{name[1:].partition('_')[0]}.0"),
        )
        for name, outcome in outcomes.items()
    ]
    every = intervals.every(found, "megatron-core", RELEASES)
    assert {(row.axis, row.kind, row.family) for row in every} <= {ASKED}
    return every


def test_a_run_has_a_first_and_a_last_release(made: Made) -> None:
    (one,) = over(made, v9="broken", v10="works", v11="works", v12="broken")
    assert (one.version_added, one.version_last) == ("0.10.0", "0.11.0")
    assert one.version_removed == "0.12.0"
    assert one.not_tested == ()


def test_what_was_not_tested_is_named_on_both_sides(made: Made) -> None:
    (one,) = over(made, v9="broken", v12="works", v14="works", v16="broken")
    assert one.version_added == "0.12.0"
    assert one.not_tested == ("0.10.0", "0.11.0", "0.13.0", "0.15.0")


def test_nothing_is_said_of_what_comes_before_or_after(made: Made) -> None:
    (one,) = over(made, v12="works")
    assert one.version_added == "≤0.12.0"
    assert (one.version_last, one.version_removed) == ("0.12.0", None)
    assert one.not_tested == ()


def test_the_very_first_release_needs_no_sign(made: Made) -> None:
    (one,) = over(made, v9="works")
    assert one.version_added == "0.9.0"


def test_it_can_break_and_come_back(made: Made) -> None:
    found = over(made, v9="works", v10="broken", v11="works")
    assert [(i.version_added, i.version_removed) for i in found] == [
        ("0.9.0", "0.10.0"),
        ("0.11.0", None),
    ]


@pytest.mark.parametrize("outcome", ["needs-gpu", "unsupported", "blocked"])
def test_what_could_not_say_is_named_and_is_not_called_untested(made: Made, outcome: str) -> None:
    assert over(made, v9=outcome) == ()
    (one,) = over(made, v9="works", v10=outcome, v11="works")
    assert (one.not_tested, one.notes) == ((), (f"{outcome} at 0.10.0",))


def test_older_releases_that_could_not_say_were_tested(made: Made) -> None:
    (one,) = over(made, v9="unsupported", v11="unsupported", v13="works")
    assert one.version_added == "0.13.0"
    assert one.notes == ("unsupported at 0.9.0, 0.11.0",)
    assert one.not_tested == ("0.12.0",)


def test_what_could_not_say_is_told_of_the_run_that_it_lies_beside(made: Made) -> None:
    first, second = over(made, v9="works", v10="broken", v11="blocked", v12="works")
    assert first.notes == ()
    assert (second.version_added, second.notes) == ("0.12.0", ("blocked at 0.11.0",))


def test_a_release_that_could_say_in_one_cell_is_not_named(made: Made) -> None:
    (one,) = over(made, v9_a="unsupported", v9_b="works")
    assert one.notes == ()


def test_a_release_that_works_in_some_cells_only_is_partial(made: Made) -> None:
    (one,) = over(made, v9_a="works", v9_b="broken", v10="works")
    assert one.partial == ("0.9.0",)


@given(st.dictionaries(st.integers(9, 19), st.booleans()))
def test_no_release_is_both_in_a_run_and_not_tested(answers: dict[int, bool]) -> None:
    words = {True: CheckOutcome.WORKS, False: CheckOutcome.BROKEN}
    outcomes = {f"0.{n}.0": {words[works]} for n, works in answers.items()}
    rows = list(intervals.of_check(outcomes, *ASKED, RELEASES))
    for row in rows:
        assert not set(outcomes) & set(row.not_tested)
        first = row.version_added.removeprefix("≤")
        assert CheckOutcome.WORKS in outcomes[first]
        assert CheckOutcome.WORKS in outcomes[row.version_last]
    assert bool(rows) == any(answers.values())
