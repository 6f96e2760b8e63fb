"""Rules over versions: as small as the evidence allows, and never wider than it.

All cells here are made up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version
from support import event, stand_in_cell

from mcore_compat import explain
from mcore_compat.cells import AXES, Cell
from mcore_compat.evidence import Evidence
from mcore_compat.explain import Seen

Made = Callable[..., Evidence]


def seen(broken: bool, name: str = "", **pins: str) -> Seen:
    base = dict.fromkeys(AXES, "1")
    base.update({axis.replace("_", "-"): version for axis, version in pins.items()})
    return Seen(cell=name or str(sorted(pins.items())), pins=base, broken=broken)


def test_one_axis_that_decides_is_found_with_its_boundary() -> None:
    cells = [seen(v in "34", torch=v, nvidia_modelopt=m) for v in "12345" for m in "12"]
    (rule,) = explain.rules_for(cells)
    assert rule.text() == "torch>=3,<=4"
    assert rule.bounds[0].edges() == "works at 2, works at 5"
    assert len(rule.support) == 4
    assert rule.contradicted == ()


def test_two_axes_that_decide_together_are_found() -> None:
    cells = [
        seen(t >= 2 and m <= 2, torch=str(t), megatron_core=str(m))
        for t in (1, 2, 3)
        for m in (1, 2, 3)
    ]
    (rule,) = explain.rules_for(cells)
    assert rule.text() == "megatron-core>=1,<=2 and torch>=2,<=3"
    assert rule.axes == ("megatron-core", "torch")


def test_a_rule_is_not_stated_beyond_what_was_tested() -> None:
    (rule,) = explain.rules_for([seen(False, torch="1"), seen(True, torch="2")])
    assert rule.text() == "torch==2"
    assert rule.bounds[0].edges() == "works at 1, not tested above"


def test_axes_that_vary_together_cannot_be_told_apart() -> None:
    cells = [seen(v == "2", torch=v, transformer_engine=v) for v in "12"]
    assert {r.text() for r in explain.rules_for(cells)} == {"torch==2", "transformer-engine==2"}


@pytest.mark.parametrize("broken", [True, False])
def test_without_both_kinds_of_cells_no_rule_is_stated(broken: bool) -> None:
    assert explain.rules_for([seen(broken, torch=v) for v in "123"]) == ()


def test_what_no_box_separates_names_its_contradictions() -> None:
    cells = [seen(True, name="a"), seen(False, name="b")]
    (rule,) = explain.rules_for(cells)
    assert rule.contradicted == ("b",)


VERSIONS = st.integers(1, 6)


@given(
    st.sets(st.tuples(VERSIONS, VERSIONS), min_size=2, max_size=25),
    VERSIONS,
    VERSIONS,
    st.sampled_from(["one", "both"]),
)
def test_every_rule_holds_all_that_fails_and_is_as_small_as_said(
    pairs: set[tuple[int, int]], t: int, m: int, how: str
) -> None:
    cells = [
        seen(a >= t and (how == "one" or b >= m), torch=str(a), megatron_core=str(b))
        for a, b in sorted(pairs)
    ]
    rules = explain.rules_for(cells)
    broken = [c for c in cells if c.broken]
    assert bool(rules) == (0 < len(broken) < len(cells))
    for rule in rules:
        assert all(rule.holds(c.pins) for c in broken)
        assert rule.contradicted == ()  # the planted rule is a box
        assert len(rule.bounds) <= (1 if how == "one" else 2)
        for bound in rule.bounds:
            tested = {c.pins[bound.axis] for c in broken}
            assert {bound.low, bound.high} <= tested
            for edge in (bound.below, bound.above):
                assert edge is None or edge in {c.pins[bound.axis] for c in cells if not c.broken}


def cell(name: str, **pins: str) -> Cell:
    return replace(stand_in_cell(), name=name, **pins)


def test_the_next_cell_lies_between_what_works_and_what_fails() -> None:
    rules = explain.rules_for([seen(False, torch="2.4.0"), seen(True, torch="2.8.0")])
    cells = [cell(f"t{v}", torch=v) for v in ("2.3.0", "2.5.0", "2.6.0", "2.7.0", "2.9.0")]
    assert explain.next_cell(rules, cells, []) == "t2.6.0"
    assert explain.next_cell(rules, cells, ["t2.6.0"]) == "t2.7.0"
    assert explain.next_cell(rules, cells[:1], []) is None


def test_the_next_cell_tells_confounded_axes_apart() -> None:
    rules = explain.rules_for([seen(v == "2", torch=v, transformer_engine=v) for v in "12"])
    cells = [cell("same", torch="2", te="2"), cell("other", torch="2", te="1")]
    assert explain.next_cell(rules, cells, []) == "other"


def test_cells_are_read_from_evidence(made: Made) -> None:
    def of(name: str, torch: str, outcome: str) -> Evidence:
        return made(event("restore[gpt]", outcome), cell=cell(name, torch=torch))

    found = [
        of("works", "2.8.0", "works"),
        of("fails", "2.9.1", "broken"),
        of("asked elsewhere", "2.7.0", "needs-gpu"),
    ]
    (one,) = explain.explain(found, [])
    assert [(s.cell, s.broken) for s in one.seen] == [("fails", True), ("works", False)]
    assert one.attributed() == ("torch",)
    assert explain.lines(one) == [
        "torch==2.9.1 (1 cells fail, 1 work; torch: works at 2.8.0, not tested above)"
    ]


def test_versions_are_compared_as_numbers() -> None:
    cells = [seen(Version(v) >= Version("2.10"), torch=v) for v in ("2.9", "2.10", "2.11")]
    (rule,) = explain.rules_for(cells)
    assert rule.text() == "torch>=2.10,<=2.11"
