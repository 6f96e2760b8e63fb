"""Delta debugging over synthetic truth tables: never a wrong minimal set, nothing asked in vain."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcore_compat.analysis.bisect.halving import CheckState
from mcore_compat.upgrade.blame import Blame, Moved, find

G, B, S = CheckState.GOOD, CheckState.BAD, CheckState.SILENT
AXES = ("megatron-core", "nvidia-modelopt", "transformer-engine", "torch", "python")
Truth = Mapping[Moved, CheckState]


def subsets(moved: Moved) -> Iterator[Moved]:
    for size in range(len(moved) + 1):
        yield from map(frozenset, itertools.combinations(sorted(moved), size))


def proper(moved: Moved) -> list[Moved]:
    return [one for one in subsets(moved) if one and one != moved]


def minimal(truth: Truth) -> set[Moved]:
    """By looking at everything."""
    bad = {one for one, state in truth.items() if state is B}
    return {one for one in bad if not any(smaller in bad for smaller in proper(one))}


def over(truth: Truth, known: Truth | None = None, hints: tuple[Moved, ...] = ()) -> Blame:
    """Search; each combination is asked once at most, and never what is known."""
    return asking(truth, known, hints)[0]


def asking(
    truth: Truth, known: Truth | None = None, hints: tuple[Moved, ...] = ()
) -> tuple[Blame, list[Moved]]:
    """The result of a search, and what it asked, in order."""
    asked: list[Moved] = []
    axes = tuple(axis for axis in AXES if axis in frozenset().union(*truth))

    def ask(moved: Moved) -> CheckState:
        assert moved not in asked
        assert moved not in (known or {})
        assert moved, "nothing moved is known to work"
        assert moved != frozenset(axes), "all moved is known to fail"
        asked.append(moved)
        return truth[moved]

    return find(axes, ask, known, hints), asked


@st.composite
def tables(draw: st.DrawFn, *, states: tuple[CheckState, ...] = (G, B, S)) -> Truth:
    """Any table at all in which nothing moved works and all moved fails."""
    axes = frozenset(AXES[: draw(st.integers(1, 5))])
    return {
        one: G if not one else B if one == axes else draw(st.sampled_from(states))
        for one in subsets(axes)
    }


@st.composite
def monotone(draw: st.DrawFn) -> Truth:
    """What fails still fails where more is moved."""
    axes = frozenset(AXES[: draw(st.integers(1, 5))])
    whole = st.sets(st.sampled_from(sorted(axes)), min_size=1).map(frozenset)
    causes = draw(st.lists(whole, max_size=4)) or [axes]
    return {one: B if one == axes or any(c <= one for c in causes) else G for one in subsets(axes)}


def some_of(draw: st.DrawFn, truth: Truth) -> Truth:
    return {one: truth[one] for one in draw(st.sets(st.sampled_from(sorted(truth, key=sorted))))}


@given(monotone(), st.data())
def test_where_changes_only_break_every_minimal_set_is_found(
    truth: Truth, data: st.DataObject
) -> None:
    found = over(truth, some_of(data.draw, truth))
    assert {frozenset(c.axes) for c in found.culprits} == minimal(truth)
    assert all(c.proved for c in found.culprits)
    assert found.whole


@given(tables(), st.data())
def test_no_set_is_called_minimal_that_is_not(truth: Truth, data: st.DataObject) -> None:
    hints = tuple(data.draw(st.lists(st.sampled_from(sorted(truth, key=sorted)), max_size=2)))
    known = some_of(data.draw, truth)
    found, asked = asking(truth, known, hints)
    assert found.culprits
    for culprit in found.culprits:
        axes = frozenset(culprit.axes)
        assert axes in minimal(truth)
        silent = [one for one in proper(axes) if truth[one] is S]
        assert {frozenset(one) for one in culprit.silent} == set(silent)
        assert culprit.proved is not bool(silent)
        assert not culprit.unknown
    # Whatever was seen to fail is explained.
    seen = {*asked, *known}
    sets = [frozenset(c.axes) for c in found.culprits]
    assert all(any(c <= one for c in sets) for one in seen if truth[one] is B)


def test_what_is_learnt_to_fail_late_is_explained_too() -> None:
    """torch alone fails, but all without python works: seen only when python is taken apart."""
    every = frozenset(AXES[2:])
    bad = [every, frozenset({"torch"}), frozenset({"python", "transformer-engine"})]
    found = over({one: B if one in bad else G for one in subsets(every)})
    assert {frozenset(c.axes) for c in found.culprits} == set(bad[1:])


@given(tables(states=(G, B)))
def test_one_set_at_least_is_proved_where_all_can_be_asked(truth: Truth) -> None:
    assert all(c.proved for c in over(truth).culprits)


@given(tables())
def test_where_all_is_known_nothing_is_asked_and_nothing_missed(truth: Truth) -> None:
    found, asked = asking(truth, truth)
    assert asked == []
    assert {frozenset(c.axes) for c in found.culprits} == minimal(truth)


@given(tables(), st.data())
def test_what_is_not_asked_is_told_as_such(truth: Truth, data: st.DataObject) -> None:
    known = some_of(data.draw, truth)
    axes = max(truth, key=len)
    wanted: list[Moved] = []
    found = find(tuple(sorted(axes)), wanted.append, known)
    for culprit in found.culprits:
        smaller = proper(frozenset(culprit.axes))
        assert truth[frozenset(culprit.axes)] is B
        assert {frozenset(one) for one in culprit.unknown} == {o for o in smaller if o not in known}
        assert not any(known.get(one) is B for one in smaller)
    assert not set(wanted) & set(known)
    if not found.whole:
        assert wanted


@given(tables(), st.data())
def test_hints_change_the_price_alone(truth: Truth, data: st.DataObject) -> None:
    hint = data.draw(st.sampled_from(sorted(truth, key=sorted)))
    for culprit in over(truth, hints=(hint,)).culprits:
        assert frozenset(culprit.axes) in minimal(truth)


def table(axes: tuple[str, ...], *bad: str, silent: tuple[str, ...] = ()) -> Truth:
    """`bad` and `silent` as words of axes, "a b"; what holds a bad one is bad."""
    every = frozenset(axes)
    causes = [frozenset(word.split()) for word in bad]
    mute = [frozenset(word.split()) for word in silent]
    return {
        one: S if one in mute else B if one == every or any(c <= one for c in causes) else G
        for one in subsets(every)
    }


def test_one_axis_needs_no_question() -> None:
    found, asked = asking(table(("torch",)))
    assert asked == []
    assert [c.axes for c in found.culprits] == [("torch",)]
    assert found.culprits[0].proved


def test_a_right_hint_is_the_first_question() -> None:
    found, asked = asking(table(AXES, "torch"), hints=(frozenset({"torch"}),))
    assert asked[0] == {"torch"}
    assert [c.axes for c in found.culprits] == [("torch",)]
    assert len(asked) == 2  # and all but torch, which works: there is no other


def test_what_breaks_only_together_is_one_set() -> None:
    found = over(table(AXES, "megatron-core torch"))
    assert [c.axes for c in found.culprits] == [("megatron-core", "torch")]
    assert {("megatron-core",), ("torch",)} <= set(found.innocent)


def test_two_causes_are_two_sets() -> None:
    found = over(table(AXES, "python", "nvidia-modelopt transformer-engine"))
    assert [c.axes for c in found.culprits] == [
        ("python",),
        ("nvidia-modelopt", "transformer-engine"),
    ]


def test_what_cannot_be_installed_is_not_called_innocent() -> None:
    axes = ("transformer-engine", "torch")
    (culprit,) = over(table(axes, silent=("torch",))).culprits
    assert culprit.axes == axes
    assert culprit.silent == (("torch",),)
    assert not culprit.proved


@pytest.mark.parametrize("axes", [AXES[:n] for n in range(1, 6)])
def test_the_price_is_never_more_than_everything(axes: tuple[str, ...]) -> None:
    assert len(asking(table(axes))[1]) == 2 ** len(axes) - 2
