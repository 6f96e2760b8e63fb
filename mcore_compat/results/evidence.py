"""The one result format: what each check showed, with everything needed to trust and repeat it.

A result is a file `reports/results/CELL/CHECK_SET.DEVICE_CLASS.json`, whatever ran the checks. Its
types are the dataclasses below; reading, writing and validation come from them (msgspec).
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import gc
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import msgspec
from msgspec import Meta

from mcore_compat.base import files
from mcore_compat.base.errors import EvidenceError
from mcore_compat.core.cells import Cell
from mcore_compat.core.outcomes import CellOutcome, CheckOutcome, cell_outcome
from mcore_compat.results import fingerprint, large_values

FORMAT = 2
DEVICE_CLASSES = ("host", "gpu")
MAIN = "main"
"""The check set that gives a cell its verdict."""

EXCHANGE = "exchange"
"""The check set whose checks load what other cells saved: `sources`."""

CellName = Annotated[str, Meta(pattern="^compat-")]
Moment = Annotated[str, Meta(pattern="^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}Z$")]
"""ISO 8601, UTC."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """Why a check failed. `gpu_independent`: why it would be the same with a GPU (host only)."""

    type: str
    message: str
    frame: str
    fingerprint: Annotated[str, Meta(pattern="^[0-9a-f]{12}$")]
    traceback: str
    gpu_independent: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckResult:
    """How one check ended, after `seconds` (None: not recorded); `details` is what it recorded.

    `feature`: what a person does that it is about; None in results of a suite that did not say.
    `condition`, only of `works-with`: public code under which it holds; without it, it fails as
    `failure` says.
    """

    check: str
    kind: str
    family: str | None
    outcome: CheckOutcome
    seconds: Annotated[float, Meta(ge=0)] | None
    reason: str | None
    failure: Failure | None
    details: Mapping[str, Any]
    feature: str | None = None
    condition: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """Data for comparing releases, which counts for no verdict; `failure`: why it is not whole."""

    seconds: Annotated[float, Meta(ge=0)] | None
    failure: Failure | None
    details: Mapping[str, Any]


RECORDS = frozenset({"signatures", "version-guards"})
"""Kinds of records that older suites asked as checks; they are read as records."""


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Why a cell did not come to its checks; `help` is what would change that."""

    kind: str
    message: str
    help: str


class Differs(TypedDict):
    """A package that was there in another version than the lock's; None: not at all."""

    lock: str
    there: str | None


class Base(TypedDict):
    """What ran over packages that were there before (a vendor's container, for example): whose
    lock was taken, how what was there differs from it, what of the lock was installed, which
    requirements were not met, and the patterns of what was left out.

    `changed`: by package, in what it differs from the file of the lock's hash; `toolkit`: the CUDA
    of the nvcc that packages could compile with.
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

    lock: str
    manifests: str
    pins: Mapping[str, str]
    taken: Moment
    ways: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """A check set in a cell, on a device class. `complete`: all of its checks were asked.

    `outcome` is a verdict on the cell for the check set `main` alone. `suite` is the digest of the
    check set. `base` is None where what ran is what the lock says. `sources`: by name, the cells
    whose checkpoints were loaded (`exchange`). `records`: by kind. `variables`: what has to be set
    for Transformer Engine to be imported there (`environments.plain_import`; None: not known).
    """

    check_set: str = MAIN
    cell: CellName
    device_class: Literal["host", "gpu"]
    outcome: CellOutcome
    reason: Reason | None
    taken: Moment
    pins: Mapping[str, str]
    cuda: int
    lock: str
    suite: str
    wheels: Mapping[str, str]
    platform: Mapping[str, Any] = field(default_factory=dict)
    installed: Mapping[str, str] = field(default_factory=dict)
    complete: bool = True
    checks: tuple[CheckResult, ...] = ()
    base: Base | None = None
    sources: Mapping[str, Source] = field(default_factory=dict)
    records: Mapping[str, Record] = field(default_factory=dict)
    variables: Mapping[str, str] | None = None

    def recorded(self, kind: str) -> Mapping[str, Any]:
        """What was recorded of a kind; empty where nothing was."""
        return self.records[kind].details if kind in self.records else {}

    def families(self) -> tuple[str, ...]:
        """The families that were asked, sorted."""
        return tuple(sorted({c.family for c in self.checks if c.family}))

    def by_kind(self) -> dict[str, dict[str, CheckResult]]:
        """By kind: the checks by family, empty for one that is of none."""
        checks: dict[str, dict[str, CheckResult]] = {}
        for c in self.checks:
            checks.setdefault(c.kind, {})[c.family or ""] = c
        return checks


def now() -> str:
    """This moment as evidence spells it."""
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def path_of(cell: str, device_class: str, folder: Path, check_set: str = MAIN) -> Path:
    """Where a cell's evidence lies."""
    return folder / cell / f"{check_set}.{device_class}.json"


