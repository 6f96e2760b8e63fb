"""The verdict of one cell and why it fails, from stored results only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from mcore_compat.analysis import explanation, published, untested_releases
from mcore_compat.analysis.grades import Grades
from mcore_compat.analysis.untested_releases import UntestedReleases
from mcore_compat.base.errors import ResultError, UsageError
from mcore_compat.core import combinations, profiles, source_digests
from mcore_compat.core.cells import Cell
from mcore_compat.core.outcomes import CellOutcome
from mcore_compat.core.profiles import DEFAULT
from mcore_compat.core.workspace import Workspace
from mcore_compat.publish import collation
from mcore_compat.resolve import resolvability
from mcore_compat.results import answer, repairs, store, verdict
from mcore_compat.results.result import DEVICE_CLASSES, MAIN, Result, result_path
from mcore_compat.run.context import Context


def results_of(
    cell: Cell, workspace: Workspace, check_sets: Iterable[str] = (MAIN,)
) -> tuple[Result, ...]:
    """The stored results of a cell: one for each check set and device class that has one."""
    paths = (
        result_path(cell.name, device, workspace.results, name)
        for name in check_sets
        for device in DEVICE_CLASSES
    )
    found = [store.load(path, whole=False) for path in paths if path.exists()]
    main = [result for result in found if result.check_set == MAIN]
    mended, _ = repairs.applied_to_all(main, workspace.results)
    return (*mended, *(result for result in found if result.check_set != MAIN))


def without_result(cell: Cell, context: Context) -> str:
    """Why a cell without a result cannot be installed, by the stored metadata.

    Raises:
        UsageError: the metadata does not exclude the cell. The message says how to run it.
    """
    answers = resolvability.sweep(
        [cell], context.matrix, context.releases, offline=True, jobs=1, say=lambda line: None
    )
    known = answers.verdicts[cell.name]
    if known.installs is False:
        return f"{cell.name} cannot be installed: {known.reason}"
    raise UsageError(f"{cell.name} has no result yet; run it: nox -s {cell.name}")


def untested(cell: Cell, context: Context) -> list[str]:
    """What the results of other cells show about a cell that was not run; empty if they show
    nothing.

    Raises:
        MatrixError: the digests of sources are not valid.
    """
    grades = _published(context)
    graded = grades.of(cell.pins) if grades else ()
    told = [line for one in graded for line in untested_releases.told(one)]
    ask = untested_releases.command(cell.pins, context.matrix, context.releases)
    rows = [f"{cell.name} was not run; other cells with its releases show:", *told]
    rows += [f"test it in a minute or two: {ask}"] if ask else []
    return rows if told else []


def causes(result: Result, results: Sequence[Result], context: Context) -> Iterator[str]:
    """The verdict on a cell, each cause of its failures with the versions in which it occurs
    according to all `results` of the cell's device class, and last what works."""
    yield answer.head(result, DEFAULT)
    if result.reason:
        yield f"{result.reason.kind}: {result.reason.message}"
    cells = combinations.cells(context.matrix, context.releases)
    collated = collation.collate(results, cells, context.matrix, context.releases)
    known = _published(context)
    failures = verdict.causes(result.checks)
    conditions = verdict.conditions(result.checks)
    unsure = verdict.unsure(c.reason for c in result.checks)
    if not failures and not result.reason and not unsure:
        yield "nothing fails" + (" under these conditions:" if conditions else "")
    if result.outcome is CellOutcome.UNTESTED:
        yield from (f"ended in {verdict.unsure_text(failure)}" for failure in unsure)
    for cause in failures:
        yield ", ".join(cause.checks)
        yield f"  {cause.type}: {verdict.gist(cause.message)}"
        for reason in verdict.declared(result, cause, context.matrix.expected):
            yield f"  declared: {reason}"
        explained = collated.explained_one(result.device_class, cause.fingerprint)
        for line in explanation.lines(explained):
            yield f"  {line}"
        for line in _beyond(cause.fingerprint, result.device_class, known, context):
            yield f"  {line}"
    for condition, checks in conditions.items():
        yield f"{', '.join(c.check for c in checks)}: works with"
        yield from (f"  {line}" for line in condition.splitlines())
        yield from (f"  without it: {failure}" for failure in verdict.refusals(checks))
    if works := profiles.counted(result.points, DEFAULT):
        yield f"works: {'; '.join(works)}"


def _published(context: Context) -> Grades | None:
    """Grades of untested releases from the published data; None if nothing is published."""
    try:
        known = published.load(context.workspace.published)
    except ResultError:
        return None
    return Grades(known, source_digests.load(context.workspace.digests))


def _beyond(
    fingerprint: str, device_class: str, grades: Grades | None, context: Context
) -> Iterator[str]:
    """The untested releases to which a published cause extends, as lines of text."""
    try:
        cause = grades.known.cause(fingerprint, device_class) if grades else None
    except UsageError:  # the cause was only seen on this machine
        return
    if grades and cause:
        untested = UntestedReleases(grades, context.matrix, context.releases)
        yield from untested_releases.lines([*untested.of_cause(cause)])
