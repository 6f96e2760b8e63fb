"""Bisection over synthetic lines of releases: never wrong, never more than its price."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcore_compat.analysis.bisect.halving import ChangePoint, CheckState, bisect, lines

G, B, S = CheckState.GOOD, CheckState.BAD, CheckState.SILENT


def over(states: list[CheckState], known: dict[int, CheckState] | None = None) -> ChangePoint:
    """Bisect a line whose states are these; each point is asked once at most."""
    asked: set[int] = set()

    def ask(point: int) -> CheckState:
        assert point not in asked
        assert point not in (known or {})
        asked.add(point)
        return states[point]

    return bisect(len(states), ask, known)


@pytest.mark.parametrize(
    ("states", "last", "first", "silent"),
    [
        ([G, B], 0, 1, ()),
        ([G, G, B], 1, 2, ()),
        ([G, B, B, B, B, B], 0, 1, ()),
        ([G, G, G, G, G, B], 4, 5, ()),
        ([G, S, B], 0, 2, (1,)),
        ([G, G, S, S, B, B], 1, 4, (2, 3)),
        ([G, S, G, B, S, B], 2, 3, ()),
    ],
)
def test_the_change_is_found(
    states: list[CheckState], last: int, first: int, silent: tuple[int, ...]
) -> None:
    answer = over(states)
    assert (answer.last, answer.first, answer.silent) == (last, first, silent)
    assert answer.exact is not bool(silent)


@st.composite
def monotone(draw: st.DrawFn) -> list[CheckState]:
    """Good up to some point, bad from there; any but the ends may be silent."""
    count = draw(st.integers(2, 60))
    change = draw(st.integers(1, count - 1))
    silent = draw(st.sets(st.integers(1, count - 2))) if count > 2 else set()
    return [S if p in silent else (G if p < change else B) for p in range(count)]


def price(states: list[CheckState], asked: tuple[int, ...]) -> int:
    return math.ceil(math.log2(len(states))) + sum(states[p] is S for p in asked)


@given(monotone())
def test_of_what_changes_once_the_answer_is_never_wrong_and_the_price_holds(
    states: list[CheckState],
) -> None:
    answer = over(states)
    assert states[answer.last] is G
    assert states[answer.first] is B
    assert all(states[p] is S for p in range(answer.last + 1, answer.first))
    assert answer.silent == tuple(range(answer.last + 1, answer.first))
    assert answer.against == ()
    assert len(answer.asked) <= price(states, answer.asked)


@given(monotone(), st.data())
def test_what_is_known_is_not_asked_and_only_helps(
    states: list[CheckState], data: st.DataObject
) -> None:
    known = data.draw(st.sets(st.integers(0, len(states) - 1)))
    answer = over(states, {point: states[point] for point in known})
    assert all(states[p] is S for p in range(answer.last + 1, answer.first))
    assert len(answer.asked) <= price(states, answer.asked)


@given(st.lists(st.sampled_from([G, B, S]), max_size=40), st.data())
def test_of_what_changes_often_one_change_is_told_and_what_speaks_against_it(
    middle: list[CheckState], data: st.DataObject
) -> None:
    states = [G, *middle, B]
    points = data.draw(st.sets(st.integers(0, len(states) - 1)))
    known = {p: states[p] for p in points}
    answer = over(states, known)
    assert states[answer.last] is G
    assert states[answer.first] is B
    assert all(states[p] is S for p in answer.silent)
    seen = {**known, **{p: states[p] for p in answer.asked}}
    for point, state in seen.items():
        otherwise = (point < answer.last and state is B) or (point > answer.first and state is G)
        assert (point in answer.against) is otherwise


def test_the_words_say_whether_it_is_exact() -> None:
    names = ["0.9", "0.10", "0.11", "0.12"]
    exact = lines(over([G, G, B, B]), names, "restore[gpt]")
    assert exact[0] == "restore[gpt] changes at 0.11: works at 0.10, broken at 0.11"
    told = lines(over([G, S, S, B]), names, "restore[gpt]", axis="megatron-core")
    assert told == [
        "restore[gpt] changes after 0.9 and at megatron-core 0.12 at the latest: works at 0.9, "
        "broken at 0.12",
        "no answer at: 0.10, 0.11",
        "the change may be at any of them, or at 0.12",
    ]
    twice = lines(over([G, B, G, B], {1: B, 2: G}), names, "x")
    assert "there is more than one change: 0.11 contradict a single one" in twice


def test_the_words_say_what_was_fixed_and_what_was_not_run() -> None:
    names = ["0.9", "0.10", "0.11", "0.12"]
    told = lines(over([G, S, S, B]), names, "x", fixed=True, unrun={2})
    assert told[0].endswith("broken at 0.9, works at 0.12")
    assert told[1:] == [
        "no answer at: 0.10",
        "not run: 0.11",
        "the change may be at any of them, or at 0.12",
    ]
