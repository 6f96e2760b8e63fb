"""What a suite says while it runs → the evidence so far."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mcore_compat.base import files
from mcore_compat.base.errors import EvidenceError
from mcore_compat.core.outcomes import CellOutcome, CheckOutcome, cell_outcome
from mcore_compat.results import fingerprint, missing_kernels
from mcore_compat.results.evidence import MAIN, CheckResult, Evidence, Failure, Record

_TRACEBACK = 6000
"""Characters of a traceback that are kept, from its end."""


class Builder:
    """Collects a suite's events; `evidence()` is what is known so far."""

    def __init__(self, base: Evidence, folders: Iterable[str] = ()) -> None:
        """`folders`: of the machine that the events are from, that are cut out of what is kept."""
        self._base = replace(base, complete=False)
        self._checks: list[CheckResult] = []
        self._records: dict[str, Record] = {}
        self._left_out: dict[str, str] = {}
        here = (files.home(), Path.home(), tempfile.gettempdir())
        self._folders = (*folders, *map(str, here))

    def take(self, event: Mapping[str, Any]) -> None:
        """Take one event of the suite's protocol.

        Raises:
            EvidenceError: an event of another protocol, or of a suite that was broken on purpose.
        """
        kind = event.get("event")
        if kind == "start":
            if event.get("suite") != 1:
                raise EvidenceError(f"the suite speaks protocol {event.get('suite')}, not 1")
            _refuse_sabotage(event.get("sabotage"))
            self._base = replace(
                self._base,
                device_class=event["device_class"],
                platform=self._clean(event["platform"]),
                installed=dict(event["installed"]),
            )
        elif kind == "record":
            self._records[event["record"]] = Record(
                seconds=round(float(event["seconds"]), 1),
                failure=self._failure(event["failure"]),
                details=dict(self._clean(event.get("details") or {})),
            )
        elif kind == "check":
            _refuse_sabotage((event.get("details") or {}).get("sabotage"))
            self._checks.append(self._result(self._judged(event)))
        elif kind == "end":
            self._base = replace(self._base, complete=True)

    @property
    def last(self) -> CheckResult:
        """The check that was taken last; IndexError before the first."""
        return self._checks[-1]

    def evidence(self) -> Evidence:
        """What is known so far; `complete` only after the suite's end.

        Until then the outcome is `error`: a part of the checks says nothing about the cell, and
        whoever ends the run may take a check with it.
        """
        checks = tuple(sorted(self._checks, key=lambda c: c.check))
        outcome = CellOutcome.ERROR
        if self._base.check_set != MAIN:
            outcome = CellOutcome.UNTESTED  # the main set alone gives a verdict
        elif self._base.complete:
            outcome = cell_outcome((c.kind, c.outcome) for c in checks)
        records = dict(sorted(self._records.items()))
        return replace(self._base, checks=checks, records=records, outcome=outcome)

    def _judged(self, event: Mapping[str, Any]) -> Mapping[str, Any]:
        """The event of a check; on a GPU what failed for want of a wheel's CUDA part, and what was
        blocked by that, was not asked."""
        if self._base.device_class != "gpu":
            return event
        why = missing_kernels.missed(event, self._base.wheels)
        why = why or missing_kernels.passed_on(event, self._left_out)
        if why is None:
            return event
        self._left_out[event["check"]] = why
        return {**event, "outcome": CheckOutcome.NEEDS_GPU.value, "reason": why}

    def _clean(self, value: Any) -> Any:
        """Foreign data without control characters and without paths of this machine."""
        if isinstance(value, str):
            return fingerprint.plain(fingerprint.relative(value, self._folders))
        if isinstance(value, Mapping):
            return {self._clean(k): self._clean(v) for k, v in value.items()}
        if isinstance(value, list):
            return [self._clean(v) for v in value]
        return value

    def _failure(self, raw: Mapping[str, Any] | None) -> Failure | None:
        if not raw:
            return None
        message, frame = self._clean(raw["message"]), fingerprint.frame_of(raw["frames"])
        return Failure(
            type=raw["type"],
            message=message[: fingerprint.MESSAGE],
            frame=frame,
            fingerprint=fingerprint.of(raw["type"], message, frame),
            traceback=self._clean(raw["traceback"])[-_TRACEBACK:],
            gpu_independent=self._clean(raw["gpu_independent"]),
        )

    def _result(self, event: Mapping[str, Any]) -> CheckResult:
        details = dict(self._clean(event.get("details") or {}))
        if self._base.check_set != MAIN:
            details.pop("left_behind", None)  # processes of this run: says nothing lasting
        if event.get("warnings") and event["outcome"] != "works":
            details["warnings"] = self._clean(event["warnings"])
        return CheckResult(
            check=event["check"],
            kind=event["kind"],
            family=event["family"],
            outcome=CheckOutcome(event["outcome"]),
            seconds=round(float(event["seconds"]), 1),
            reason=self._clean(event["reason"]),
            failure=self._failure(event.get("failure")),
            details=details,
            feature=event.get("feature"),
            condition=self._clean(event.get("condition")),
        )


def _refuse_sabotage(what: object) -> None:
    if what:
        raise EvidenceError(f"the suite was broken on purpose ({what}); nothing is stored")
