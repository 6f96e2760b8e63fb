"""Events of a running suite → the result so far."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mcore_compat.base import files, foreign
from mcore_compat.base.errors import InfrastructureError, ResultError
from mcore_compat.core import profiles
from mcore_compat.core.outcomes import CellOutcome, CheckOutcome
from mcore_compat.results import fingerprint, missing_kernels, suite_events
from mcore_compat.results.result import MAIN, CheckResult, Failure, Record, Result

_TRACEBACK = 6000
"""The number of characters of a traceback that are stored, from its end."""

_TEXT = 10_000
"""The number of characters of a reason or a condition that are stored."""

_LINE = 200
"""The number of characters of a name, a version, or an exception's type that are stored."""

_TWO_RUNS = "events of two runs are mixed, run it again"


class Builder:
    """Collects a suite's events; `result()` returns the result so far."""

    def __init__(self, base: Result, folders: Iterable[str] = ()) -> None:
        """`folders`: of the machine that the events are from, cut out of all stored texts."""
        self._base = replace(base, complete=False)
        self._checks: dict[str, CheckResult] = {}
        self._started = False
        self._records: dict[str, Record] = {}
        self._left_out: dict[str, str] = {}
        here = (files.home(), Path.home(), tempfile.gettempdir())
        self._folders = (*folders, *map(str, here))

    def take(self, event: Mapping[str, Any]) -> None:
        """Take one event of the suite's protocol.

        Raises:
            ResultError: an event of a suite that was broken on purpose.
            InfrastructureError: not an event of the protocol, or events of two runs are mixed: a
                second start, or a second result of a check.
        """
        suite_events.refuse_odd(event)
        kind = event["event"]
        if self._base.complete or (kind == "start" and self._started):
            raise InfrastructureError(f"{_TWO_RUNS}: {kind} comes after another run's events")
        if kind == "start":
            _refuse_sabotage(event.get("sabotage"))
            self._started = True
            self._base = replace(
                self._base,
                device_class=event["device_class"],
                platform=self._clean(event["platform"]),
                installed=self._names(event["installed"]),
            )
        elif kind == "record":
            self._refuse_second(event["record"], self._records)
            self._records[event["record"]] = Record(
                seconds=round(float(event["seconds"]), 1),
                failure=self._failure(event["failure"]),
                details=dict(self._clean(event.get("details") or {})),
            )
        elif kind == "check":
            _refuse_sabotage((event.get("details") or {}).get("sabotage"))
            self._refuse_second(event["check"], self._checks)
            self._checks[event["check"]] = self._check(self._judged(event))
        elif kind == "end":
            self._base = replace(self._base, complete=True)

    @staticmethod
    def _refuse_second(name: str, known: Mapping[str, object]) -> None:
        if name in known:
            raise InfrastructureError(f"{_TWO_RUNS}: {name} ended twice")

    @property
    def last(self) -> CheckResult:
        """The check that was taken last; IndexError before the first."""
        try:
            return next(reversed(self._checks.values()))
        except StopIteration:
            raise IndexError("no check yet") from None

    def result(self) -> Result:
        """The result so far; `complete` only after the suite's end.

        Until then the outcome is `error`: a part of the checks gives no verdict, and the end of the
        run may be the cause of a check's outcome.
        """
        checks = tuple(sorted(self._checks.values(), key=lambda c: c.check))
        outcome = CellOutcome.ERROR
        if self._base.check_set != MAIN:
            outcome = CellOutcome.UNTESTED  # the main set alone gives a verdict
        elif self._base.complete:
            outcome = profiles.outcome(profiles.points(checks))
        records = dict(sorted(self._records.items()))
        return replace(self._base, checks=checks, records=records, outcome=outcome)

    def _judged(self, event: Mapping[str, Any]) -> Mapping[str, Any]:
        """The event of a check; on a GPU, a check that failed because a wheel lacks its CUDA part,
        or was blocked by one, becomes `needs-gpu`."""
        if self._base.device_class != "gpu":
            return event
        why = missing_kernels.missed(event, self._base.wheels)
        why = why or missing_kernels.passed_on(event, self._left_out)
        if why is None:
            return event
        self._left_out[event["check"]] = why
        return {**event, "outcome": CheckOutcome.NEEDS_GPU.value, "reason": why}

    def _clean(self, value: Any) -> Any:
        """Foreign data without invisible characters and without paths of this machine.

        Raises:
            InfrastructureError: two keys become equal, or it is nested too deeply.
        """
        try:
            return foreign.cleaned(value, lambda text: fingerprint.portable(text, self._folders))
        except ValueError as error:
            raise InfrastructureError(f"the suite wrote invalid data: {error}") from None

    def _text(self, text: str | None) -> str | None:
        return None if text is None else self._clean(text)[:_TEXT]

    def _names(self, installed: Mapping[str, str]) -> dict[str, str]:
        """Names and versions of installed packages, each on one line."""
        return {foreign.line(k, _LINE): foreign.line(v, _LINE) for k, v in installed.items()}

    def _failure(self, raw: Mapping[str, Any] | None) -> Failure | None:
        if not raw:
            return None
        message, kind = self._clean(raw["message"]), foreign.line(raw["type"], _LINE)
        frame = foreign.line(fingerprint.frame_of(raw["frames"]), 2 * _LINE)
        return Failure(
            type=kind,
            message=message[: fingerprint.MESSAGE],
            frame=frame,
            fingerprint=fingerprint.of(kind, message, frame),
            traceback=self._clean(raw["traceback"])[-_TRACEBACK:],
            gpu_independent=self._text(raw["gpu_independent"]),
        )

    def _check(self, event: Mapping[str, Any]) -> CheckResult:
        details = dict(self._clean(event.get("details") or {}))
        if self._base.check_set != MAIN:
            details.pop("left_behind", None)  # processes of this run only
        if event.get("warnings") and event["outcome"] != "works":
            details["warnings"] = self._clean(event["warnings"])
        return CheckResult(
            check=event["check"],
            kind=event["kind"],
            family=event["family"],
            outcome=CheckOutcome(event["outcome"]),
            seconds=round(float(event["seconds"]), 1),
            reason=self._text(event["reason"]),
            failure=self._failure(event.get("failure")),
            details=details,
            feature=event.get("feature"),
            format=event.get("format"),
            condition=self._text(event.get("condition")),
        )


def _refuse_sabotage(what: object) -> None:
    if what:
        raise ResultError(f"the suite was broken on purpose ({what}); nothing is stored")
