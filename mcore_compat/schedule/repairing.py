"""Repairs: which release of a package that is not an axis makes a cell's failing checks work.

The package is the one that the failures point at. Its releases are tried in one environment, which
is changed in place: back from the lock's release in steps that double, then by bisection to the
newest one with which the failing check works. With that one the whole suite runs, and no check that
worked may fail.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from packaging.version import Version

from mcore_compat.analysis import suspects
from mcore_compat.analysis.bisect import halving
from mcore_compat.analysis.bisect.halving import CheckState
from mcore_compat.analysis.bisect.search import matching
from mcore_compat.base.errors import InfrastructureError, UsageError, nearest
from mcore_compat.core.cells import Cell
from mcore_compat.core.outcomes import FAILS, FAILURES, HOLDS, CheckOutcome
from mcore_compat.environments.wheelhouse import Unbuildable
from mcore_compat.index import package_index
from mcore_compat.resolve import locks, resolution
from mcore_compat.resolve.locks import Lock
from mcore_compat.resolve.resolution import Unresolvable
from mcore_compat.results import repairs, store, verdict_index
from mcore_compat.results.repairs import Repair, RepairedCheck, Tried
from mcore_compat.results.result import CheckResult, Result, empty_result, out_of_date, result_path
from mcore_compat.run import engine, machine, pipeline
from mcore_compat.run.check_sets import MAIN
from mcore_compat.run.context import Context, Options

MOST_STEPS = 8
"""Steps back or forward that double: more than 250 releases."""

ENVIRONMENT = "{}.repair"
"""The environment in which releases are tried; the cell's own stays unchanged."""


@dataclass(frozen=True, kw_only=True)
class Broken:
    """What to repair: a cell with its stored result, the checks that fail for one reason, and the
    package that the reason points at, in the release of the lock."""

    cell: Cell
    lock: Lock
    result: Result
    checks: tuple[str, ...]
    package: str
    locked: str

    @functools.cached_property
    def asked(self) -> str:
        """The one check that runs with each release: the quickest."""
        seconds = {c.check: c.seconds or 0.0 for c in self.result.checks if c.check in self.checks}
        return min(seconds, key=lambda check: (seconds[check], check))


def broken(name: str, package: str | None, check: str | None, here: Context) -> Broken | str:
    """What to repair in a cell; a text if there is nothing.

    `package`: only this one; `check`: only this check, or those that match a glob.

    Raises:
        UsageError: the cell has no result that is up to date, no such package or no such check.
    """
    cell = pipeline.chosen(name, here)
    lock, result = _as_run(cell, here)
    failing = [c for c in result.checks if c.outcome in FAILURES and c.failure]
    if check is not None:
        names = matching(check, (c.check for c in result.checks))
        if not names:
            every = [c.check for c in result.checks]
            raise UsageError(f'--check: {name} has no check "{check}"{nearest(check, every)}')
        failing = [c for c in failing if c.check in names]
    if not failing:
        return f"{name}: nothing fails" + (f" of {check}" if check else "")
    if package is not None:
        _known_package(package, lock, name)
    installed = suspects.InstalledPackages(result)
    for first in sorted(failing, key=lambda c: c.check):
        assert first.failure is not None
        named = installed.suspects(first.failure)
        suspect = package or next(iter(named), None)
        locked = lock.version(suspect) if suspect else None
        if suspect and locked:
            key = first.failure.fingerprint
            alike = [c.check for c in failing if c.failure and c.failure.fingerprint == key]
            return Broken(
                cell=cell,
                lock=lock,
                result=result,
                checks=tuple(alike),
                package=suspect,
                locked=locked,
            )
    return (
        f"{name}: no missing name and no frame of a failure is of a package other than the axes; "
        "try one with --package, or another release of an axis: nox -s bisect"
    )


def _as_run(cell: Cell, here: Context) -> tuple[Lock, Result]:
    """The cell's lock, and its result with this suite."""
    path = result_path(cell.name, machine.device_class(), here.workspace.results)
    why = "has no result yet"
    if path.exists() and here.workspace.lock(cell.name).exists():
        result, lock = store.load(path), locks.read(here.workspace.lock(cell.name))
        suite = MAIN.digest(here.workspace.suite)
        stale = out_of_date(result, lock=lock.digest, suite=suite, python=cell.python)
        if not stale and result.checks:
            return lock, result
        why = f"has no result to repair: {stale or 'no check ran'}"
    raise UsageError(f"{cell.name} {why}; run it first: nox -s {cell.name}")


def _known_package(package: str, lock: Lock, name: str) -> None:
    if not suspects.may_be(package):
        raise UsageError(f"--package: {package} is an axis, or comes with one: nox -s bisect")
    if lock.version(package) is None:
        known = [pin.name for pin in lock.all_pins]
        raise UsageError(f'--package: {name} has no "{package}"{nearest(package, known)}')


