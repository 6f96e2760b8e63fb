"""What the index has that the matrix lacks, and how new series join it. Pure: data to data.

Only a refresh sees which releases are new; they stay in `constraints/news.json` until all their
cells have run, so that an interrupted nightly run continues.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import tomlkit
from packaging.specifiers import SpecifierSet
from packaging.version import Version
from tomlkit.items import AoT, Comment, Whitespace

from mcore_compat.base import files
from mcore_compat.base.errors import MatrixError
from mcore_compat.core import combinations, stack_rule
from mcore_compat.core.cells import Cell, Stack, parsed, series_of
from mcore_compat.core.matrix import Matrix
from mcore_compat.core.releases import Release, Releases
from mcore_compat.schedule.plan import CellStatus

MCORE, MODELOPT = "megatron-core", "nvidia-modelopt"
TE, TORCH = "transformer-engine", "torch"

PYTHONS = 6
"""The number of Python series to try for one that a release admits."""


@dataclass(frozen=True, kw_only=True, order=True)
class NewRelease:
    """A release that stands for its series and whose cells have not all been run."""

    package: str
    version: str


def news(kept: Iterable[NewRelease], before: Releases, after: Releases) -> tuple[NewRelease, ...]:
    """The new releases: those `kept`, and those that `after` has and `before` lacks. Sorted.

    Only of megatron-core and ModelOpt, whose series make the cells, and only the newest release of
    a series. A package that `before` does not have at all has no new releases.
    """
    new = set(kept)
    for package in (MCORE, MODELOPT):
        known = {release.version for release in before.of(package)}
        versions = {release.version for release in after.of(package)} if known else set()
        new |= {NewRelease(package=package, version=version) for version in versions - known}
    return tuple(sorted(release for release in new if _stands(release, after)))


def _stands(new: NewRelease, releases: Releases) -> bool:
    """Whether a release is the newest of its series that was not yanked."""
    series = series_of(new.version)
    known = [r.version for r in releases.of(new.package) if not r.yanked]
    return [version for version in known if series_of(version) == series][-1:] == [new.version]


def dumps(new: Sequence[NewRelease]) -> str:
    """The text of `constraints/news.json`; `loads` reads it back."""
    return files.dump_json({"made_by": "nox -s refresh", "new": [asdict(n) for n in sorted(new)]})


def loads(text: str) -> tuple[NewRelease, ...]:
    """The releases in the text of `constraints/news.json`.

    Raises:
        MatrixError: the text is not valid.
    """
    try:
        new = [NewRelease(**{k: str(v) for k, v in row.items()}) for row in json.loads(text)["new"]]
        for release in new:
            Version(release.version)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MatrixError(f"news.json is not valid ({error}); remove it") from None
    return tuple(sorted(new))


def touched(
    states: Iterable[CellStatus], new: Sequence[NewRelease], *, every: bool = False
) -> tuple[str, ...]:
    """The cells to run: out of date, and of a new release or last run with an older patch of a
    series. With `every`, all that are out of date."""
    return tuple(
        state.cell.name
        for state in states
        if not state.fresh and (every or state.behind or any(_has(state.cell, n) for n in new))
    )


def unsettled(states: Sequence[CellStatus], new: Sequence[NewRelease]) -> tuple[NewRelease, ...]:
    """The new releases that have no cell yet, or a cell that has not run."""
    fresh = {n: [state.fresh for state in states if _has(state.cell, n)] for n in new}
    return tuple(n for n in new if not fresh[n] or not all(fresh[n]))


def _has(cell: Cell, new: NewRelease) -> bool:
    return {MCORE: cell.mcore, MODELOPT: cell.modelopt}.get(new.package) == new.version


@dataclass(frozen=True, kw_only=True)
class AxisGap:
    """Series of a package that its axis lacks; `newer` than all that are on it, or `older`."""

    package: str
    newer: tuple[str, ...]
    older: tuple[str, ...]


def missing(matrix: Matrix, releases: Releases) -> tuple[AxisGap, ...]:
    """What each declared axis lacks. Oldest first."""
    series_on = matrix.mcore_series, matrix.modelopt_series, matrix.te_series, matrix.torch_series
    gaps = []
    for package, axis in zip((MCORE, MODELOPT, TE, TORCH), series_on, strict=True):
        if not axis:
            continue
        series = dict.fromkeys(series_of(r.version) for r in releases.of(package) if not r.yanked)
        off = [s for s in series if s not in axis]
        newer = tuple(s for s in off if parsed(s) > max(map(parsed, axis)))
        older = tuple(s for s in off if s not in newer)
        gaps.append(AxisGap(package=package, newer=newer, older=older))
    return tuple(gaps)


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A series to join an axis. `stack`: the default stack of a megatron-core series; None for
    other packages, and if none fits: then it is `refused`, and `reason` says why."""

    package: str
    series: str
    reason: str
    stack: Stack | None = None
    refused: bool = False

    def line(self) -> str:
        """One line for the terminal."""
        where = " cannot join automatically" if self.refused else ""
        if self.stack is not None:
            where = f" on TE {self.stack.te}, torch {self.stack.torch}, python {self.stack.python}"
        return f"{self.package} {self.series}{where}: {self.reason}"


