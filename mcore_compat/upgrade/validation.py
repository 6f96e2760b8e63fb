"""From one cell to another: what is not fresh is run, and all that is known answers it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mcore_compat.base.errors import InfrastructureError, UsageError, nearest
from mcore_compat.core import combinations
from mcore_compat.core.cells import Cell
from mcore_compat.core.profiles import DEFAULT
from mcore_compat.environments import interpreters, scan
from mcore_compat.exchange import drive, pairs
from mcore_compat.publish import collation, compatibility_json
from mcore_compat.results import evidence, repairs, store
from mcore_compat.results.evidence import Evidence
from mcore_compat.run import machine, pipeline
from mcore_compat.run.check_sets import EXCHANGE
from mcore_compat.run.context import Context, Options
from mcore_compat.upgrade import answer as answers
from mcore_compat.upgrade import examples, losses, sides
from mcore_compat.upgrade.answer import UpgradeAnswer
from mcore_compat.upgrade.checkpoints import named
from mcore_compat.upgrade.sides import ChosenCell, UpgradeInputs


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked. `run`: what is not fresh, and with `blame` cells in between, too; `accept`:
    what may be lost; `python`, of `current`, and `device_class`: None for those of here."""

    origin: str
    target: str
    run: bool = True
    blame: bool = False
    accept: Sequence[str] = ()
    python: Path | None = None
    device_class: str | None = None


def validate(question: Question, context: Context) -> UpgradeAnswer:
    """The answer, for the profile of the context.

    Raises:
        UsageError: not two different cells, or options that contradict one another.
        CompatError: as `pipeline.run_cell`; nothing is answered then.
    """
    mine = machine.device_class()
    if question.blame and not question.run:
        raise UsageError("--blame runs cells, and --no-run runs none: leave out one of them")
    if question.run and question.device_class not in (None, mine):
        raise UsageError(f"--device-class: cells run here are of {mine}; add --no-run")
    origin_cell, target = _cells(question, context)
    names = [origin_cell.name, target]
    if question.run:
        _test(names, context)
    cells = [pipeline.chosen(name, context) for name in names]
    strict = question.run or question.device_class is not None
    known = _known(cells, context, question.device_class or mine, strict=strict)
    _check_accepted(question.accept, known, cells)
    if question.blame and _blame(known, cells, question.accept, context):
        known = _known(cells, context, mine, strict=True)
    origin = known.side(cells[0], origin_cell.note, stands_in=origin_cell.stands_in)
    return answers.answer(origin, known.side(cells[1]), known, question.accept)


def _cells(question: Question, context: Context) -> tuple[ChosenCell, str]:
    """The cell FROM, and how it was chosen where that is what is installed; the name of TO."""
    if question.target in sides.WORDS_FOR_INSTALLED:
        raise UsageError("current: only FROM can be what is installed; name the cell TO")
    target = pairs.name_of(question.target, context)
    if question.origin in sides.WORDS_FOR_INSTALLED:
        python = question.python or interpreters.active()
        rows = [
            compatibility_json.record(e, context.matrix)
            for e in store.load_all(context.workspace.results)
        ]
        origin = sides.installed(scan.inspect(python, context.run), rows)
    elif question.python:
        raise UsageError(f'--python: FROM is a cell, "{question.origin}", and not current')
    else:
        origin = ChosenCell(pairs.name_of(question.origin, context), note="", stands_in=False)
    if pipeline.chosen(origin.name, context).pins == pipeline.chosen(target, context).pins:
        raise UsageError(f"FROM and TO are the same cell, {target}: there is nothing to upgrade")
    return origin, target


def _test(names: Sequence[str], context: Context) -> None:
    """Run both cells and load the checkpoints of FROM in both, where that is not fresh: what does
    not load in FROM either is not lost."""
    tested = [pipeline.run_cell(name, Options(), context).evidence for name in names]
    if not all(result.checks for result in tested):
        return
    work = pairs.work(pairs.Asked(origins=names[:1], targets=names), context)
    failed = drive.exchange(work, context, tell=context.say)
    if any(isinstance(error, InfrastructureError) for error in failed.values()):
        raise InfrastructureError("not all checkpoints were loaded; run it again to continue")


def _known(
    cells: Sequence[Cell], context: Context, device_class: str, *, strict: bool
) -> UpgradeInputs:
    """All that is known by now; not `strict`: of the device class that both cells have."""
    stored, _ = repairs.applied_to_all(
        store.load_all(context.workspace.results), context.workspace.results
    )
    if not strict:
        names = [cell.name for cell in cells]
        device_class = sides.nearest_class(stored, names, device_class, evidence.DEVICE_CLASSES)
    declared = combinations.cells(context.matrix, context.releases)
    exchanged = store.load_all(context.workspace.results, EXCHANGE.name)
    collated = collation.collate(stored, declared, context.matrix, context.releases)
    profile = context.profile or DEFAULT
    return examples.known(collated, device_class, exchanged, cells, context.workspace, profile)


def _check_accepted(patterns: Sequence[str], known: UpgradeInputs, cells: Sequence[Cell]) -> None:
    """A pattern that means no check is a slip of the pen."""
    if not patterns:
        return
    origin, target = (known.side(cell) for cell in cells)
    answer = answers.answer(origin, target, known)
    checks = {*origin.outcomes(), *target.outcomes()}
    checks |= {r.check for r in answer.checkpoints.routes} if answer.checkpoints else set()
    for pattern in patterns:
        if not any(named(check, [pattern]) for check in checks):
            raise UsageError(f'--accept: no check is called "{pattern}"{nearest(pattern, checks)}')


def _blame(
    known: UpgradeInputs, cells: Sequence[Cell], accepted: Sequence[str], context: Context
) -> bool:
    """Run cells between the two until it is known what is to blame; whether any was run."""
    origin, target = (known.side(cell) for cell in cells)
    answer = answers.answer(origin, target, known, accepted)
    blamed = [loss.blamed for loss in answer.losses if loss.blamed and loss.decides]
    open_cells = {cell for blame in blamed for cell in blame.open}
    if not open_cells or answer.difference is None:
        return False
    minutes = max(blame.seconds for blame in blamed) * len(open_cells) / 60
    context.say(
        f"--blame: at most {len(open_cells)} cells, about {minutes:.0f} min without "
        "builds and downloads"
    )

    def test(cell: Cell) -> Evidence:
        return pipeline.run_cell(cell.name, Options(), context).evidence

    losses.losses(origin, target, answer.difference, known, accepted, test)
    return True