class Candidates(NamedTuple):
    """The releases to try; each line begins next to the lock's release."""

    older: tuple[str, ...]
    newer: tuple[str, ...]


def candidates(package: str, locked: str) -> Candidates:
    """The releases of a package, without yanked ones and pre-releases.

    Raises:
        InfrastructureError: the index did not answer, or has no release.
    """
    order = package_index.installable(package, package_index.resolvers_client())
    here = Version(locked)
    return Candidates(
        tuple(v for v in reversed(order) if Version(v) < here),
        tuple(v for v in order if Version(v) > here),
    )


@dataclass
class Trials:
    """The outcome of each release that was tried, by version."""

    ask: Callable[[str], Tried]
    seen: dict[str, Tried] = field(default_factory=dict)

    def state(self, version: str) -> CheckState:
        """Whether the check works with a release; each is tried once."""
        if version not in self.seen:
            self.seen[version] = self.ask(version)
        outcome = self.seen[version].outcome
        if outcome in HOLDS:
            return CheckState.GOOD
        return CheckState.BAD if outcome in FAILURES else CheckState.SILENT


def beside(line: Sequence[str], locked: str, trials: Trials) -> tuple[str, str] | None:
    """In a line of releases that begins next to the lock's: the first with which the check works,
    and the last before it with which it fails; None if it works with none that was tried.

    Follows the line in steps that double, then bisects what is between.
    """
    bad, place, step = -1, 0, 1
    for _ in range(MOST_STEPS):
        place = min(place, len(line) - 1)
        if place <= bad:
            return None
        state = trials.state(line[place])
        if state is CheckState.GOOD:
            break
        bad = place if state is CheckState.BAD else bad
        if place == len(line) - 1:
            return None
        place, step = place + step, step * 2
    else:
        return None
    # The good release first; at the end the lock's, or the last that failed.
    names = [*reversed(line[bad + 1 : place + 1]), line[bad] if bad >= 0 else locked]
    answer = halving.bisect(len(names), lambda at: trials.state(names[at]))
    return names[answer.last], names[answer.first]


def requirement(package: str, works: str, fails: str, between: Sequence[str]) -> str:
    """The requirement to pin: up to the first release that fails; if releases between could not
    run, only up to the one that works."""
    if Version(works) < Version(fails):
        return f"{package}<={works}" if between else f"{package}<{fails}"
    return f"{package}>={works}"


def search(what: Broken, here: Context, limit: float | None) -> Repair | str:
    """Run releases until a repair is found; a text if there is none.

    Raises:
        CompatError: an infrastructure error.
    """
    trials = Trials(functools.partial(_tried, what, here, limit))
    lines = candidates(what.package, what.locked)
    pair = None
    for line in lines:
        pair = pair or (beside(line, what.locked, trials) if line else None)
    tried = tuple(trials.seen[v] for v in sorted(trials.seen, key=Version))
    if pair is None:
        told = ", ".join(f"{t.version} {t.outcome}" for t in tried)
        return f"{what.asked} works with no release of {what.package} that was tried: {told}"
    works, fails = pair
    here.say(f"repair: the whole suite with {what.package} {works}")
    result, lock = _run(what, works, here, Options(limit=limit))
    return _repair(what, (works, fails), (result, lock), tried, lines)


def _repair(
    what: Broken,
    pair: tuple[str, str],
    ran: tuple[Result, Lock],
    tried: tuple[Tried, ...],
    lines: Candidates,
) -> Repair | str:
    """The repair, if the whole suite confirms it; else a text."""
    (works, fails), (result, lock) = pair, ran
    after = {c.check: c for c in result.checks}
    before = what.result.checks
    mended = [c.check for c in before if c.outcome in FAILS and _asked_well(after, c)]
    less = lost(before, after)
    if less or not any(_holds(after, c) for c in before if c.check in what.checks):
        why = f"{what.asked} failed in the run of the whole suite"
        if less:
            why = f"with it these checks fail or are missing: {', '.join(less)}"
        return f"{what.package} {works} does not repair it: {why}"
    low, high = sorted((Version(works), Version(fails)))
    between = [v for line in lines for v in line if low < Version(v) < high]
    pins = {pin.name: pin.version for pin in what.lock.all_pins}
    now = {pin.name: pin.version for pin in lock.all_pins}
    return Repair(
        cell=what.cell.name,
        device_class=result.device_class,
        taken=result.taken,
        lock=what.result.lock,
        suite=what.result.suite,
        te_extension=what.result.te_extension,
        package=what.package,
        requirement=requirement(what.package, works, fails, between),
        locked=what.locked,
        works=works,
        fails=fails,
        checks=tuple(
            RepairedCheck(
                check=name,
                outcome=after[name].outcome,
                condition=after[name].condition,
                reason=None if after[name].outcome in HOLDS else after[name].reason,
            )
            for name in sorted(mended)
        ),
        tried=tried,
        changes={
            name: (pins.get(name), now.get(name))
            for name in sorted({*pins, *now})
            if pins.get(name) != now.get(name)
        },
        installed=result.installed,
    )


