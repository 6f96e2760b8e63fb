"""Stage suite → evidence: what each check showed, with everything needed to trust and repeat it."""

from __future__ import annotations

import contextlib
import datetime
import functools
import gc
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mcore_compat.base import files
from mcore_compat.base.errors import EvidenceError
from mcore_compat.core.cells import Cell
from mcore_compat.core.outcomes import CellOutcome, CheckOutcome
from mcore_compat.results import fingerprint, large_values

FOLDER = files.ROOT / "reports" / "evidence"
SCHEMA = Path(__file__).with_name("schemas") / "evidence.schema.json"
DEVICE_CLASSES = ("host", "gpu")


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """Why a check failed. `gpu_independent`: why it would be the same with a GPU (host only)."""

    type: str
    message: str
    frame: str
    fingerprint: str
    traceback: str
    gpu_independent: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckResult:
    """How one check ended, after `seconds`; `details` is what it recorded."""

    check: str
    kind: str
    family: str | None
    outcome: CheckOutcome
    seconds: float
    reason: str | None
    failure: Failure | None
    details: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Why a cell did not come to its checks; `help` is what would change that."""

    kind: str
    message: str
    help: str


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """A cell on a device class. `taken`: ISO 8601, UTC; `complete`: the suite came to its end.

    `base` is None where what ran is what the lock says. Else it ran over packages that were there
    before, and `base` tells whose lock it was and how that differs (`offline.collection`).
    """

    cell: str
    device_class: str
    outcome: CellOutcome
    reason: Reason | None
    taken: str
    pins: Mapping[str, str]
    cuda: int
    lock: str
    suite: str
    wheels: Mapping[str, str]
    platform: Mapping[str, Any] = field(default_factory=dict)
    installed: Mapping[str, str] = field(default_factory=dict)
    complete: bool = True
    checks: tuple[CheckResult, ...] = ()
    base: Mapping[str, Any] | None = None

    def families(self) -> tuple[str, ...]:
        """The families that were asked, in the suite's order of first appearance, sorted."""
        return tuple(sorted({c.family for c in self.checks if c.family}))


@dataclass(frozen=True)
class Fresh:
    """Evidence that still holds."""


@dataclass(frozen=True)
class Stale:
    """Evidence that does not hold any more; `why` in a few words."""

    why: str


def now() -> str:
    """This moment as evidence spells it."""
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def path_of(cell: str, device_class: str, folder: Path = FOLDER) -> Path:
    """Where a cell's evidence lies."""
    return folder / cell / f"{device_class}.json"


def freshness(found: Evidence, *, lock: str, suite: str, python: str) -> Fresh | Stale:
    """Whether evidence still holds: the same lock, suite, python, and it ran to its end.

    Of locally built wheels it records the bytes, which do not count: the lock names their sources,
    and what their ABI depends on is the cell's; no two builds give the same bytes.
    """
    if not found.complete:
        return Stale("the run was interrupted")
    if found.outcome is CellOutcome.ERROR:
        return Stale("the surroundings failed")
    if found.lock != lock:
        return Stale("the lock changed")
    if found.suite != suite and found.outcome is not CellOutcome.UNBUILDABLE:
        return Stale("the suite changed")
    if found.pins.get("python", python) != python:
        return Stale("the python changed")
    return Fresh()


def start(
    cell: Cell,
    *,
    device_class: str,
    lock: str = "",
    suite: str = "",
    wheels: Mapping[str, str] | None = None,
    outcome: CellOutcome = CellOutcome.UNTESTED,
    reason: Reason | None = None,
) -> Evidence:
    """Evidence of a cell before any check: what it is, and why it got no further."""
    return Evidence(
        cell=cell.name,
        device_class=device_class,
        outcome=outcome,
        reason=reason,
        taken=now(),
        pins=cell.pins,
        cuda=cell.cuda,
        lock=lock,
        suite=suite,
        wheels=dict(wheels or {}),
    )


def dumps(found: Evidence, apart: dict[str, str] | None = None) -> str:
    """The file's text; sorted. With `apart`, large values are put there instead, by their digest
    (see `mcore_compat.results.large_values`)."""
    checks = [{**asdict(c), "outcome": c.outcome.value} for c in found.checks]
    if apart is not None:
        checks = [large_values.compact(row, apart) for row in checks]
    data = {
        "schema": 1,
        "cell": found.cell,
        "device_class": found.device_class,
        "outcome": found.outcome.value,
        "reason": asdict(found.reason) if found.reason else None,
        "taken": found.taken,
        "pins": dict(found.pins),
        "cuda": found.cuda,
        "digests": {"lock": found.lock, "suite": found.suite, "wheels": dict(found.wheels)},
        "platform": dict(found.platform),
        "installed": dict(found.installed),
        "complete": found.complete,
    }
    if found.base is not None:
        data["base"] = found.base
    return files.dump_json(data, rows={"checks": checks})


@functools.cache
def _is_valid() -> Callable[[Any], bool]:
    """The schema, quickly; what is wrong is said by `_validator`."""
    from jsonschema_rs import validator_for

    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    valid: Callable[[Any], bool] = validator_for(schema).is_valid
    return valid


@functools.cache
def _validator() -> Callable[[Any], Iterator[Any]]:
    from jsonschema import Draft202012Validator

    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    iterate: Callable[[Any], Iterator[Any]] = Draft202012Validator(schema).iter_errors
    return iterate


