"""Answers an upgrade question: runs whatever is out of date, then answers from all results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mcore_compat.analysis import constraints, container_cells
from mcore_compat.analysis.cell_record import CellRecord
from mcore_compat.api import checking
from mcore_compat.api.scan import ScanReport
from mcore_compat.base.errors import InfrastructureError, UsageError, nearest
from mcore_compat.core import combinations, containers
from mcore_compat.core.cells import Cell
from mcore_compat.core.profiles import DEFAULT
from mcore_compat.environments import interpreters, scan
from mcore_compat.exchange import drive, pairs
from mcore_compat.publish import cell_records, collation
from mcore_compat.results import repairs, store
from mcore_compat.results.result import DEVICE_CLASSES, Result
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
    """The question, as the command line puts it.

    - `origin`, `target`: cells; None if `from_container` or `to_container` names a container.
    - `installed`: what is installed on top of these containers, e.g. `modelopt 0.41`.
    - `run`: run whatever is out of date; `blame`: also run cells in between.
    - `accept`: patterns of checks that the user can do without.
    - `code`: the path of the user's code.
    - `python`: the interpreter of the environment `current`; None: the active one.
    - `device_class`: None: that of this machine.
    """

    origin: str | None
    target: str | None
    from_container: str | None = None
    to_container: str | None = None
    installed: str | None = None
    code: Path | None = None
    run: bool = True
    blame: bool = False
    accept: Sequence[str] = ()
    python: Path | None = None
    device_class: str | None = None


def validate(question: Question, context: Context) -> UpgradeAnswer:
    """The answer, for the profile of the context.

    Raises:
        UsageError: the cells are not two different ones, or options contradict one another.
        CompatError: as `pipeline.run_cell`; there is no answer then.
    """
    mine = machine.device_class()
    if question.blame and not question.run:
        raise UsageError("--blame contradicts --no-run: it runs cells; leave out one of them")
    if question.run and question.device_class not in (None, mine):
        raise UsageError(f"--device-class: this machine runs cells as {mine}; add --no-run")
    chosen = _cells(question, context)
    names = [one.name for one in chosen]
    cells = [pipeline.chosen(name, context) for name in names]
    # Before anything runs, so that a wrong path is reported at once.
    code = _code(question, cells, context)
    if question.run:
        _test(names, context)
    strict = question.run or question.device_class is not None
    known = _known(cells, context, question.device_class or mine, strict=strict)
    _check_accepted(question.accept, known, cells)
    if question.blame and _blame(known, cells, question.accept, context):
        known = _known(cells, context, mine, strict=True)
    origin, target = (
        known.side(cell, one.note, stands_in=one.stands_in)
        for cell, one in zip(cells, chosen, strict=True)
    )
    return answers.answer(origin, target, known, question.accept, code)


def _code(question: Question, cells: Sequence[Cell], context: Context) -> ScanReport | None:
    """What in the user's code fits FROM and not TO; None if the user named no code."""
    if question.code is None:
        return None
    before, after = (cell.pins for cell in cells)
    return checking.check_upgrade(question.code, before, after, context.workspace, context.releases)


def _cells(question: Question, context: Context) -> tuple[ChosenCell, ChosenCell]:
    """The cells FROM and TO, with notes on how they were chosen if not by name."""
    names = _names(question)
    if question.python and names[0] not in sides.WORDS_FOR_INSTALLED:
        said = names[0] or question.from_container
        raise UsageError(f'--python is only for FROM current, and FROM is "{said}"')
    if names[1] in sides.WORDS_FOR_INSTALLED:
        raise UsageError("current: only FROM can be the installed combination; name the cell TO")
    standing = _containers(question, context)
    origin, target = (
        standing.pop(0) if name is None else _cell(name, question, context) for name in names
    )
    if pipeline.chosen(origin.name, context).pins == pipeline.chosen(target.name, context).pins:
        why = "; ".join(filter(None, (origin.note, target.note)))
        raise UsageError(
            f"FROM and TO are the same cell, {target.name}: there is nothing to upgrade"
            + (f" ({why})" if why else "")
        )
    return origin, target