def stale(result: Evidence, *, lock: str, suite: str, python: str) -> str:
    """Why evidence does not hold any more, in a few words; empty where it does: the same lock,
    suite, python, and it ran to its end.

    Of locally built wheels it records the bytes, which do not count: the lock names their sources,
    and what their ABI depends on is the cell's; no two builds give the same bytes.
    """
    if not result.complete:
        return "the run was interrupted"
    if result.outcome is CellOutcome.ERROR:
        return "the surroundings failed"
    if result.lock != lock:
        return "the lock changed"
    if result.suite != suite and result.outcome is not CellOutcome.UNBUILDABLE:
        return "the suite changed"
    return "" if result.pins.get("python", python) == python else "the python changed"


def start(
    cell: Cell,
    *,
    device_class: str,
    lock: str = "",
    suite: str = "",
    wheels: Mapping[str, str] | None = None,
    check_set: str = MAIN,
) -> Evidence:
    """Evidence of a cell before any check: what it is."""
    return Evidence(
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
    """The device class of a name, for the types' sake."""
    return "gpu" if name == "gpu" else "host"


def dumps(result: Evidence, apart: dict[str, str] | None = None) -> str:
    """The file's text: sorted, the checks last, each a line. With `apart`, large values are put
    there instead, by their digest (see `mcore_compat.results.large_values`)."""
    data = msgspec.to_builtins(replace(result))  # msgspec leaves out what only the class has
    rows = data.pop("checks")
    for row in rows:
        for name in ("feature", "condition"):
            if row[name] is None:
                del row[name]
    if apart is not None:
        rows = [large_values.compact(row, apart) for row in rows]
        data["records"] = {
            kind: large_values.compact(row, apart) for kind, row in data["records"].items()
        }
    for name in ("base", "sources", "records"):  # most results have not all of them
        if not data[name]:
            del data[name]
    if data["variables"] is None:
        del data["variables"]
    return files.json_with_rows({**data, "format": FORMAT}, "checks", rows)


def parse(text: str, where: str, *, folder: Path | None = None) -> Evidence:
    """Evidence from its text.

    `folder`: of all evidence, where the values lie that are kept apart. Without it they are left
    out: a digest stands in their place, and a traceback is empty.

    Raises:
        EvidenceError: not JSON, or not of the format, or a value that is kept apart is missing
            or corrupt; names the place and the way out.
    """
    try:
        data = msgspec.json.decode(text)
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise EvidenceError(f"it is not of the format {FORMAT}")
        checks = [_whole(row, folder) for row in data["checks"]]
        records = {kind: _whole(row, folder) for kind, row in data.get("records", {}).items()}
        older = {row["kind"]: row for row in checks if row["kind"] in RECORDS}
        for kind, row in older.items():
            records[kind] = {name: row[name] for name in ("seconds", "failure", "details")}
        data["checks"] = [row for row in checks if row["kind"] not in RECORDS]
        data["records"] = records
        data["installed"] = _interned(data.get("installed", {}))
        result = msgspec.convert(data, Evidence)
        return _refreshed(_judged_anew(result) if older else result)
    except (EvidenceError, msgspec.MsgspecError) as error:
        raise EvidenceError(f"{where}: {error}; {way_out(where)}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise EvidenceError(f"{where} is corrupt ({error!r}); {way_out(where)}") from None


def _whole(row: dict[str, Any], folder: Path | None) -> dict[str, Any]:
    """The row of a check or record, its texts shared; with what is kept apart where there is a
    folder to look in."""
    whole = large_values.expand(row, folder) if folder else large_values.without(row)
    for name in ("details", "failure"):
        whole[name] = _interned(whole[name])
    interned: dict[str, Any] = _interned(whole)
    return interned


def _judged_anew(result: Evidence) -> Evidence:
    """With the verdict that its checks give, of which some were none."""
    if result.check_set != MAIN or not result.complete or result.outcome is CellOutcome.ERROR:
        return result
    return replace(result, outcome=cell_outcome((c.kind, c.outcome) for c in result.checks))


def _interned(values: Any) -> Any:
    """A mapping, where it is one, whose texts are the same objects in all cells: most are alike,
    and of thousands of cells they are most of the memory."""
    if type(values) is not dict:
        return values
    return {_same(k): _same(v) if type(v) is str else v for k, v in values.items()}


@functools.cache
def _same(text: str) -> str:
    """The first string that is equal."""
    return text


def _refreshed(result: Evidence) -> Evidence:
    """With the fingerprints made anew: causes that are told apart better by now are so everywhere.

    Raises:
        EvidenceError: a check that is broken does not say why, one that works under a condition
            not under which, or one that loads not of whom.
    """
    checks, loads = [], tuple(f"restore-from[{name}:" for name in result.sources)
    for check in result.checks:
        failure = check.failure
        if failure is None and check.outcome is CheckOutcome.BROKEN:
            raise EvidenceError(f"{check.check} is broken, and has no failure")
        conditional = check.outcome is CheckOutcome.WORKS_WITH
        if conditional and not (check.condition and failure):
            raise EvidenceError(f"{check.check} is works-with, and has no condition or no failure")
        if check.condition and not conditional:
            raise EvidenceError(f"{check.check} is {check.outcome}, and has a condition")
        if result.check_set == EXCHANGE and not check.check.startswith(loads):
            raise EvidenceError(f"{check.check} is of no cell whose checkpoints were loaded")
        if failure is not None and result.check_set == MAIN:
            anew = fingerprint.of(failure.type, failure.message, failure.frame)
            if anew != failure.fingerprint:
                check = replace(check, failure=replace(failure, fingerprint=anew))
        checks.append(check)
    return replace(result, checks=tuple(checks))


def way_out(where: str) -> str:
    """What puts right a file of evidence that is of no use, by its cell's folder and its name."""
    check_set = Path(where).name.partition(".")[0]
    if check_set == "exchange":
        return "remove it and run nox -s exchange"
    options = f"--{check_set} --force" if check_set in ("ranks", "gpu") else "--force"
    cell = Path(where).parent.name or "CELL"
    return f"run the cell again with --force: nox -s {cell} -- {options}"


def load(path: Path, *, whole: bool = True) -> Evidence:
    """The evidence at `path`; not `whole`: without the values that are kept apart.

    Raises:
        FileNotFoundError: there is none.
        EvidenceError: as `parse`, or it is of another cell, check set or device class than its
            place says.
    """
    where = f"{path.parent.name}/{path.name}"
    text = path.read_text(encoding="utf-8", errors="replace")
    result = parse(text, where, folder=path.parent.parent if whole else None)
    name = f"{result.cell}/{result.check_set}.{result.device_class}.json"
    if name != where:
        raise EvidenceError(f"{where} is that of {name}; {way_out(where)}")
    return result


def save(result: Evidence, folder: Path) -> Path:
    """Write evidence whole or not at all.

    A failure of the surroundings, or an interrupted run, never replaces complete evidence that is
    there already; of another set than the main one, not where that is of the same lock and checks.
    What two interrupted runs have asked is added up. Variables that only the older knew stay where
    it is of the same lock and base.

    Raises:
        EvidenceError: it does not follow its own format; nothing is written.
        InfrastructureError: the disk is full.
    """
    path = path_of(result.cell, result.device_class, folder, result.check_set)
    unsure = result.outcome is CellOutcome.ERROR or not result.complete
    before = _readable(path) if unsure or result.variables is None else None
    if before and unsure:
        if _outranks(before, result):
            return path
        result = added(before, result)
    if before and (before.lock, before.base) == (result.lock, result.base):
        result = _with_variables(result, before.variables)
    apart: dict[str, str] = {}
    text = dumps(result, apart)
    parse(text, f"{path.parent.name}/{path.name}")
    with large_values.lock():
        large_values.write(apart, folder)  # first: what a file of evidence names is there
        files.write_text(path, text)
    return path


def _with_variables(result: Evidence, known: Mapping[str, str] | None) -> Evidence:
    """With these where it knows of none by itself."""
    return result if result.variables is not None else replace(result, variables=known)


def _readable(path: Path) -> Evidence | None:
    """What lies there; None where nothing does, or it is corrupt: then it is replaced."""
    try:
        return load(path)
    except (FileNotFoundError, EvidenceError):
        return None


def _outranks(before: Evidence, result: Evidence) -> bool:
    same = (before.lock, before.suite) == (result.lock, result.suite)
    whole = before.complete and before.outcome is not CellOutcome.ERROR
    return whole and (same or result.check_set == MAIN)


_SAME = ("check_set", "cell", "device_class", "lock", "suite", "pins", "base")
_MACHINE = ("gpu", "driver", "python")
"""What must be equal for the checks of two runs to be one result."""


def added(before: Evidence, after: Evidence) -> Evidence:
    """Both as one result, where neither came to its end and both are of the same lock, checks, base
    and machine; else `after` alone. Of a check that both asked, the later run's outcome counts."""
    if before.complete or any(getattr(before, name) != getattr(after, name) for name in _SAME):
        return after
    if any(before.platform.get(name) != after.platform.get(name) for name in _MACHINE):
        return after
    older, newer = sorted((before, after), key=lambda result: result.taken)
    checks = {check.check: check for check in (*older.checks, *newer.checks)}
    return replace(
        _with_variables(newer, older.variables),
        checks=tuple(checks[name] for name in sorted(checks)),
        records={**older.records, **newer.records},
    )


def load_all(folder: Path, check_set: str = MAIN) -> tuple[Evidence, ...]:
    """All evidence of a check set below `folder`, sorted by cell and device class.

    Raises:
        EvidenceError: a file is corrupt.
    """
    paths = sorted(folder.glob(f"compat-*/{check_set}.*.json"))
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
