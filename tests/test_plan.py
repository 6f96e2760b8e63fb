"""Which cells are run, in which order, at what cost; and how a run says how far it is."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import stand_in_cell

from mcore_compat.base.errors import UsageError
from mcore_compat.schedule import plan
from mcore_compat.schedule.jobs.drive import progress
from mcore_compat.schedule.plan import CellStatus


def known(name: str = "a", state: str = "fresh", **fields: object) -> CellStatus:
    cell = replace(stand_in_cell(), name=name)
    return CellStatus(cell=cell, state=state, **fields)  # type: ignore[arg-type]


def test_what_is_fresh_is_not_run_unless_forced() -> None:
    cells = [known("a"), known("b", "untested"), known("c", "the suite changed")]
    made = plan.make(cells)
    assert [k.cell.name for k in made.todo] == ["b", "c"]
    assert [k.cell.name for k in made.fresh] == ["a"]
    assert len(plan.make(cells, force=True).todo) == 3


def test_cells_that_need_no_build_come_first_and_each_wheel_is_built_once() -> None:
    wheel = "transformer-engine-torch-2.9.0-torch2.9.1"
    cells = [
        known("a", "untested", missing=(wheel,)),
        known("b", "untested", missing=(wheel, "mamba-ssm-2.3.0")),
        known("c", "untested"),
    ]
    made = plan.make(cells)
    assert [k.cell.name for k in made.todo] == ["c", "a", "b"]
    assert made.builds == ("mamba-ssm-2.3.0", wheel)


def test_the_cost_counts_builds_and_cells() -> None:
    todo = [known("a", "untested", seconds=60.0, missing=("causal-conv1d-1",)), known("b", "x")]
    made = plan.make([*todo, known("c", seconds=120.0)])
    # b has no time of its own: the median of those known, 90 s.
    assert made.minutes(1, {"causal-conv1d": 30.0}) == pytest.approx((30 + 60 + 90) / 60)
    assert made.minutes(2, {"causal-conv1d": 30.0}) == pytest.approx((30 + 75) / 60)


@pytest.mark.parametrize(
    ("only", "stale", "names"),
    [
        ((), False, "abcd"),
        (("broken",), False, "ac"),
        (("compatible", "broken"), False, "abc"),
        (("untested",), False, "d"),
        ((), True, "c"),
        (("broken",), True, "c"),
    ],
)
def test_cells_are_selected_by_outcome_and_staleness(
    only: tuple[str, ...], stale: bool, names: str
) -> None:
    cells = [
        known("a", outcomes=frozenset({"partial", "works", "broken"})),
        known("b", outcomes=frozenset({"compatible", "works"})),
        known("c", "the lock changed", outcomes=frozenset({"incompatible", "broken"})),
        known("d", "untested"),
    ]
    assert "".join(k.cell.name for k in plan.narrowed(cells, only=only, stale=stale)) == names


def test_an_outcome_that_does_not_exist_is_named_with_the_nearest() -> None:
    with pytest.raises(UsageError, match='"brokn"; did you mean "broken"'):
        plan.narrowed([known()], only=["brokn"])


def test_that_no_cell_has_an_outcome_is_no_error() -> None:
    assert plan.narrowed([known()], only=["crashed"]) == ()


def test_that_nothing_is_stale_is_no_error() -> None:
    assert plan.narrowed([known()], stale=True) == ()


@given(st.integers(0, 50), st.integers(0, 4), st.integers(1, 50), st.floats(0, 1e5))
def test_progress_adds_up(done: int, running: int, rest: int, seconds: float) -> None:
    total = done + running + rest
    line = progress(done=done, total=total, running=running, seconds=seconds, outcomes={})
    assert line.startswith(f"{done} of {total} done, {running} running, {rest} left")
    assert ("min to go" in line) == (done > 0)


def test_progress_tells_outcomes() -> None:
    line = progress(done=2, total=4, running=1, seconds=120, outcomes={"partial": 2})
    assert line == "2 of 4 done, 1 running, 1 left, about 2 min to go; partial 2"
