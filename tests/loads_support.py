"""What cells loaded of one another, made up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from mcore_compat.core.outcomes import CellOutcome, CheckOutcome
from mcore_compat.exchange import transfer_results as exchange
from mcore_compat.results.result import CheckResult, Failure, Result, Source

CAUSE = "0123456789ab"


def failure(message: str = "EOF", fingerprint: str = CAUSE) -> Failure:
    return Failure(
        type="EOFError",
        message=message,
        frame="modelopt.x:load",
        fingerprint=fingerprint,
        traceback="Traceback",
        gpu_independent="a stand-in says so",
    )


def answer(outcome: CheckOutcome = CheckOutcome.WORKS, **fields: Any) -> CheckResult:
    """How a checkpoint came over, of whatever cell."""
    given: dict[str, Any] = {
        "check": "restore-from[:]",
        "kind": "restore-from",
        "family": None,
        "seconds": None,
        "reason": None,
        "failure": None,
        "details": {},
    }
    return CheckResult(outcome=outcome, **{**given, **fields})


def of(origin: str, answers: Mapping[str, CheckResult]) -> list[CheckResult]:
    """Answers by `family:way` as the checks of a cell that saved."""
    return [
        replace(one, check=f"restore-from[{origin}:{key}]", family=key.partition(":")[0])
        for key, one in answers.items()
    ]


def source(pins: Mapping[str, str], ways: Iterable[str], **fields: Any) -> Source:
    given = {"lock": "lock", "manifests": "m", "taken": "2026-01-01T00:00:00Z", **fields}
    return Source(pins=pins, ways=tuple(ways), **given)


def nothing(cell: str, pins: Mapping[str, str], **fields: Any) -> Result:
    """A cell that has loaded nothing yet."""
    given: dict[str, Any] = {
        "check_set": "exchange",
        "device_class": "host",
        "outcome": CellOutcome.UNTESTED,
        "reason": None,
        "taken": "2026-01-01T00:00:00Z",
        "cuda": 12,
        "lock": "l",
        "suite": "e",
        "wheels": {},
    }
    return Result(cell=cell, pins=pins, **{**given, **fields})


def loaded(
    result: Result, origin: str, given: Source, answers: Mapping[str, CheckResult]
) -> Result:
    """`result` with what came of one more cell."""
    return exchange.with_source(result, origin, given, of(origin, answers))
