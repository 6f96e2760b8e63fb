"""The events of a running suite: the format of its protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from msgspec import Struct

from mcore_compat.base import foreign
from mcore_compat.base.errors import InfrastructureError
from mcore_compat.core.outcomes import CheckOutcome
from mcore_compat.results.result import CheckId, Name, Seconds

PROTOCOL = 1
"""The version in a suite's first event."""


class SuiteFailure(Struct, kw_only=True, frozen=True):
    """Why a check did not work, as the suite reports it; `frames`: outermost first."""

    type: str
    message: str
    frames: list[dict[str, Any]]
    traceback: str
    gpu_independent: str | None


class StartEvent(Struct, tag_field="event", tag="start", kw_only=True, frozen=True):
    """The environment of the suite, and the checks that it will run."""

    suite: int
    device_class: Literal["host", "gpu"]
    platform: dict[str, Any]
    installed: dict[str, str]
    checks: list[CheckId]
    sabotage: Any = None


class BeginEvent(Struct, tag_field="event", tag="begin", frozen=True):
    """A check begins."""


class CheckEvent(Struct, tag_field="event", tag="check", kw_only=True, frozen=True):
    """A check ended."""

    check: CheckId
    kind: CheckId
    family: CheckId | None
    outcome: CheckOutcome
    seconds: Seconds
    reason: str | None
    failure: SuiteFailure | None
    details: dict[str, Any] = {}
    warnings: list[Any] = []
    feature: Name | None = None
    format: Name | None = None
    condition: str | None = None


class RecordEvent(Struct, tag_field="event", tag="record", kw_only=True, frozen=True):
    """A record was taken: data without an outcome."""

    record: Name
    seconds: Seconds
    failure: SuiteFailure | None
    details: dict[str, Any] = {}


class ErrorEvent(Struct, tag_field="event", tag="error", frozen=True):
    """The checks cannot run."""


class EndEvent(Struct, tag_field="event", tag="end", frozen=True):
    """The suite ran to its end."""


Event = StartEvent | BeginEvent | CheckEvent | RecordEvent | EndEvent
"""The events of a run that took place."""


def refuse_odd(event: Mapping[str, Any]) -> None:
    """Refuse a value that is not an event of the protocol.

    Raises:
        InfrastructureError: says what is invalid: another suite, or a damaged file.
    """
    said = event.get("suite") if isinstance(event, Mapping) else None
    if said not in (None, PROTOCOL):
        said = foreign.line(str(said), 40)
        raise InfrastructureError(f"the suite uses protocol {said}, not {PROTOCOL}")
    try:
        msgspec.convert(event, Event | ErrorEvent)
    except (msgspec.ValidationError, RecursionError) as error:
        why = foreign.line(str(error), 200)
        raise InfrastructureError(f"the suite wrote an invalid event: {why}") from None