def parse(text: str, where: str, *, validate: bool = True, folder: Path | None = None) -> Evidence:
    """Evidence from its text; `validate=False` where speed matters and the file is our own.

    `folder`: of all evidence, where the values lie that are kept apart. Without it they are left
    out: a digest stands in their place, and a traceback is empty.

    Raises:
        EvidenceError: not JSON, or not of the schema, or a value that is kept apart is missing
            or corrupt; names the place and the way out.
    """
    try:
        data = json.loads(text)
    except ValueError as error:
        raise EvidenceError(f"{where} is corrupt ({error}); {_way_out(where)}") from None
    if validate and not _is_valid()(data):
        problem = next(_validator()(data), None)
        if problem is not None:
            at = problem.json_path
            raise EvidenceError(f"{where}: {at}: {problem.message[:200]}; {_way_out(where)}")
    try:
        rows = data["checks"]
        whole = [
            large_values.expand(r, folder) if folder else large_values.without(r) for r in rows
        ]
        return _evidence({**data, "checks": whole})
    except EvidenceError as error:
        raise EvidenceError(f"{where}: {error}; {_way_out(where)}") from None
    except (KeyError, TypeError, ValueError) as error:
        raise EvidenceError(f"{where} is corrupt ({error!r}); {_way_out(where)}") from None


def _way_out(where: str) -> str:
    return f"run the cell again with --force: nox -s {Path(where).parent.name or 'CELL'} -- --force"


@functools.cache
def _failure(
    type_: str, message: str, frame: str, traceback: str, gpu_independent: str | None
) -> Failure:
    """Of a thousand cells that fail alike, one is kept in memory."""
    # The fingerprint is made of the rest, and anew: causes that are told apart better by now are
    # so everywhere.
    return Failure(
        type=type_,
        message=message,
        frame=frame,
        fingerprint=fingerprint.of(type_, message, frame),
        traceback=traceback,
        gpu_independent=gpu_independent,
    )


@functools.cache
def _same(text: str) -> str:
    """The first string that is equal: names of checks and reasons are alike in all cells."""
    return text


_NONE: Mapping[str, Any] = {}


def _details(said: Mapping[str, Any]) -> Mapping[str, Any]:
    if not said:
        return _NONE
    return {_same(k): _same(v) if type(v) is str else v for k, v in said.items()}


def _check(row: Mapping[str, Any]) -> CheckResult:
    said = row["failure"]
    family, reason = row["family"], row["reason"]
    return CheckResult(
        check=_same(row["check"]),
        kind=_same(row["kind"]),
        family=family and _same(family),
        outcome=CheckOutcome(row["outcome"]),
        seconds=row["seconds"],
        reason=reason and _same(reason),
        failure=_failure(
            said["type"],
            said["message"],
            said["frame"],
            said["traceback"],
            said["gpu_independent"],
        )
        if said
        else None,
        details=_details(row["details"]),
    )


def _evidence(data: Mapping[str, Any]) -> Evidence:
    checks = tuple(_check(row) for row in data["checks"])
    return Evidence(
        cell=data["cell"],
        device_class=data["device_class"],
        outcome=CellOutcome(data["outcome"]),
        reason=Reason(**data["reason"]) if data["reason"] else None,
        taken=data["taken"],
        pins=data["pins"],
        cuda=data["cuda"],
        lock=data["digests"]["lock"],
        suite=data["digests"]["suite"],
        wheels=data["digests"]["wheels"],
        platform=data["platform"],
        installed={_same(k): _same(v) for k, v in data["installed"].items()},
        complete=data["complete"],
        checks=checks,
        base=data.get("base"),
    )


def load(path: Path, *, validate: bool = True, whole: bool = True) -> Evidence:
    """The evidence at `path`; not `whole`: without the values that are kept apart.

    Raises:
        FileNotFoundError: there is none.
        EvidenceError: as `parse`.
    """
    where = str(Path(path.parent.name) / path.name)
    text = path.read_text(encoding="utf-8", errors="replace")
    folder = path.parent.parent if whole else None
    return parse(text, where, validate=validate, folder=folder)


def save(found: Evidence, folder: Path = FOLDER) -> Path:
    """Write evidence whole or not at all.

    A failure of the surroundings, or an interrupted run, never replaces complete evidence that
    is there already.

    Raises:
        EvidenceError: it does not follow its own schema; nothing is written.
        InfrastructureError: the disk is full.
    """
    path = path_of(found.cell, found.device_class, folder)
    apart: dict[str, str] = {}
    text = dumps(found, apart)
    parse(text, str(path.name))
    weak = found.outcome is CellOutcome.ERROR or not found.complete
    if weak and path.exists():
        try:
            before = load(path, validate=False, whole=False)
        except EvidenceError:
            before = None
        if before is not None and before.complete and before.outcome is not CellOutcome.ERROR:
            return path
    with large_values.lock():
        large_values.write(apart, folder)  # first: what a file of evidence names is there
        files.write_text(path, text)
    return path


def load_all(folder: Path = FOLDER) -> tuple[Evidence, ...]:
    """All evidence below `folder`, sorted by cell and device class.

    Raises:
        EvidenceError: a file is corrupt.
    """
    paths = sorted(folder.glob(f"compat-*{os.sep}*.json"))
    with _nothing_collected():
        return tuple(load(path) for path in paths)


@contextlib.contextmanager
def _nothing_collected() -> Iterator[None]:
    """Nothing that is loaded is garbage: looking for it takes a quarter of the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
