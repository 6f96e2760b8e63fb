"""What the index has that the matrix lacks, and how new series join it. Pure: data to data.

Which releases are new is a fact that only a refresh sees; it is kept in `constraints/news.json`
until all their cells have been run, so that a night that was cut short goes on.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import tomlkit
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version
from tomlkit.items import AoT, Array, Comment, Table, Whitespace

from mcore_compat.base import files
from mcore_compat.base.errors import MatrixError
from mcore_compat.core import combinations
from mcore_compat.core.cells import Cell, Request, Stack, format_name, parsed, series_of
from mcore_compat.core.matrix import Matrix
from mcore_compat.core.releases import Release, Releases
from mcore_compat.schedule.plan import CellState

PATH = files.ROOT / "constraints" / "news.json"

MCORE, MODELOPT = "megatron-core", "nvidia-modelopt"
TE, TORCH = "transformer-engine", "torch"

PYTHONS = 6
"""How many python series are looked at for one that a release admits."""


@dataclass(frozen=True, kw_only=True, order=True)
class NewRelease:
    """A release that stands for its series and whose cells have not all been run."""

    package: str
    version: str


def news(kept: Iterable[NewRelease], before: Releases, after: Releases) -> tuple[NewRelease, ...]:
    """What is new: what was kept, and what `after` has and `before` lacks. Sorted.

    Only of megatron-core and ModelOpt, whose series make the cells, and only releases that stand
    for their series. Of a package that was not known at all, nothing is new.
    """
    found = set(kept)
    for package in (MCORE, MODELOPT):
        known = {r.version for r in before.of(package)}
        if known:
            found |= {
                NewRelease(package=package, version=r.version)
                for r in after.of(package)
                if r.version not in known
            }
    return tuple(sorted(n for n in found if stands(n, after)))


def stands(new: NewRelease, releases: Releases) -> bool:
    """Whether a release is the newest of its series that was not withdrawn."""
    series = series_of(new.version)
    known = [
        r.version
        for r in releases.of(new.package)
        if not r.yanked and series_of(r.version) == series
    ]
    return bool(known) and known[-1] == new.version


def dumps(found: Sequence[NewRelease]) -> str:
    """The text of `constraints/news.json`; `loads` reads it back."""
    rows = [{"package": n.package, "version": n.version} for n in sorted(found)]
    return files.dump_json({"made_by": "nox -s refresh", "new": rows})


def loads(text: str) -> tuple[NewRelease, ...]:
    """What was kept.

    Raises:
        MatrixError: the text is not such a file's.
    """
    try:
        rows = json.loads(text)["new"]
        found = [NewRelease(package=str(r["package"]), version=str(r["version"])) for r in rows]
        for new in found:
            Version(new.version)
    except (ValueError, KeyError, TypeError) as error:
        raise MatrixError(f"news.json is not valid ({error}); remove it") from None
    return tuple(sorted(found))


def touched(
    known: Iterable[CellState], new: Sequence[NewRelease], *, every: bool = False
) -> tuple[str, ...]:
    """The cells to run: not fresh, and of a new release or last run with an older patch of a
    series. With `every`, all that are not fresh."""
    fresh = {(n.package, n.version) for n in new}
    return tuple(
        k.cell.name for k in known if not k.fresh and (every or k.behind or _of(k.cell, fresh))
    )


def unsettled(known: Sequence[CellState], new: Sequence[NewRelease]) -> tuple[NewRelease, ...]:
    """The new releases of which a cell is still to be run, or that have none yet."""
    return tuple(
        n
        for n in new
        if not (mine := [k for k in known if _of(k.cell, {(n.package, n.version)})])
        or not all(k.fresh for k in mine)
    )


def _of(cell: Cell, found: set[tuple[str, str]]) -> bool:
    return (MCORE, cell.mcore) in found or (MODELOPT, cell.modelopt) in found


@dataclass(frozen=True, kw_only=True)
class AxisGap:
    """Series of a package that its axis lacks; `newer` than all that are on it, or `older`."""

    package: str
    newer: tuple[str, ...]
    older: tuple[str, ...]


def missing(matrix: Matrix, releases: Releases) -> tuple[AxisGap, ...]:
    """What each declared axis lacks. Oldest first."""
    axes = {
        MCORE: matrix.mcore_series,
        MODELOPT: matrix.modelopt_series,
        TE: matrix.te_series,
        TORCH: matrix.torch_series,
    }
    found = []
    for package, on in axes.items():
        if not on:
            continue
        series = dict.fromkeys(series_of(r.version) for r in releases.of(package) if not r.yanked)
        off = [s for s in series if s not in on]
        newest = max(map(parsed, on))
        newer = tuple(s for s in off if parsed(s) > newest)
        older = tuple(s for s in off if s not in newer)
        found.append(AxisGap(package=package, newer=newer, older=older))
    return tuple(found)


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A series to join an axis. `stack` is megatron-core's own; None for ModelOpt, and where none
    could be proposed: `refused` then, and `reason` says why."""

    package: str
    series: str
    reason: str
    stack: Stack | None = None
    refused: bool = False

    def line(self) -> str:
        """One line for the terminal."""
        if self.refused:
            return f"{self.package} {self.series} cannot join by itself: {self.reason}"
        if self.stack is None:
            return f"{self.package} {self.series}: {self.reason}"
        s = self.stack
        return (
            f"{self.package} {self.series} on TE {s.te}, torch {s.torch}, python {s.python}: "
            f"{self.reason}"
        )


