"""Verifies the result of a bundle's run against the local locks and suite.

A run over packages that the machine already had is never a result of the cell of the lock: it gets
the name of the combination that really ran, and `base` lists the differences from the lock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import cast

import msgspec
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from mcore_compat.base.errors import LockError, ResultError, UsageError, nearest
from mcore_compat.core import combinations
from mcore_compat.core.cells import Cell, format_name, parse_name, series_of
from mcore_compat.core.matrix import Matrix
from mcore_compat.core.outcomes import CellOutcome
from mcore_compat.core.releases import Releases
from mcore_compat.core.workspace import Workspace
from mcore_compat.offline.node.install import same
from mcore_compat.offline.node_result import BaseReport, NodeResult
from mcore_compat.resolve import locks
from mcore_compat.resolve.locks import Lock
from mcore_compat.results.from_events import Builder
from mcore_compat.results.result import MAIN, Base, Reason, Result, empty_result
from mcore_compat.results.suite_checks import Declared
from mcore_compat.results.suite_events import CheckEvent, EndEvent, Event, StartEvent

SUBJECTS = ("megatron-core", "nvidia-modelopt")

CUT_SHORT = Reason(
    kind="cut-short",
    message="the run was cut short, or ran only some of the checks",
    help="run the bundle again",
)

MOMENT = "%Y-%m-%dT%H:%M:%SZ"
SKEW = timedelta(minutes=10)
"""How far another machine's clock may be ahead."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What results are verified with: the matrix, the releases, the digests of the suite and of its
    parts by name, and the known checks by check set; `workspace` has the locks and results."""

    workspace: Workspace
    matrix: Matrix
    releases: Releases
    suite: str
    parts: Mapping[str, str] = field(default_factory=dict)
    checks: Mapping[str, Mapping[str, Declared]] = field(default_factory=dict)


def verified(result: NodeResult, reference: Reference) -> Result:
    """The result to store, from a node's result. For a part of the suite, its `suite` is the part's
    digest. An interrupted run has only the checks that ended, and is not complete.

    Raises:
        ResultError: it is for another lock or suite, is damaged, or contradicts itself.
        LockError: the local lock is for other releases.
        UsageError: there is no such cell, or it has no lock here.
    """
    path = reference.workspace.lock(result.cell)
    if parse_name(result.cell) is None or not path.exists():
        raise UsageError(f"there is no lock of {result.cell} here")
    lock = locks.read(path)
    if result.lock != lock.digest:
        raise ResultError(
            f"it is for another lock of {result.cell} ({result.lock[:12]}, here "
            f"{lock.digest[:12]}); make a new bundle"
        )
    suite = _suite(result, reference)
    _refuse_moment(result.taken)
    cell = _cell(result.cell, lock, reference)
    start = _start(result.events, complete=result.complete)
    check_set = result.part.name if result.part else MAIN
    if reference.checks.get(check_set):
        _refuse_made_up(result, start.checks, reference.checks[check_set])
    _refuse_platform(start, cell)
    empty = empty_result(
        cell,
        device_class=start.device_class,
        lock=result.lock,
        suite=suite,
        wheels=result.wheels,
        check_set=check_set,
    )
    builder = Builder(replace(empty, taken=result.taken), result.folders)
    for event in result.events:
        builder.take(msgspec.to_builtins(event))
    cell_result = builder.result()
    if not result.complete:
        main = cell_result.check_set == MAIN
        outcome = CellOutcome.ERROR if main else cell_result.outcome
        cell_result = replace(cell_result, complete=False, outcome=outcome, reason=CUT_SHORT)
    installed = _by_name(cell_result.installed.items())
    pinned = _by_name((pin.name, pin.version) for pin in lock.all_pins)
    _refuse_wheels(result, lock)
    if result.base is None:
        # Local builds add a suffix to a version.
        public = [{n: v.partition("+")[0] for n, v in of.items()} for of in (installed, pinned)]
        if not same(*public):
            raise ResultError("the installed packages differ from the lock")
        return cell_result
    return _over(cell_result, cell, pinned, installed, result.base, reference)


def _suite(result: NodeResult, reference: Reference) -> str:
    """The digest of the suite, or part, that ran; it must equal the local one."""
    digests = [("suite", result.suite, reference.suite)]
    if result.part:
        name = result.part.name
        if name not in reference.parts:
            raise ResultError(f'$.part.name: the suite has no part "{name}"')
        digests.append((f"{name} part of the suite", result.part.digest, reference.parts[name]))
    for name, digest, ours in digests:
        if digest != ours:
            raise ResultError(
                f"it is for another {name} ({digest[:12]}, here {ours[:12]}); make a new bundle"
            )
    return digests[-1][1]


def _refuse_moment(taken: str) -> None:
    """Refuse an invalid timestamp, and one in the future: it would outrank all later results."""
    try:
        moment = datetime.strptime(taken, MOMENT).replace(tzinfo=timezone.utc)
    except ValueError:
        raise ResultError(f"taken: invalid timestamp {taken}") from None
    if moment > datetime.now(timezone.utc) + SKEW:
        raise ResultError(f"taken: {taken} is in the future; set the clock there or here")


def _start(events: Sequence[Event], *, complete: bool) -> StartEvent:
    """The first event. Refuses events that are not from one run, with one result for each check, or
    at most one if the run was interrupted."""
    start = events[0]
    if not isinstance(start, StartEvent) or (complete and not isinstance(events[-1], EndEvent)):
        raise ResultError("the suite did not come to its end")
    if any(isinstance(event, StartEvent) for event in events[1:]) or any(
        isinstance(event, EndEvent) for event in events[:-1]
    ):
        raise ResultError("its events are from more than one run")
    if not start.checks:
        raise ResultError("$.events[0].checks: it is empty")
    ended = Counter(event.check for event in events if isinstance(event, CheckEvent))
    wanted = Counter(start.checks)
    names = {*ended, *wanted} if complete else {*ended}
    wrong = sorted(name for name in names if (ended[name], wanted[name]) != (1, 1))
    if wrong:
        raise ResultError(
            f"its checks are not those it announced, each once: {wrong[0]!r}"
            + (f" and {len(wrong) - 1} more" if wrong[1:] else "")
        )
    return start


def _refuse_made_up(
    result: NodeResult, asked: Sequence[str], declared: Mapping[str, Declared]
) -> None:
    """Refuse checks that the suite does not have or declares differently, and missing checks of a
    complete run."""
    made_up = sorted({*asked} - {*declared})
    if made_up:
        hint = nearest(made_up[0], declared)
        raise ResultError(f"the suite has no check {made_up[0]}{hint}")
    left_out = sorted({*declared} - {*asked})
    if left_out and result.complete:
        more = f" and {len(left_out) - 1} more" if left_out[1:] else ""
        raise ResultError(f"it is marked complete but did not run {left_out[0]}{more}")
    for event in result.events:
        if isinstance(event, CheckEvent):
            said = Declared(event.kind, event.family, event.feature, event.format)
            if said != declared[event.check]:
                raise ResultError(
                    f"{event.check} has {_of(said)}; the suite declares "
                    f"{_of(declared[event.check])}"
                )


def _of(check: Declared) -> str:
    return (
        f"kind {check.kind}, family {check.family}, feature {check.feature}, format {check.format}"
    )


def _refuse_platform(start: StartEvent, cell: Cell) -> None:
    """Refuse another Python than the cell's, and a GPU without name or version."""
    platform = start.platform
    if str(platform.get("python")).rpartition(".")[0] != cell.python:
        raise ResultError(f"it ran on python {platform.get('python')}")
    names = ("gpu", "capability", "driver")
    missing = [n for n in names if not (isinstance(platform.get(n), str) and platform[n])]
    if start.device_class == "gpu" and missing:
        raise ResultError(f"its GPU lacks: {', '.join(missing)}")


