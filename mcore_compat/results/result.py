"""The one result format: what each check showed, with everything needed to trust and repeat it.

A result is a file `reports/results/CELL/CHECK_SET.DEVICE_CLASS.json`, whatever ran the checks. Its
types are the dataclasses below; reading, writing and validation come from them (msgspec).
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict

from msgspec import Meta

from mcore_compat.core.cells import Cell
from mcore_compat.core.outcomes import CellOutcome, CheckOutcome
from mcore_compat.core.profiles import Points, points

FORMAT = 2
DEVICE_CLASSES = ("host", "gpu")
MAIN = "main"
"""The check set that gives a cell its verdict."""

REAL, STAND_IN = "real", "stand-in"
"""The torch extension of Transformer Engine that ran: the release's own, or one without kernels."""

EXCHANGE = "exchange"
"""The check set whose checks load what other cells saved: `sources`."""

CellName = Annotated[str, Meta(pattern="^compat-")]
Moment = Annotated[str, Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\Z")]
"""ISO 8601, UTC."""

Digest = Annotated[str, Meta(pattern=r"^[0-9A-Za-z ._+-]*\Z", max_length=100)]
"""SHA-256; empty if there is nothing to digest."""

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*\Z", max_length=200)]
"""Of a feature, a record, a check set."""

CheckId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+:\[\]-]*\Z", max_length=300)]
"""Of a check, its kind, or its family."""

MOST_SECONDS = 1e9
Seconds = Annotated[float, Meta(ge=0, le=MOST_SECONDS)]


VariableName = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*\Z")]
VariableValue = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_<>/.*+:=,@%~ -]*\Z")]
"""Names and values are printed as lines for a shell: without characters that are special in
quotes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """Why a check failed. `gpu_independent`: why it would be the same with a GPU (host only)."""

    type: str
    message: str
    frame: str
    fingerprint: Annotated[str, Meta(pattern=r"^[0-9a-f]{12}\Z")]
    traceback: str
    gpu_independent: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckResult:
    """How one check ended, after `seconds` (None: not recorded); `details` is what it recorded.

    `feature`: the use that it belongs to; None in results of older suites. `format`: of
    quantization, if it is about one (`fp8`). `condition`, only of `works-with`: public code under
    which it works; without it, it fails as `failure` says.
    """

    check: CheckId
    kind: CheckId
    family: CheckId | None
    outcome: CheckOutcome
    seconds: Seconds | None
    reason: str | None
    failure: Failure | None
    details: Mapping[str, Any]
    feature: Name | None = None
    format: Name | None = None
    condition: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """Data for comparing releases, without an effect on verdicts; `failure`: why it is
    incomplete."""

    seconds: Seconds | None
    failure: Failure | None
    details: Mapping[str, Any]


FLAPPING = "flapping"
"""The detail of a check that ended differently when it ran again: its outcomes, in order."""

LEFT_OUT = "left_out"
"""The detail of a check that did not run because of the modules that it names, which are stand-ins
here; then it says nothing about the packages."""

RECORDS = frozenset({"signatures", "version-guards"})
"""Kinds of records that older suites had as checks; they are read as records."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reason:
    """Why no check of a cell ran; `help`: what would change that. `cause`, only of `unbuildable`:
    the package, and the property of the machine for which it was not built."""

    kind: str
    message: str
    help: str
    cause: str | None = None


class Differs(TypedDict):
    """A package that was installed in another version than the lock's; None: not installed."""

    lock: str
    there: str | None


class Base(TypedDict):
    """A run over packages that were installed before (a vendor's container, for example): the cell
    whose lock was used, how installed packages differ from it, which packages of the lock were
    installed, which requirements were not met, and the patterns of packages that were left out.

    `changed`: by package, how it differs from the file of the lock's hash; `toolkit`: the CUDA
    version of the nvcc that packages could compile with.
    """

    cell: CellName
    differs: dict[str, Differs]
    installed: list[str]
    unmet: list[str]
    without: list[str]
    changed: NotRequired[dict[str, str]]
    toolkit: NotRequired[str | None]


@dataclass(frozen=True, kw_only=True)
class Source:
    """A cell whose checkpoints were loaded: its lock and pins, the digest of its checkpoints'
    manifests, when they were loaded, and in which ways."""

    lock: Digest
    manifests: Digest
    pins: Mapping[str, str]
    taken: Moment
    ways: tuple[str, ...]