def proposals(matrix: Matrix, releases: Releases) -> tuple[Proposal, ...]:
    """The series that are newer than all on their axis; megatron-core's with a stack, those of TE
    and torch for cells with a non-default stack."""
    newer = {gap.package: gap.newer for gap in missing(matrix, releases)}
    joining = [
        Proposal(
            package=MODELOPT,
            series=series,
            reason=f"{releases.newest(MODELOPT, series).version} is out, on every stack",
        )
        for series in newer[MODELOPT]
    ]
    stacked = (_with_stack(series, matrix, releases) for series in newer[MCORE])
    others = (
        _off_stack(package, series, matrix, releases)
        for package in (TE, TORCH)
        for series in newer.get(package, ())
    )
    return (*stacked, *joining, *others)


def _off_stack(package: str, series: str, matrix: Matrix, releases: Releases) -> Proposal:
    """A series of TE or torch; refused if no cell can have it."""
    version = releases.newest(package, series).version
    why = ""
    if package == TORCH:
        try:
            combinations.cuda_of(version, matrix, releases)
        except MatrixError as error:
            why = str(error)
    elif version not in {release.version for release in releases.of(stack_rule.EXTENSION)}:
        why = f"TE {version} has no torch extension"
    reason = why or f"{version} is out, for cells with a non-default stack"
    return Proposal(package=package, series=series, reason=reason, refused=bool(why))


def _with_stack(series: str, matrix: Matrix, releases: Releases) -> Proposal:
    """The series on the stack that the stack rule gives it, with the Python of the newest declared
    series, or the next Python that the release admits."""
    release = releases.newest(MCORE, series)
    last = max(matrix.mcore_series, key=parsed)
    usual = matrix.stacks[last].python
    refused = Proposal(package=MCORE, series=series, refused=True, reason="")
    python = _python(release, usual)
    if python is None:
        why = f"it requires python {release.requires_python}, which no series from {usual} on meets"
        return replace(refused, reason=why)
    try:
        stack = stack_rule.stack_of(series, python, matrix, releases)
    except MatrixError as error:
        return replace(refused, reason=str(error).partition(": ")[2])
    first = stack_rule.first_of(series, releases)
    note = f"the newest TE that was out with {first.version}, and the newest torch with both"
    reason = (
        f"{note}, on {first.uploaded[:10]}, and fit one another; python as "
        f"megatron-core {last} where it admits that"
    )
    proposed = replace(stack, note=f"proposed: {note}")
    return replace(refused, refused=False, stack=proposed, reason=reason)


def _python(release: Release, usual: str) -> str | None:
    major, minor = Version(usual).release[:2]
    admitted = SpecifierSet(release.requires_python)
    choices = (f"{major}.{minor + step}" for step in range(PYTHONS))
    return next((p for p in choices if admitted.contains(f"{p}.0")), None)


def join(text: str, proposals: Sequence[Proposal]) -> str:
    """`matrix.toml` with the series of `proposals` on their axes and their stacks declared.

    Comments and layout stay; what is on an axis already is not added again.
    """
    document: Any = tomlkit.parse(text if text.endswith("\n") else text + "\n")
    added = False
    for proposal in proposals:
        axis = document["axes"][proposal.package]
        if proposal.refused or proposal.series in axis:
            continue
        axis.append(proposal.series)
        added = True
        if proposal.stack is not None:
            _append(document["stack"], proposal.series, proposal.stack)
    return tomlkit.dumps(document) if added else text


def _append(stacks: AoT, series: str, stack: Stack) -> None:
    """One `[[stack]]` after the last one, before the comment of whatever follows it."""
    table = tomlkit.table()
    pins = {"python": stack.python, "torch": stack.torch, "transformer-engine": stack.te}
    table.update({"for": [series], **pins, "note": stack.note})
    if stack.newer_torch:
        table["newer-torch"] = list(stack.newer_torch)
    # The parser counts blank lines and comments after a table as part of it.
    body = stacks[-1].value.body
    behind: list[Comment | Whitespace] = []
    while body and isinstance(item := body[-1][1], (Comment, Whitespace)):
        behind.append(item)
        body.pop()
    stacks[-1].add(tomlkit.nl())
    for item in reversed(behind):
        table.add(item)
    stacks.append(table)