def _names(question: Question) -> tuple[str | None, str | None]:
    """The names of FROM and TO; None for a container. If only FROM is a container, a single cell is
    TO.

    Raises:
        UsageError: FROM or TO is given twice, or not at all.
    """
    origin, target = question.origin, question.target
    if question.from_container and not question.to_container and target is None:
        origin, target = None, origin
    for end, name, container in (
        ("FROM", origin, question.from_container),
        ("TO", target, question.to_container),
    ):
        option = f"--{end.lower()}-container"
        if name and container:
            raise UsageError(f'{end} is given twice: "{name}" and {option} {container}; give one')
        if not name and not container:
            raise UsageError(f"{end} is missing: name a cell, or a container with {option}")
    if question.installed and not (question.from_container or question.to_container):
        raise UsageError("--installed needs --from-container or --to-container")
    return origin, target


def _containers(question: Question, context: Context) -> list[ChosenCell]:
    """The cells that stand for the named containers, FROM's first."""
    names = [name for name in (question.from_container, question.to_container) if name]
    if not names:
        return []
    found = container_cells.standing(
        [containers.load(context.workspace.containers).named(name) for name in names],
        _records(context),
        context.profile or DEFAULT,
        constraints.parse(question.installed) if question.installed else (),
    )
    return [ChosenCell(one.cell.name, one.whole(), stands_in=one.image.name) for one in found]


def _cell(name: str, question: Question, context: Context) -> ChosenCell:
    """The cell of a name, or the one that stands for the installed combination."""
    if name not in sides.WORDS_FOR_INSTALLED:
        return ChosenCell(pairs.name_of(name, context))
    python = question.python or interpreters.active()
    return sides.installed(scan.inspect(python, context.run), _records(context))


def _records(context: Context) -> list[CellRecord]:
    """The records of all cells with results."""
    stored = store.load_all(context.workspace.results)
    return cell_records.records(stored, context.matrix)


def _test(names: Sequence[str], context: Context) -> None:
    """Run whatever is out of date: both cells, and loading the checkpoints of FROM in both. What
    does not load in FROM either is not lost."""
    tested = [pipeline.run_cell(name, Options(), context).result for name in names]
    if not all(result.checks for result in tested):
        return
    work = pairs.work(pairs.Asked(origins=names[:1], targets=names), context)
    failed = drive.exchange(work, context, tell=context.say)
    if any(isinstance(error, InfrastructureError) for error in failed.values()):
        raise InfrastructureError("not all checkpoints were tested; run the command again")


def _known(
    cells: Sequence[Cell], context: Context, device_class: str, *, strict: bool
) -> UpgradeInputs:
    """All results so far. Not `strict`: of another device class, if only that one has results of
    both cells."""
    stored, _ = repairs.applied_to_all(
        store.load_all(context.workspace.results), context.workspace.results
    )
    if not strict:
        names = [cell.name for cell in cells]
        device_class = sides.nearest_class(stored, names, device_class, DEVICE_CLASSES)
    declared = combinations.cells(context.matrix, context.releases)
    exchanged = store.load_all(context.workspace.results, EXCHANGE.name)
    collated = collation.collate(stored, declared, context.matrix, context.releases)
    profile = context.profile or DEFAULT
    return examples.known(collated, device_class, exchanged, cells, context.workspace, profile)


def _check_accepted(patterns: Sequence[str], known: UpgradeInputs, cells: Sequence[Cell]) -> None:
    """Refuse a pattern that matches no check: it is probably a typo.

    Raises:
        UsageError: a pattern matches no check.
    """
    if not patterns:
        return
    origin, target = (known.side(cell) for cell in cells)
    answer = answers.answer(origin, target, known)
    checks = {*origin.outcomes(), *target.outcomes()}
    checks |= {r.check for r in answer.checkpoints.routes} if answer.checkpoints else set()
    for pattern in patterns:
        if not any(named(check, [pattern]) for check in checks):
            raise UsageError(f'--accept: no check matches "{pattern}"{nearest(pattern, checks)}')


def _blame(
    known: UpgradeInputs, cells: Sequence[Cell], accepted: Sequence[str], context: Context
) -> bool:
    """Run cells between the two until it is known what is to blame. False if none had to run."""
    origin, target = (known.side(cell) for cell in cells)
    answer = answers.answer(origin, target, known, accepted)
    blamed = [loss.blamed for loss in answer.losses if loss.blamed and loss.decides]
    open_cells = {cell for blame in blamed for cell in blame.open}
    if not open_cells or answer.difference is None:
        return False
    minutes = max(blame.seconds for blame in blamed) * len(open_cells) / 60
    context.say(
        f"--blame: running at most {len(open_cells)} cells, about {minutes:.0f} min without "
        "builds and downloads"
    )

    def test(cell: Cell) -> Result:
        return pipeline.run_cell(cell.name, Options(), context).result

    losses.losses(origin, target, answer.difference, known, accepted, test)
    return True
