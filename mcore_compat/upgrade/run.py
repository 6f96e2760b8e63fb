"""Runs what the answer to an upgrade needs, reads what is known by then, answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mcore_compat.base.errors import UsageError, nearest
from mcore_compat.core import combinations
from mcore_compat.core.cells import Cell
from mcore_compat.exchange import evidence as exchanged
from mcore_compat.exchange import run as exchange
from mcore_compat.exchange.evidence import Exchanged
from mcore_compat.publish import collation
from mcore_compat.publish.collation import Collated
from mcore_compat.resolve import locks
from mcore_compat.results import comparison, evidence
from mcore_compat.results.evidence import Evidence
from mcore_compat.run import pipeline
from mcore_compat.run.pipeline import Context, Options
from mcore_compat.upgrade import answer as answers
from mcore_compat.upgrade import losses, sides
from mcore_compat.upgrade.answer import UpgradeAnswer
from mcore_compat.upgrade.checkpoints import named
from mcore_compat.upgrade.sides import ChosenCell, UpgradeInputs

LoadCheckpoints = Callable[[str, Sequence[str]], None]
"""Loads one cell's checkpoints in others, where that is not fresh; raises where not all could be
loaded because of the surroundings."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """From which cell to which. `accepted`: patterns of checks that may be lost. `device_class`: of
    the evidence; None: this machine's, or where nothing is run the one that both cells have.
    `load`: None where nothing may be run. `blame`: run cells in between, too."""

    origin: ChosenCell
    target: str
    accepted: Sequence[str] = ()
    device_class: str | None = None
    load: LoadCheckpoints | None = None
    blame: bool = False


def answered(question: Question, context: Context) -> UpgradeAnswer:
    """The answer, from evidence that is made first where it may be.

    Raises:
        UsageError: a pattern of what may be lost that means no check.
        CompatError: as `pipeline.run_cell` and `Question.load`; nothing is answered then.
    """
    origin, names = question.origin, [question.origin.name, question.target]
    if question.load:
        # What does not load in FROM either is not lost.
        results = [pipeline.run_cell(name, Options(), context).evidence for name in names]
        if all(e.checks for e in results):
            question.load(origin.name, names)
    cells = [pipeline.chosen(name, context) for name in names]
    inputs = _stored(cells, context, question)
    _check_accepted(question.accepted, inputs, cells)
    if question.blame and _run_between(inputs, cells, question.accepted, context):
        inputs = _stored(cells, context, question)
    side = inputs.side(cells[0], origin.note, stands_in=origin.stands_in)
    return answers.answer(side, inputs.side(cells[1]), inputs, question.accepted)


def inputs_of(
    all_: Collated, device_class: str, loads: Sequence[Exchanged], cells: Sequence[Cell]
) -> UpgradeInputs:
    """What an upgrade between two cells is answered from; reads their locks.

    Raises:
        LockError: a lock is corrupt.
    """
    paths = {cell.name: pipeline.lock_path(cell) for cell in cells}
    return UpgradeInputs(
        all_=all_,
        device_class=device_class,
        suite=pipeline.suite_digest(),
        checks=exchange.digest(),
        exchanged=tuple(loads),
        locks={name: locks.read(path) for name, path in paths.items() if path.exists()},
    )


def _stored(cells: Sequence[Cell], context: Context, question: Question) -> UpgradeInputs:
    """All that is known by now."""
    results = evidence.load_all()
    chosen = question.device_class or pipeline.device_class()
    if question.device_class is None and question.load is None:
        names = [cell.name for cell in cells]
        chosen = sides.nearest_class(results, names, chosen, evidence.DEVICE_CLASSES)
    declared = combinations.cells(context.matrix, context.releases)
    all_ = collation.collate(results, declared, context.matrix, context.releases)
    return inputs_of(all_, chosen, exchanged.load_all(), cells)


def _check_accepted(patterns: Sequence[str], inputs: UpgradeInputs, cells: Sequence[Cell]) -> None:
    """A pattern that means no check is a slip of the pen."""
    if not patterns:
        return
    origin, target = (inputs.side(cell) for cell in cells)
    answer = answers.answer(origin, target, inputs)
    checks = {*origin.outcomes(), *target.outcomes()}
    checks |= {r.check for r in answer.checkpoints.routes} if answer.checkpoints else set()
    for pattern in patterns:
        if not any(named(check, [pattern]) for check in checks):
            message = f'--accept: no check is called "{pattern}"'
            raise UsageError(f"{message}{nearest(pattern, checks)}")


def _run_between(
    inputs: UpgradeInputs, cells: Sequence[Cell], accepted: Sequence[str], context: Context
) -> bool:
    """Run cells between the two until it is known what is to blame; whether any was run."""
    origin, target = (inputs.side(cell) for cell in cells)
    if not origin.outcomes() or not target.outcomes():
        return False
    assert origin.found is not None
    assert target.found is not None
    difference = comparison.difference(origin.found, target.found)
    reports = [
        loss.blamed
        for loss in losses.losses(origin, target, difference, inputs, accepted)
        if loss.blamed
    ]
    open_cells = {cell for report in reports for cell in report.open}
    if not open_cells:
        return False
    minutes = max(report.seconds for report in reports) * len(open_cells) / 60
    context.say(
        f"--blame: at most {len(open_cells)} cells, about {minutes:.0f} min without "
        "builds and downloads"
    )

    def test(cell: Cell) -> Evidence:
        return pipeline.run_cell(cell.name, Options(), context).evidence

    losses.losses(origin, target, difference, inputs, accepted, test)
    return True
