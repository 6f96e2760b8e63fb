"""The selected cells of the matrix on this machine, and what a run of many cells came to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from mcore_compat.base.errors import InfrastructureError
from mcore_compat.core.outcomes import CellOutcome
from mcore_compat.results import evidence
from mcore_compat.run import cells, pipeline
from mcore_compat.run.context import Context
from mcore_compat.schedule import nox_engine, plan
from mcore_compat.schedule.nox_engine import Selection
from mcore_compat.schedule.plan import Known

CELL_OUTCOMES = frozenset(outcome.value for outcome in CellOutcome)


def run(selection: Selection, context: Context, *, jobs: int, force: bool = False) -> int:
    """Run every selected cell that is not fresh; 0 where all are as expected."""
    ended = nox_engine.run(selection, context, jobs=jobs, force=force)
    return summary(ended, context, pipeline.device_class(), {})


def describe(selection: Selection, context: Context, *, jobs: int, force: bool = False) -> None:
    """Print which cells would run, and at what cost."""
    selected = plan.make(nox_engine.selected(selection, context), force=force)
    print("\n".join(nox_engine.describe(selected, jobs)))


def summary(
    ended: Sequence[Known], context: Context, device: str, failed: Mapping[str, str]
) -> int:
    """Print what a run of many cells came to; `failed`: why some came to no verdict. The exit
    code: 0 where all are as expected."""
    left = {known.cell.name: known.state for known in ended if not known.fresh}
    left.update(failed)
    outcomes = Counter(o for known in ended for o in known.outcomes if o in CELL_OUTCOMES)
    print(f"{len(ended)} cells: " + ", ".join(f"{o} {n}" for o, n in sorted(outcomes.items())))
    for name, why in sorted(left.items()):
        print(f"{name}: not done: {why}")
    if left:
        return InfrastructureError.exit_code
    paths = [evidence.path_of(known.cell.name, device) for known in ended]
    results = [evidence.load(path, whole=False) for path in paths]
    expected = all(cells.as_expected(result, context.matrix) for result in results)
    return cells.outlived(results, context.matrix) or (0 if expected else 1)