def proposals(matrix: Matrix, releases: Releases) -> tuple[Proposal, ...]:
    """The series that are newer than all on their axis; megatron-core's with a stack."""
    found = {m.package: m for m in missing(matrix, releases)}
    joining = [
        Proposal(
            package=MODELOPT,
            series=series,
            reason=f"{releases.newest(MODELOPT, series).version} is out, on every stack",
        )
        for series in found[MODELOPT].newer
    ]
    return (*(_with_stack(s, matrix, releases) for s in found[MCORE].newer), *joining)


def _with_stack(series: str, matrix: Matrix, releases: Releases) -> Proposal:
    """The newest TE, and with it the newest torch, that were out when the series' newest release
    was, that it admits, and that can be installed together."""
    release = releases.newest(MCORE, series)
    last = max(matrix.mcore_series, key=parsed)
    usual = matrix.stacks[last][-1]
    python = _python(release, usual.python)
    if python is None:
        return Proposal(
            package=MCORE,
            series=series,
            refused=True,
            reason=f"it requires python {release.requires_python}, which no series after "
            f"{usual.python} is",
        )
    first = ""
    for te in _candidates(TE, release, releases):
        for torch in _candidates(TORCH, release, releases):
            stack = Stack(
                python=python,
                torch=torch,
                te=te,
                note=f"proposed: the newest TE and torch that were out with {release.version}",
            )
            why = _impossible(stack, series, release, matrix, releases)
            if not why:
                return Proposal(
                    package=MCORE, series=series, stack=stack, reason=_reason(release, last)
                )
            first = first or f"TE {te} with torch {torch}: {why}"
    return Proposal(
        package=MCORE,
        series=series,
        refused=True,
        reason=first or "no TE and torch that it admits were out with it",
    )


def _reason(release: Release, last: str) -> str:
    return (
        f"the newest TE and torch that were out with {release.version}, on "
        f"{release.uploaded[:10]}, and fit one another; python as megatron-core {last} where "
        f"it admits that"
    )


def _python(release: Release, usual: str) -> str | None:
    major, minor = Version(usual).release[:2]
    admitted = SpecifierSet(release.requires_python)
    choices = (f"{major}.{minor + step}" for step in range(PYTHONS))
    return next((p for p in choices if admitted.contains(f"{p}.0")), None)


def _candidates(package: str, release: Release, releases: Releases) -> list[str]:
    """The releases of `package` that were out with `release` and that it admits; newest first."""
    return [
        r.version
        for r in reversed(releases.of(package))
        if not r.yanked
        and r.uploaded
        and r.uploaded <= release.uploaded
        and _admits(release, package, r.version)
    ]


def _admits(release: Release, package: str, version: str) -> bool:
    """Whether a version is within what is required, and within what one of the extras asks for."""
    plain: list[SpecifierSet] = []
    extras: list[SpecifierSet] = []
    for text in release.requires:
        need = Requirement(text)
        if canonicalize_name(need.name) == package:
            of_extra = need.marker is not None and "extra" in str(need.marker)
            (extras if of_extra else plain).append(need.specifier)
    return all(s.contains(version) for s in plain) and (
        not extras or any(s.contains(version) for s in extras)
    )


def _impossible(
    stack: Stack, series: str, release: Release, matrix: Matrix, releases: Releases
) -> str:
    """Why a stack cannot be installed, beside the newest ModelOpt of the axis; empty if it can."""
    if stack.te not in {r.version for r in releases.of("transformer-engine-torch")}:
        return "TE has no torch extension of that version"
    try:
        cuda = int(combinations.cuda_of(stack.torch, matrix, releases).split(".")[0])
    except MatrixError as error:
        return str(error)
    newest = [releases.newest(MODELOPT, s) for s in sorted(matrix.modelopt_series, key=parsed)]
    fits = [
        r.version for r in newest if SpecifierSet(r.requires_python).contains(f"{stack.python}.0")
    ]
    modelopt = (fits or [newest[-1].version])[-1]
    cell = Cell(
        name=format_name(Request(mcore=series, modelopt=series_of(modelopt))),
        mcore=release.version,
        modelopt=modelopt,
        te=stack.te,
        torch=stack.torch,
        python=stack.python,
        cuda=cuda,
    )
    return "; ".join(combinations.violations(cell, releases))


def join(text: str, found: Sequence[Proposal]) -> str:
    """`matrix.toml` with the series of `found` on their axes and their stacks declared.

    Comments and layout stay; what is on an axis already is not added again.
    """
    wanted = [p for p in found if not p.refused]
    document = tomlkit.parse(text if text.endswith("\n") else text + "\n")
    axes, stacks = document["axes"], document["stack"]
    assert isinstance(axes, Table)
    assert isinstance(stacks, AoT)
    added = False
    for proposal in wanted:
        axis = axes[proposal.package]
        assert isinstance(axis, Array)
        if proposal.series in axis:
            continue
        axis.append(proposal.series)
        added = True
        if proposal.stack is not None:
            _append(stacks, proposal.series, proposal.stack)
    return tomlkit.dumps(document) if added else text


def _append(stacks: AoT, series: str, stack: Stack) -> None:
    """One `[[stack]]` after the last one, before the comment of whatever follows it."""
    table = tomlkit.table()
    table["for"] = [series]
    table["python"] = stack.python
    table["torch"] = stack.torch
    table["transformer-engine"] = stack.te
    table["note"] = stack.note
    # To the parser, the blank lines and comments after a table are its own.
    body = stacks[-1].value.body
    behind = []
    while body and isinstance(body[-1][1], (Comment, Whitespace)):
        behind.append(body.pop()[1])
    stacks[-1].add(tomlkit.nl())
    for item in reversed(behind):
        assert isinstance(item, (Comment, Whitespace))
        table.add(item)
    stacks.append(table)