def lost(before: Sequence[CheckResult], after: Mapping[str, CheckResult]) -> list[str]:
    """The checks that worked and no longer do, and those that failed and whose subject is missing
    now, which does not count as a repair."""
    gone = (None, CheckOutcome.UNSUPPORTED)
    ended = {c.check: after[c.check].outcome if c.check in after else None for c in before}
    return [
        c.check
        for c in before
        if (c.outcome in HOLDS and ended[c.check] not in HOLDS)
        or (c.outcome in FAILURES and ended[c.check] in gone)
    ]


def _asked_well(after: Mapping[str, CheckResult], before: CheckResult) -> bool:
    """Whether it no longer fails, also if it cannot run."""
    return before.check in after and after[before.check].outcome not in FAILS


def _holds(after: Mapping[str, CheckResult], before: CheckResult) -> bool:
    return before.check in after and after[before.check].outcome in HOLDS


def _tried(what: Broken, here: Context, limit: float | None, version: str) -> Tried:
    """The outcome of the check with a release."""
    options = Options(only=what.asked, limit=limit)
    try:
        result, _ = _run(what, version, here, options)
    except _UninstallableError as why:
        here.say(f"repair: {what.package} {version}: {why}")
        return Tried(version=version, outcome="unresolvable", why=str(why)[:500])
    check = next((c for c in result.checks if c.check == what.asked), None)
    if check is None:
        raise InfrastructureError(f"{what.asked} did not run with {what.package} {version}")
    here.say(f"repair: {what.package} {version}: {what.asked} is {check.outcome.value}")
    failure = f"{check.failure.type}: {check.failure.message}" if check.failure else ""
    why_not = next(iter(failure.splitlines()), "")[:500]
    return Tried(version=version, outcome=check.outcome.value, why=why_not)


class _UninstallableError(Exception):
    """A release cannot be installed in the cell."""


def _run(what: Broken, version: str, here: Context, options: Options) -> tuple[Result, Lock]:
    """Run the suite in the cell with another release of the package and whatever that requires;
    nothing is stored."""
    others = (pin for pin in what.cell.further if pin.partition("==")[0] != what.package)
    pinned = replace(
        what.cell,
        name=ENVIRONMENT.format(what.cell.name),
        further=(*others, f"{what.package}=={version}"),
    )
    here = replace(here, te_extension=what.result.te_extension)
    lock = resolution.make(
        pinned, here.matrix, here.releases, uv=here.uv, run=here.run, near=what.lock
    )
    if isinstance(lock, Unresolvable):
        raise _UninstallableError(lock.reason)
    ready = pipeline.ready_cell(pinned, lock, here)
    if isinstance(ready, Unbuildable):
        raise _UninstallableError(ready.reason)
    base = ready.started(
        empty_result(
            what.cell,
            device_class=machine.device_class(),
            lock=lock.digest,
            suite=MAIN.digest(here.workspace.suite),
        )
    )
    with engine.place_of(ready, MAIN, here, in_place=True) as place:
        return engine.ask(MAIN, base, place, options, here), lock


def repair(
    name: str, package: str | None, check: str | None, limit: float | None, here: Context
) -> Repair | str:
    """Find a cell's repair and store it beside its result; a text if there is none.

    Raises:
        CompatError: bad input, or an infrastructure error; nothing is stored then.
    """
    what = broken(name, package, check, here)
    if isinstance(what, str):
        return what
    here.say(
        f"repair: {what.asked} of {what.cell.name} points at {what.package}, {what.locked} in the "
        "lock; trying other releases of it"
    )
    found = search(what, here, limit)
    if isinstance(found, Repair):
        repairs.save(found, here.workspace.results)
        verdict_index.note(repairs.applied(what.result, found), here.workspace.verdicts)
    return found


def lines(found: Repair) -> list[str]:
    """A repair in words."""
    tried = ", ".join(f"{t.version} {t.outcome}" for t in found.tried)
    moved = ", ".join(
        f"{name} {old or 'none'} -> {new or 'none'}" for name, (old, new) in found.changes.items()
    )
    return [
        f"{found.cell}: works with {found.requirement}",
        f"  {', '.join(found.holding)}",
        f"  works at {found.works}, fails at {found.fails}; tried: {tried}",
        f"  changed pins: {moved}",
        f"  {found.condition}",
    ]
