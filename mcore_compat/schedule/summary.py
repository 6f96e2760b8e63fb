"""What a run of many cells came to."""

from __future__ import annotations

from collections import Counter

from mcore_compat.base.errors import InfrastructureError
from mcore_compat.core.outcomes import CellOutcome
from mcore_compat.results import evidence
from mcore_compat.run import cells
from mcore_compat.run.context import Context
from mcore_compat.schedule.matrix_run import MatrixResult

CELL_OUTCOMES = frozenset(outcome.value for outcome in CellOutcome)


def report(result: MatrixResult, context: Context, device: str) -> int:
    """Print it; the exit code: 0 where all are as expected."""
    left = {state.cell.name: state.state for state in result.states if not state.fresh}
    left.update(result.failed)
    outcomes = Counter(o for s in result.states for o in s.outcomes if o in CELL_OUTCOMES)
    print(
        f"{len(result.states)} cells: " + ", ".join(f"{o} {n}" for o, n in sorted(outcomes.items()))
    )
    for name, why in sorted(left.items()):
        print(f"{name}: not done: {why}")
    if left:
        return InfrastructureError.exit_code
    folder = context.workspace.results
    paths = [evidence.path_of(state.cell.name, device, folder) for state in result.states]
    results = [evidence.load(path, whole=False) for path in paths]
    expected = all(cells.as_expected(one, context.matrix) for one in results)
    return cells.outlived(results, context.matrix) or (0 if expected else 1)
