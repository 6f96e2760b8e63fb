"""Pins that repair a cell: another release of a package that is not an axis, with which checks work
that fail with the lock's.

A repair is a text file beside its result, `reports/results/CELL/repair.DEVICE_CLASS.json`. It is
valid as long as lock and suite are those of the result. The result stays as it is; a repaired check
is published as `works-with`, with the requirement as its condition. The whole suite ran once with
that one pin.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct
from packaging.requirements import InvalidRequirement, Requirement

from mcore_compat.base import files, foreign
from mcore_compat.base.errors import ResultError
from mcore_compat.core import profiles
from mcore_compat.core.outcomes import FAILS, HOLDS, CellOutcome, CheckOutcome
from mcore_compat.results.result import (
    CellName,
    CheckId,
    CheckResult,
    Digest,
    Moment,
    Result,
)

STEM = "repair"
FORMAT = 1

Line = Annotated[str, Meta(pattern=r"^[^\x00-\x1f\x7f]*\Z", max_length=2000)]


class Tried(Struct, frozen=True, kw_only=True):
    """A release of the package that was tried, the outcome of the check with it, and why."""

    version: Line
    outcome: Line
    why: Line = ""


class RepairedCheck(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A check that fails with the lock and not with the repair: it works, or was blocked and cannot
    run (`reason`). `condition`: public code under which it works, if not with all defaults."""

    check: CheckId
    outcome: CheckOutcome
    condition: str | None = None
    reason: str | None = None


class Repair(Struct, frozen=True, kw_only=True):
    """With `requirement` (`transformers<4.50`) the `checks` work that fail with `locked`.

    `lock`, `suite`: digests of its result. `works`: the release with which the whole suite ran, the
    newest that repairs; `fails`: the nearest that does not. `tried`: all tried releases, oldest
    first. `changes`: by package, the lock's version and the repaired one (None: not installed);
    `installed`: all installed packages.
    """

    cell: CellName
    device_class: str
    taken: Moment
    lock: Digest
    suite: Digest
    te_extension: Literal["real", "stand-in"] = "real"
    package: Line
    requirement: Line
    locked: Line
    works: Line
    fails: Line
    checks: tuple[RepairedCheck, ...]
    tried: tuple[Tried, ...]
    changes: Mapping[str, tuple[str | None, str | None]]
    installed: Mapping[str, str]
    format: int = FORMAT

    def holds_for(self, result: Result) -> bool:
        """Whether it is of this result: of its lock, suite and extension of TE."""
        mine = (self.cell, self.device_class, self.lock, self.suite, self.te_extension)
        return result.complete and mine == (
            result.cell,
            result.device_class,
            result.lock,
            result.suite,
            result.te_extension,
        )

    @property
    def holding(self) -> tuple[str, ...]:
        """The checks that work with it."""
        return tuple(c.check for c in self.checks if c.outcome in HOLDS)

    @property
    def condition(self) -> str:
        """The repair as a line for a shell."""
        return f"pip install '{self.requirement}'"


def path_of(cell: str, device_class: str, folder: Path) -> Path:
    """The file of a cell's repair."""
    return folder / cell / f"{STEM}.{device_class}.json"


def save(repair: Repair, folder: Path) -> Path:
    """Write a repair beside its result; returns the file.

    Raises:
        ResultError: it contradicts itself.
        InfrastructureError: the disk is full or not writable.
    """
    path = path_of(repair.cell, repair.device_class, folder)
    text = files.dump_json(foreign.cleaned(msgspec.to_builtins(repair)))
    parse(text, f"{path.parent.name}/{path.name}")
    files.write_text(path, text)
    return path


def parse(text: str, where: str) -> Repair:
    """A repair from its text.

    Raises:
        ResultError: not JSON, not of the format, or inconsistent; names the remedy.
    """
    try:
        repair = msgspec.convert(foreign.decode(text), Repair)
        why = _contradiction(repair)
    except (msgspec.MsgspecError, ValueError, RecursionError, ResultError) as error:
        why = str(error)
    if why:
        cell = where.partition("/")[0]
        raise ResultError(f"{where}: {why}; replace it: nox -s repair -- {cell}")
    return repair


def _contradiction(repair: Repair) -> str:
    """A contradiction in a repair; empty if there is none."""
    if repair.format != FORMAT:
        return f"it is not of the format {FORMAT}"
    try:
        need = Requirement(repair.requirement)
        admits = {v: need.specifier.contains(v) for v in (repair.works, repair.fails)}
    except (InvalidRequirement, ValueError) as error:
        return str(error).partition("\n")[0]
    if need.name != repair.package or not need.specifier or need.marker or need.url:
        return f'"{repair.requirement}" is not a range of {repair.package}'
    if not admits[repair.works] or admits[repair.fails]:
        return f"{repair.requirement} does not separate {repair.works} from {repair.fails}"
    if repair.installed.get(repair.package) != repair.works:
        return f"{repair.package} {repair.works} was not installed"
    outcomes = {c.outcome for c in repair.checks}
    if not outcomes & HOLDS or outcomes & FAILS:
        return "it repairs no check"
    return ""


def load(path: Path) -> Repair:
    """The repair at `path`; FileNotFoundError if there is none, ResultError as `parse`."""
    repair = parse(
        path.read_text(encoding="utf-8", errors="replace"), f"{path.parent.name}/{path.name}"
    )
    if (repair.cell, f"{STEM}.{repair.device_class}.json") != (path.parent.name, path.name):
        raise ResultError(f"{path.parent.name}/{path.name} is of {repair.cell}: move it there")
    return repair


def load_all(results: Iterable[Result], folder: Path) -> dict[tuple[str, str], Repair]:
    """By cell and device class: the repairs that are valid for these results.

    Raises:
        ResultError: a file is corrupt.
    """
    repairs: dict[tuple[str, str], Repair] = {}
    for result in results:
        path = path_of(result.cell, result.device_class, folder)
        if path.exists() and (repair := load(path)).holds_for(result):
            repairs[result.cell, result.device_class] = repair
    return repairs


def applied(result: Result, repair: Repair | None) -> Result:
    """A result as it is published: repaired checks are `works-with`, under the requirement. Never
    to be stored; `installed` still has the lock's versions."""
    if repair is None:
        return result
    mended = {c.check: c for c in repair.checks}
    checks = tuple(
        _mended(c, mended[c.check], repair) if c.check in mended and c.outcome in FAILS else c
        for c in result.checks
    )
    outcome = result.outcome
    if outcome is not CellOutcome.ERROR:
        outcome = profiles.outcome(profiles.points(checks))
    return replace(result, outcome=outcome, checks=checks)


def _mended(check: CheckResult, by: RepairedCheck, repair: Repair) -> CheckResult:
    if by.outcome not in HOLDS:
        return replace(check, outcome=by.outcome, failure=None, reason=by.reason)
    lines = [repair.condition, *([by.condition] if by.condition else [])]
    why = f"with {repair.package} {repair.locked}, which the lock has, it is {check.outcome.value}"
    return replace(
        check,
        outcome=CheckOutcome.WORKS_WITH,
        condition="\n".join(lines),
        reason=f"{why}: {check.reason}" if check.reason else why,
    )


def applied_to_all(
    results: Iterable[Result], folder: Path
) -> tuple[tuple[Result, ...], dict[tuple[str, str], Repair]]:
    """Results as they are published, and the repairs used for that; raises as `load_all`."""
    every = tuple(results)
    repairs = load_all(every, folder)
    return tuple(applied(e, repairs.get((e.cell, e.device_class))) for e in every), repairs
