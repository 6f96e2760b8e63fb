"""Rules over versions: as small as the results allow, and never wider than it.

All cells here are made up.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from mcore_compat.analysis.rules import (
    MOST_AXES,
    NO_CHECKS,
    Beside,
    CellGrid,
    CellsByState,
    CellSighting,
    FailureState,
    Rule,
    bits,
    boxes,
    places,
    wider,
)
from mcore_compat.core.cells import AXES

FAILS, WORKS, OTHERWISE = FailureState.FAILS, FailureState.WORKS, FailureState.OTHERWISE


def seen(said: FailureState | bool, name: str = "", **pins: str) -> CellSighting:
    """A cell; True is one that fails, False one that works."""
    base = dict.fromkeys(AXES, "1")
    base.update({axis.replace("_", "-"): version for axis, version in pins.items()})
    if isinstance(said, bool):
        said = FAILS if said else WORKS
    return CellSighting(cell=name or str(sorted(pins.items())), pins=base, state=said)


def gridded(cells: Sequence[CellSighting]) -> tuple[CellGrid, CellsByState]:
    """The cells by place, and which of them say what."""
    here = {state: [p for p, c in enumerate(cells) if c.state is state] for state in FailureState}
    grid = CellGrid([(cell.cell, cell.pins) for cell in cells])
    return grid, {state: bits(at, len(cells)) for state, at in here.items() if at}


def rules_for(cells: Sequence[CellSighting]) -> tuple[Rule, ...]:
    return boxes(*gridded(cells))


def by_torch(**said: FailureState) -> list[CellSighting]:
    """Cells that differ in torch alone: `v1=WORKS`."""
    return [seen(one, torch=name.removeprefix("v")) for name, one in said.items()]


def test_one_axis_that_decides_is_found_with_its_boundary() -> None:
    cells = [seen(v in "34", torch=v, nvidia_modelopt=m) for v in "12345" for m in "12"]
    (rule,) = rules_for(cells)
    assert rule.text() == "torch>=3,<=4"
    assert rule.bounds[0].edges() == "works at 2, works at 5"
    assert (len(rule.support), rule.works) == (4, 6)
    assert rule.contradicted == rule.others == ()


def test_two_axes_that_decide_together_are_found() -> None:
    cells = [
        seen(t >= 2 and m <= 2, torch=str(t), megatron_core=str(m))
        for t in (1, 2, 3)
        for m in (1, 2, 3)
    ]
    (rule,) = rules_for(cells)
    assert rule.text() == "megatron-core>=1,<=2 and torch>=2,<=3"
    assert rule.axes == ("megatron-core", "torch")


def test_a_rule_is_not_stated_beyond_what_was_tested() -> None:
    (rule,) = rules_for([seen(False, torch="1"), seen(True, torch="2")])
    assert rule.text() == "torch==2"
    assert rule.bounds[0].edges() == "works at 1, not tested above"


def test_axes_that_vary_together_cannot_be_told_apart() -> None:
    cells = [seen(v == "2", torch=v, transformer_engine=v) for v in "12"]
    assert {r.text() for r in rules_for(cells)} == {"torch==2", "transformer-engine==2"}


@pytest.mark.parametrize("said", [FAILS, WORKS, OTHERWISE])
def test_without_cells_that_fail_and_cells_that_work_no_rule_is_stated(said: FailureState) -> None:
    assert rules_for([seen(said, torch=v) for v in "123"]) == ()


def test_what_no_box_separates_names_its_contradictions() -> None:
    cells = [seen(True, name="a"), seen(False, name="b")]
    (rule,) = rules_for(cells)
    assert rule.contradicted == ("b",)


def test_versions_are_compared_as_numbers() -> None:
    cells = [seen(Version(v) >= Version("2.10"), torch=v) for v in ("2.9", "2.10", "2.11")]
    (rule,) = rules_for(cells)
    assert rule.text() == "torch>=2.10,<=2.11"


@pytest.mark.parametrize("said", [OTHERWISE, FailureState.BLOCKED])
def test_a_rule_does_not_hold_what_was_not_seen_to_fail_so_where_that_can_be(
    said: FailureState,
) -> None:
    cells = [
        seen(WORKS, nvidia_modelopt="1", transformer_engine="1"),
        seen(FAILS, nvidia_modelopt="2", transformer_engine="1"),
        seen(said, nvidia_modelopt="2", transformer_engine="2"),
    ]
    (rule,) = rules_for(cells)
    assert rule.text() == "nvidia-modelopt==2 and transformer-engine==1"
    assert [b.edges() for b in rule.bounds] == [
        "works at 1, not tested above",
        f"not tested below, {said} at 2",
    ]


def test_where_it_cannot_be_a_rule_counts_what_fails_otherwise_within_it() -> None:
    (rule,) = rules_for(
        by_torch(v1=WORKS, v2=FAILS, v3=OTHERWISE, v4=FAILS, v5=FailureState.UNSUPPORTED)
    )
    assert rule.text() == "torch>=2,<=4"
    assert rule.others_text() == "1 fails otherwise"


def test_a_wider_rule_that_only_other_failures_speak_against_is_kept_beside() -> None:
    cells = [
        seen(WORKS, megatron_core="2", torch="2"),
        seen(FAILS, megatron_core="1", torch="1"),
        seen(OTHERWISE, megatron_core="1", torch="2"),
    ]
    grid, said = gridded(cells)
    assert [r.text() for r in boxes(grid, said)] == ["torch==1"]
    (broader,) = wider(grid, said)
    assert (broader.text(), broader.others_text()) == ("megatron-core==1", "1 fails otherwise")


@pytest.mark.parametrize(
    ("cells", "edges"),
    [
        (by_torch(v1=OTHERWISE, v2=FAILS, v3=WORKS), "fails otherwise at 1, works at 3"),
        (
            by_torch(v0=WORKS, v1=OTHERWISE, v2=FAILS, v3=FailureState.UNSUPPORTED),
            "fails otherwise at 1 and works at 0, unsupported at 3",
        ),
        (
            by_torch(v1=FailureState.BLOCKED, v2=FAILS, v3=FailureState.UNRESOLVABLE, v4=WORKS),
            "blocked at 1, works at 4",
        ),
        (
            by_torch(v1=FailureState.UNBUILDABLE, v2=FAILS, v3=FailureState.NEEDS_GPU, v4=WORKS),
            "unbuildable at 1, needs-gpu at 3 and works at 4",
        ),
    ],
)
def test_beside_a_bound_stands_what_was_seen_there(cells: list[CellSighting], edges: str) -> None:
    (rule,) = rules_for(cells)
    assert rule.bounds[0].edges() == edges


def test_a_boundary_is_open_only_where_what_works_is_next_to_what_fails() -> None:
    (rule,) = rules_for(by_torch(v0=WORKS, v1=OTHERWISE, v2=FAILS, v3=WORKS))
    assert rule.bounds[0].gaps() == (("2", "3"),)


VERSIONS = st.integers(1, 6)


@given(
    st.sets(st.tuples(VERSIONS, VERSIONS), min_size=2, max_size=25),
    VERSIONS,
    VERSIONS,
    st.sampled_from(["one", "both"]),
)
def test_a_planted_box_is_found(pairs: set[tuple[int, int]], t: int, m: int, how: str) -> None:
    cells = [
        seen(a >= t and (how == "one" or b >= m), torch=str(a), megatron_core=str(b))
        for a, b in sorted(pairs)
    ]
    rules = rules_for(cells)
    broken = [c for c in cells if c.broken]
    assert bool(rules) == (0 < len(broken) < len(cells))
    for rule in rules:
        assert all(rule.holds(c.pins) for c in broken)
        assert rule.contradicted == ()
        assert len(rule.bounds) <= (1 if how == "one" else 2)


CELLS = st.dictionaries(
    st.tuples(*[st.integers(1, 3)] * 3),
    st.sampled_from(list(FailureState)),
    min_size=2,
    max_size=20,
).map(
    lambda found: [
        seen(
            said,
            megatron_core=str(place[0]),
            nvidia_modelopt=str(place[1]),
            torch=str(place[2]),
        )
        for place, said in sorted(found.items())
    ]
)


def held(cells: list[CellSighting], axes: tuple[str, ...]) -> list[CellSighting]:
    """The cells in the box over these axes."""
    spans = {axis: sorted(int(c.pins[axis]) for c in cells if c.broken) for axis in axes}
    return [
        c for c in cells if all(s[0] <= int(c.pins[axis]) <= s[-1] for axis, s in spans.items())
    ]


def worth(cells: list[CellSighting]) -> tuple[int, int]:
    said = [c.state for c in cells]
    neither = (FailureState.WORKS_WITH, OTHERWISE, FailureState.BLOCKED)
    return said.count(WORKS), sum(map(said.count, neither))


@given(CELLS)
def test_every_rule_holds_what_it_says_and_none_is_better(cells: list[CellSighting]) -> None:
    rules = rules_for(cells)
    broken = {c.cell for c in cells if c.broken}
    assert bool(rules) == bool(broken and any(c.state is WORKS for c in cells))
    for rule in rules:
        mine = [c for c in cells if rule.holds(c.pins)]
        assert set(rule.support) == broken <= {c.cell for c in mine}
        assert set(rule.contradicted) == {c.cell for c in mine if c.state is WORKS}
        assert {c.cell for c in rule.others} == {
            c.cell for c in mine if c.state is not WORKS and not c.broken
        }
        for size in range(1, MOST_AXES + 1):
            for axes in itertools.combinations(AXES, size):
                other = (*worth(held(cells, axes)), size)
                assert (*worth(mine), len(rule.bounds)) <= other
    if rules and not rules[0].contradicted:
        assert {r.axes for r in rules} == {
            axes
            for axes in itertools.combinations(AXES, len(rules[0].bounds))
            if worth(held(cells, axes)) == worth(held(cells, rules[0].axes))
        }


@given(CELLS)
def test_the_edges_of_every_rule_are_true(cells: list[CellSighting]) -> None:
    for rule in rules_for(cells):
        for bound in rule.bounds:
            beside = [c for c in cells if all_else_holds(rule, bound.axis, c)]
            lower = [c for c in beside if int(c.pins[bound.axis]) < int(bound.low)]
            upper = [c for c in beside if int(c.pins[bound.axis]) > int(bound.high)]
            assert bound.next_below == nearest(lower, bound.axis, max)
            assert bound.next_above == nearest(upper, bound.axis, min)
            assert bound.below == works(lower, bound.axis, max)
            assert bound.above == works(upper, bound.axis, min)


def all_else_holds(rule: Rule, axis: str, one: CellSighting) -> bool:
    return all(rule.admits(other, one.pins[other]) for other in rule.axes if other != axis)


def nearest(cells: list[CellSighting], axis: str, pick: Callable[..., Any]) -> Beside | None:
    asked = [c for c in cells if c.state not in NO_CHECKS] or cells
    if not asked:
        return None
    version = pick((c.pins[axis] for c in asked), key=int)
    here = [c.state for c in asked if c.pins[axis] == version]
    return Beside(version=version, state=next(said for said in FailureState if said in here))


def works(cells: list[CellSighting], axis: str, pick: Callable[..., Any]) -> str | None:
    return pick((c.pins[axis] for c in cells if c.state is WORKS), key=int, default=None)


@given(st.sets(st.integers(0, 200)))
def test_a_set_of_places_is_read_back(found: set[int]) -> None:
    assert list(places(bits(found, 201))) == sorted(found)