def _cell(name: str, lock: Lock, reference: Reference) -> Cell:
    """The cell of a name; its lock must have the same releases."""
    cell = combinations.named(name, reference.matrix, reference.releases)
    if dict(lock.axes) == {**cell.pins, "cuda": str(cell.cuda)}:
        return cell
    raise LockError(f"the lock of {name} is for other releases; remake it: nox -s lock -- {name}")


def _by_name(versions: Iterable[tuple[str, str]]) -> dict[str, str]:
    return {canonicalize_name(name): version for name, version in versions}


def _refuse_wheels(result: NodeResult, lock: Lock) -> None:
    """Refuse other wheelhouse wheels than the lock's; over a base there may be fewer."""
    try:
        names = {str(parse_wheel_filename(name)[0]) for name in result.wheels}
    except InvalidWheelFilename as error:
        raise ResultError(str(error)) from None
    wanted = {canonicalize_name(pin.name) for pin in lock.source_only}
    if not names <= wanted or (result.base is None and names != wanted):
        raise ResultError("its locally built wheels are not those of the lock")


def _over(
    cell_result: Result,
    cell: Cell,
    pinned: Mapping[str, str],
    installed: Mapping[str, str],
    base: BaseReport,
    reference: Reference,
) -> Result:
    """The result of the combination that really ran, under its name."""
    for name in SUBJECTS:
        if installed.get(name) != cell.pins[name]:
            raise ResultError(f"{name} {installed.get(name)} ran, not {cell.pins[name]}")
    te = installed.get("transformer-engine") or installed.get("transformer-engine-torch")
    if te is None or "torch" not in installed:
        raise ResultError("torch or transformer-engine was not installed")
    try:
        torch, te = str(Version(installed["torch"])), str(Version(te))
    except InvalidVersion as error:
        raise ResultError(str(error)) from None
    pins = {**cell.pins, "torch": torch, "transformer-engine": te}
    differs = {
        name: {"lock": version, "there": installed.get(name)}
        for name, version in pinned.items()
        if installed.get(name) != version
    }
    cuda = str(cell_result.platform.get("cuda") or "").partition(".")[0]
    return replace(
        cell_result,
        cell=name_of(cell, te, torch, reference),
        pins=pins,
        cuda=int(cuda) if cuda.isdigit() else cell.cuda,
        base=cast("Base", {"cell": cell.name, "differs": differs, **msgspec.to_builtins(base)}),
    )


def name_of(cell: Cell, te: str, torch: str, reference: Reference) -> str:
    """The name of the cell of these releases; a version that is not a release of the index, such as
    a vendor's build, is spelt out."""
    named = parse_name(cell.name)
    assert named is not None
    request = replace(
        named,
        te=_word("transformer-engine", te, reference.releases),
        torch=_word("torch", torch, reference.releases),
        python=cell.python,
    )
    try:
        return combinations.cell(request, reference.matrix, reference.releases).name
    except UsageError:
        return format_name(replace(request, python=named.python))


def _word(package: str, version: str, releases: Releases) -> str:
    if all(version != r.version for r in releases.of(package)):
        return version
    series = series_of(version)
    return series if releases.newest(package, series).version == version else version
