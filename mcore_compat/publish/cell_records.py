"""A result → the record of its cell in the published data. Pure."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping

from mcore_compat.analysis.cell_record import (
    CellOutcomes,
    CellRecord,
    CheckTable,
    PublishedRepair,
)
from mcore_compat.core.matrix import Matrix
from mcore_compat.core.outcomes import FAILURES
from mcore_compat.results import levels, verdict
from mcore_compat.results.repairs import Repair
from mcore_compat.results.result import CheckEndings, Result


def records(results: Iterable[Result], matrix: Matrix) -> list[CellRecord]:
    """Results as the records of the published data, without repairs."""
    return [record(result, matrix) for result in results]


def record(e: Result, matrix: Matrix, repair: Repair | None = None) -> CellRecord:
    """The record of one cell on one device class; a repair is already applied to `e`."""
    ended, table = _ended(e.endings)
    made = CellRecord(
        name=e.cell,
        device_class=e.device_class,
        outcome=e.outcome.value,
        level=levels.level(e).key,
        reason=e.reason.message if e.reason else None,
        pins=e.pins,
        cuda=e.cuda,
        taken=e.taken,
        digests={"lock": e.lock, "suite": e.suite},
        points=ended.points,
        by_outcome=ended.by_outcome,
        causes=ended.causes,
        by_reason=ended.by_reason,
        conditions=ended.conditions,
        features=table.features,
        formats=table.formats,
        variables=e.variables,
        te_extension=e.te_extension,
        repair=_repair(repair) if repair else None,
        unexpected=tuple(sorted({c.check for c in verdict.unexpected(e, matrix.expected)})),
    )
    vars(made)["table"] = table
    return made


@functools.cache
def _ended(endings: CheckEndings) -> tuple[CellOutcomes, CheckTable]:
    """How checks ended, in the form of the published data."""
    every = endings.checks
    checks: dict[str, list[str]] = {}
    for c in every:
        checks.setdefault(c.outcome.value, []).append(c.check)
    reasons: dict[str, list[str]] = {}
    for c in every:
        if c.reason and (c.condition or not c.failure):
            reasons.setdefault(c.reason, []).append(c.check)
    points: dict[str, dict[str, str]] = {}
    for point, outcome in endings.points.items():
        points.setdefault(point.feature or "other", {})[point.label] = outcome.value
    ended = CellOutcomes(
        points=points,
        by_outcome={outcome: tuple(sorted(checks[outcome])) for outcome in sorted(checks)},
        causes={
            c.check: c.failure.fingerprint for c in every if c.failure and c.outcome in FAILURES
        },
        by_reason={reason: tuple(sorted(reasons[reason])) for reason in sorted(reasons)},
        conditions={c.check: c.condition for c in every if c.condition},
    )
    features = _tuples(grouped((c.check, c.feature) for c in every))
    return ended, CheckTable(ended, features, _tuples(grouped((c.check, c.format) for c in every)))


def _tuples(groups: Mapping[str, Iterable[str]]) -> dict[str, tuple[str, ...]]:
    return {name: tuple(checks) for name, checks in groups.items()}


def _repair(repair: Repair) -> PublishedRepair:
    return PublishedRepair(
        package=repair.package,
        requirement=repair.requirement,
        locked=repair.locked,
        works=repair.works,
        fails=repair.fails,
        checks=repair.holding,
    )


def grouped(pairs: Iterable[tuple[str, str | None]]) -> dict[str, list[str]]:
    """Checks by their group; both sorted."""
    groups: dict[str, list[str]] = {}
    for check, group in sorted(pairs):
        if group:
            groups.setdefault(group, []).append(check)
    return dict(sorted(groups.items()))
