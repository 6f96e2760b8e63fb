"""The default stack that a megatron-core series should have, by dates, ranges and failures.

Pure. People declare the stacks; a declared stack that deviates from the rule gives the reason
(`exceptions` of a `[[stack]]`). The rule:

- **Date**: that of the first release of the series. It was not developed with later releases.
- **Transformer Engine**: the newest series that was out by then, in its newest patch that the
  release allows, in its requirements or an extra, and that has a torch extension; but none for
  which an expected failure of `restore[…]` (an `[[expect]]` with a range of TE) is declared with
  every ModelOpt.
- **torch**: the newest on the axis that was out both with megatron-core and with that TE, under
  the same conditions, for a CUDA for which that TE has a core library. If all of those are older
  than the axis, its oldest.
- **Newer torches**: for ModelOpt releases that require a newer one, the oldest that they allow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from mcore_compat.base.errors import MatrixError
from mcore_compat.core import combinations
from mcore_compat.core.cells import Cell, Request, Stack, format_name, parsed, series_of
from mcore_compat.core.matrix import Matrix
from mcore_compat.core.releases import Release, Releases

MCORE, MODELOPT = "megatron-core", "nvidia-modelopt"
TE, TORCH = "transformer-engine", "torch"
EXTENSION = "transformer-engine-torch"

RESTORE = "restore["
"""The start of the ids of checks that restore a default-spec checkpoint into the ModelOpt spec."""


def stack_of(
    series: str, python: str, matrix: Matrix, releases: Releases, te: str | None = None
) -> Stack:
    """The stack of a series by the rule; `te`: use this TE and choose only the rest.

    Raises:
        MatrixError: there is none; says why the first candidate is not possible.
        UsageError: the series has no release.
    """
    release, until = releases.newest(MCORE, series), first_of(series, releases).uploaded
    tes = out_with(release, TE, until, releases)
    reason = "no TE and torch that it allows were out at its release"
    for one in [releases.get(TE, te)] if te else tes:
        for torch in _torches(release, one, until, matrix, releases):
            stack = Stack(python=python, torch=torch.version, te=one.version)
            given = (TE,) if te else ()
            why = _refused(stack, release, given, matrix, releases)
            if not why:
                newer = newer_torches(stack.torch, matrix, releases)
                return replace(stack, newer_torch=newer)
            if reason.startswith("no TE"):
                reason = f"TE {stack.te} with torch {stack.torch}: {why}"
    raise MatrixError(f"megatron-core {series}: {reason}")


def deviations(series: str, matrix: Matrix, releases: Releases) -> Mapping[str, tuple[str, str]]:
    """The axes on which the declared stack deviates: by axis the declared version, and the one by
    the rule given the other declared pins."""
    stack = matrix.stacks[series]
    rule = stack_of(series, stack.python, matrix, releases)
    beside = rule if stack.te == rule.te else _beside(series, stack, matrix, releases)
    newer = newer_torches(stack.torch, matrix, releases)
    rows = {
        TE: (stack.te, rule.te),
        TORCH: (stack.torch, beside.torch),
        "newer-torch": (", ".join(stack.newer_torch), ", ".join(newer)),
    }
    return {axis: pair for axis, pair in rows.items() if pair[0] != pair[1]}


def _beside(series: str, stack: Stack, matrix: Matrix, releases: Releases) -> Stack:
    return stack_of(series, stack.python, matrix, releases, te=stack.te)


def first_of(series: str, releases: Releases) -> Release:
    """The oldest release of a megatron-core series, by date, that is not yanked.

    Raises:
        UsageError: there is none; names the nearest.
    """
    newest = releases.newest(MCORE, series)
    known = [r for r in releases.of(MCORE) if not r.yanked and series_of(r.version) == series]
    return min(known, key=lambda r: r.uploaded, default=newest)


def out_with(release: Release, package: str, until: str, releases: Releases) -> tuple[Release, ...]:
    """For each series of `package` that was out at a date (ISO 8601), the newest patch that a
    megatron-core release allows; newest first."""
    by_series: dict[str, list[Release]] = {}
    for one in releases.of(package):
        if not one.yanked and one.uploaded:
            by_series.setdefault(series_of(one.version), []).append(one)
    out = [rows for rows in by_series.values() if min(r.uploaded for r in rows) <= until]
    admitted = ([r for r in rows if admits(release, package, r.version)] for rows in out)
    return tuple(rows[-1] for rows in reversed(list(admitted)) if rows)


def admits(release: Release, package: str, version: str) -> bool:
    """Whether a version satisfies the requirements, and those of at least one extra, if any."""
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


def _torches(
    release: Release, te: Release, until: str, matrix: Matrix, releases: Releases
) -> Iterator[Release]:
    """The candidate torch releases for a TE, the best first."""
    axis = matrix.torch_series
    for torch in out_with(release, TORCH, min(until, te.uploaded), releases):
        if not axis or series_of(torch.version) in axis:
            yield torch
    if axis:
        yield releases.newest(TORCH, min(axis, key=parsed))


def newer_torches(torch: str, matrix: Matrix, releases: Releases) -> tuple[str, ...]:
    """For each ModelOpt release of the axis that does not allow `torch`, the oldest newer torch of
    the axis that it allows; each once, oldest first."""
    newest = sorted((releases.newest(TORCH, s).version for s in matrix.torch_series), key=parsed)
    line = [torch, *(version for version in newest if parsed(version) > parsed(torch))]
    asked: set[str] = set()
    for series in matrix.modelopt_series:
        release = releases.newest(MODELOPT, series)
        admitted = (v for v in line if combinations.requires(release, TORCH, v))
        asked.add(next(admitted, torch))
    return tuple(sorted(asked - {torch}, key=parsed))


def _refused(
    stack: Stack, release: Release, given: tuple[str, ...], matrix: Matrix, releases: Releases
) -> str:
    """Why a stack is not possible for a megatron-core release; empty if it is. Declared failures of
    the axes in `given` are ignored."""
    why = _impossible(stack, release, matrix, releases)
    for axis, version in ((TE, stack.te), (TORCH, stack.torch)):
        if axis not in given:
            why = why or _declared_failure(axis, version, release.version, matrix, releases)
    return why


def _declared_failure(
    axis: str, version: str, mcore: str, matrix: Matrix, releases: Releases
) -> str:
    """The reason of an expected failure to restore checkpoints with this TE or torch, for a
    megatron-core release with every ModelOpt; empty if none is declared."""
    modelopts = [releases.newest(MODELOPT, series).version for series in matrix.modelopt_series]
    for rule in matrix.expected:
        mine, other = (rule.te, rule.torch) if axis == TE else (rule.torch, rule.te)
        every = all(rule.covers(mcore, modelopt) for modelopt in modelopts)
        restores = any(check.startswith(RESTORE) for check in rule.checks)
        if restores and str(mine) and not str(other) and every and mine.contains(version):
            return rule.reason
    return ""


def _impossible(stack: Stack, release: Release, matrix: Matrix, releases: Releases) -> str:
    """Why a stack cannot be installed together with the newest ModelOpt of the axis that allows its
    Python and torch; empty if it can."""
    if stack.te not in {r.version for r in releases.of(EXTENSION)}:
        return "TE has no torch extension of that version"
    try:
        cuda = int(combinations.cuda_of(stack.torch, matrix, releases).split(".")[0])
    except MatrixError as error:
        return str(error)
    newest = [releases.newest(MODELOPT, s) for s in sorted(matrix.modelopt_series, key=parsed)]
    fits = [
        r.version
        for r in newest
        if SpecifierSet(r.requires_python).contains(f"{stack.python}.0")
        and combinations.requires(r, TORCH, stack.torch)
    ]
    modelopt = (fits or [newest[-1].version])[-1]
    names = Request(mcore=series_of(release.version), modelopt=series_of(modelopt))
    cell = Cell(
        name=format_name(names),
        mcore=release.version,
        modelopt=modelopt,
        te=stack.te,
        torch=stack.torch,
        python=stack.python,
        cuda=cuda,
    )
    return "; ".join(combinations.violations(cell, releases))
