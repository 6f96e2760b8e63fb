"""The result file that a run on another machine leaves for each cell: the suite's events and their
origin.

The types below define reading and validation; `verification` compares it with the local workspace.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from mcore_compat.base import foreign
from mcore_compat.base.errors import ResultError
from mcore_compat.results.suite_events import Event, StartEvent

Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]


class SuitePart(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """The part of the suite that ran, with the digest of its checks."""

    name: str
    digest: Digest


class BaseReport(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """The existing packages that a cell ran over. `changed`: by package, the change of a wheel that
    does not have the lock's hash; `toolkit`: the CUDA of the nvcc available to packages."""

    changed: dict[str, str]
    installed: list[str]
    toolkit: str | None
    unmet: list[str]
    without: list[str]


class NodeResult(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """One file. `complete`: the run ended and ran all checks; `part`: None for the main suite;
    `folders`: paths of the machine that it ran on, which are removed from stored texts."""

    schema: Literal[1]
    cell: Annotated[str, Meta(pattern=r"^compat-[A-Za-z0-9.+!_-]+$")]
    taken: Annotated[str, Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}Z$")]
    complete: bool
    lock: Digest
    suite: Digest
    part: SuitePart | None = None
    bundle: Digest
    wheels: dict[str, Digest]
    base: BaseReport | None
    folders: list[Annotated[str, Meta(pattern=r"^/[^/]")]]
    events: Annotated[list[Event], Meta(min_length=1)]

    @property
    def checks(self) -> list[str]:
        """The checks that the run should execute."""
        starts = (event for event in self.events if isinstance(event, StartEvent))
        return [check for start in starts for check in start.checks]


def parse(text: str, where: str) -> NodeResult:
    """Parse the text of a result file.

    Raises:
        ResultError: it is not JSON or does not follow the schema; names the place in it.
    """
    try:
        data = foreign.decode(text)
    except ValueError as error:
        raise ResultError(f"{where} cannot be read: {error}") from None
    try:
        return msgspec.convert(data, NodeResult)
    except msgspec.ValidationError as error:
        reason, _, place = str(error).rpartition(" - at `")
        place = _numbered(place.rstrip("`") or "$", data)
        raise ResultError(f"{where}: {place}: {foreign.line(reason or str(error), 200)}") from None


def _numbered(place: str, data: Any) -> str:
    """The place with the index of the event, which msgspec leaves out."""
    if not place.startswith("$.events[...]"):
        return place
    for number, event in enumerate(data["events"]):
        try:
            msgspec.convert(event, Event)
        except msgspec.ValidationError:
            return place.replace("[...]", f"[{number}]", 1)
    return place