class CheckEndings:
    """How the checks of a result ended, whatever time they took. Results that ended alike share one
    (`store`): what follows from it is then computed once for all of them."""

    def __init__(self, checks: tuple[CheckResult, ...]) -> None:
        self.checks = checks
        """Their `seconds` are those of one of the results."""

    @cached_property
    def points(self) -> Points:
        """Outcome by point."""
        return points(self.checks)

    @cached_property
    def families(self) -> tuple[str, ...]:
        """The families that ran, sorted."""
        return tuple(sorted({c.family for c in self.checks if c.family}))


@dataclass(frozen=True, kw_only=True)
class Result:
    """A check set in a cell, on a device class. `complete`: all of its checks ran.

    `outcome` is a verdict on the cell for the check set `main` alone. `suite` is the digest of the
    check set. `base` is None if the environment was installed from the lock. `sources`: by name,
    the cells whose checkpoints were loaded (`exchange`). `records`: by kind. `variables`: what has
    to be set for Transformer Engine to be imported there (`environments.plain_import`; None: not
    known). `te_extension`: a stand-in has no kernels and no ABI (`environments.te_extension`).
    """

    check_set: Name = MAIN
    cell: CellName
    device_class: Literal["host", "gpu"]
    outcome: CellOutcome
    reason: Reason | None
    taken: Moment
    pins: Mapping[str, str]
    cuda: Annotated[int, Meta(ge=0)]
    lock: Digest
    suite: Digest
    wheels: Mapping[str, Digest]
    platform: Mapping[str, Any] = field(default_factory=dict)
    installed: Mapping[str, str] = field(default_factory=dict)
    complete: bool = True
    checks: tuple[CheckResult, ...] = ()
    base: Base | None = None
    sources: Mapping[str, Source] = field(default_factory=dict)
    records: Mapping[Name, Record] = field(default_factory=dict)
    variables: Mapping[VariableName, VariableValue] | None = None
    te_extension: Literal["real", "stand-in"] = "real"

    @cached_property
    def endings(self) -> CheckEndings:
        return CheckEndings(self.checks)

    @property
    def points(self) -> Points:
        """Outcome by point."""
        return self.endings.points

    def recorded(self, kind: str) -> Mapping[str, Any]:
        """The data of a kind of record; empty if there is none."""
        return self.records[kind].details if kind in self.records else {}

    def families(self) -> tuple[str, ...]:
        """The families that ran, sorted."""
        return self.endings.families

    def by_kind(self) -> dict[str, dict[str, CheckResult]]:
        """By kind: the checks by family, "" for a check without one."""
        checks: dict[str, dict[str, CheckResult]] = {}
        for c in self.checks:
            checks.setdefault(c.kind, {})[c.family or ""] = c
        return checks


def now() -> str:
    """The current time in the format of a result."""
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def result_path(cell: str, device_class: str, folder: Path, check_set: str = MAIN) -> Path:
    """The file of a cell's result."""
    return folder / cell / f"{check_set}.{device_class}.json"


def out_of_date(
    result: Result, *, lock: str, suite: str, python: str, te_extension: str | None = None
) -> str:
    """Why a result is out of date, in a few words; empty if it is up to date: the same lock, suite
    and python, complete, and with the given `te_extension`, if there is one.

    The digests of locally built wheels do not count, since no two builds give the same bytes: the
    lock names their sources, and the cell all that their ABI depends on.
    """
    if not result.complete:
        return "the run was interrupted"
    if result.outcome is CellOutcome.ERROR:
        return "an infrastructure error"
    if result.lock != lock:
        return "the lock changed"
    if result.suite != suite and result.outcome is not CellOutcome.UNBUILDABLE:
        return "the suite changed"
    if result.pins.get("python", python) != python:
        return "the python changed"
    if te_extension and result.checks and result.te_extension != te_extension:
        return f"it is of the {result.te_extension} extension of Transformer Engine"
    return ""


def empty_result(
    cell: Cell,
    *,
    device_class: str,
    lock: str = "",
    suite: str = "",
    wheels: Mapping[str, str] | None = None,
    check_set: str = MAIN,
) -> Result:
    """The result of a cell before any check ran."""
    return Result(
        check_set=check_set,
        cell=cell.name,
        device_class=device_class_of(device_class),
        outcome=CellOutcome.UNTESTED,
        reason=None,
        taken=now(),
        pins=cell.pins,
        cuda=cell.cuda,
        lock=lock,
        suite=suite,
        wheels=dict(wheels or {}),
    )


def device_class_of(name: str) -> Literal["host", "gpu"]:
    """The device class of a name, as its literal type."""
    return "gpu" if name == "gpu" else "host"
