"""A result → the record of its cell in the published data. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mcore_compat.analysis.cell_record import CellRecord, PublishedRepair
from mcore_compat.core.matrix import Matrix
from mcore_compat.core.outcomes import FAILURES
from mcore_compat.results import levels, verdict
from mcore_compat.results.repairs import Repair
from mcore_compat.results.result import Result


def records(results: Iterable[Result], matrix: Matrix) -> list[CellRecord]:
    """Results as the records of the published data, without repairs."""
    return [record(result, matrix) for result in results]


def record(e: Result, matrix: Matrix, repair: Repair | None = None) -> CellRecord:
    """The record of one cell on one device class; a repair is already applied to `e`."""
    checks: dict[str, list[str]] = {}
    for c in e.checks:
        checks.setdefault(c.outcome.value, []).append(c.check)
    reasons: dict[str, list[str]] = {}
    for c in e.checks:
        if c.reason and (c.condition or not c.failure):
            reasons.setdefault(c.reason, []).append(c.check)
    points: dict[str, dict[str, str]] = {}
    for point, outcome in e.points.items():
        points.setdefault(point.feature or "other", {})[point.label] = outcome.value
    return CellRecord(
        name=e.cell,
        device_class=e.device_class,
        outcome=e.outcome.value,
        level=levels.level(e).key,
        reason=e.reason.message if e.reason else None,
        pins=e.pins,
        cuda=e.cuda,
        taken=e.taken,
        digests={"lock": e.lock, "suite": e.suite},
        points=points,
        by_outcome={outcome: tuple(sorted(checks[outcome])) for outcome in sorted(checks)},
        causes={
            c.check: c.failure.fingerprint for c in e.checks if c.failure and c.outcome in FAILURES
        },
        by_reason={reason: tuple(sorted(reasons[reason])) for reason in sorted(reasons)},
        conditions={c.check: c.condition for c in e.checks if c.condition},
        features=_tuples(grouped((c.check, c.feature) for c in e.checks)),
        formats=_tuples(grouped((c.check, c.format) for c in e.checks)),
        variables=e.variables,
        te_extension=e.te_extension,
        repair=_repair(repair) if repair else None,
        unexpected=tuple(sorted({c.check for c in verdict.unexpected(e, matrix.expected)})),
    )


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
