"""A cell's outcome follows from its checks', by the published definitions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcore_compat.core.outcomes import FAILURES, HOLDS, CellOutcome, CheckOutcome, cell_outcome

W, B, N = CheckOutcome.WORKS, CheckOutcome.BROKEN, CheckOutcome.NEEDS_GPU
pairs = st.lists(
    st.tuples(st.sampled_from(["restore", "build", "import"]), st.sampled_from(list(CheckOutcome)))
)


@pytest.mark.parametrize(
    ("checks", "expected"),
    [
        ([], CellOutcome.UNTESTED),
        ([("restore", N)], CellOutcome.UNTESTED),
        ([("restore", W), ("build", W)], CellOutcome.COMPATIBLE),
        ([("restore", W), ("inference", N)], CellOutcome.COMPATIBLE),
        ([("restore", W), ("restore", B)], CellOutcome.PARTIAL),
        ([("restore", W), ("restore", CheckOutcome.BLOCKED)], CellOutcome.PARTIAL),
        ([("restore", B), ("build", W)], CellOutcome.INCOMPATIBLE),
        ([("restore", CheckOutcome.BLOCKED), ("build", B)], CellOutcome.INCOMPATIBLE),
        ([("restore", CheckOutcome.CRASHED)], CellOutcome.INCOMPATIBLE),
        ([("restore", N), ("build", W)], CellOutcome.UNTESTED),
    ],
)
def test_the_definitions(checks: list[tuple[str, CheckOutcome]], expected: CellOutcome) -> None:
    assert cell_outcome(checks) is expected


@given(pairs)
def test_compatible_means_no_failure_and_a_restore_that_holds(
    checks: list[tuple[str, CheckOutcome]],
) -> None:
    if cell_outcome(checks) is CellOutcome.COMPATIBLE:
        assert {("restore", outcome) for outcome in HOLDS} & {*checks}
        assert not any(o in FAILURES or o is CheckOutcome.BLOCKED for _, o in checks)


@given(pairs)
def test_needs_gpu_never_counts_as_works(checks: list[tuple[str, CheckOutcome]]) -> None:
    without = [c for c in checks if c[1] is not N]
    if cell_outcome(checks) is CellOutcome.COMPATIBLE:
        assert cell_outcome(without) is CellOutcome.COMPATIBLE


@given(pairs)
def test_order_does_not_matter(checks: list[tuple[str, CheckOutcome]]) -> None:
    assert cell_outcome(checks) is cell_outcome(reversed(checks))
