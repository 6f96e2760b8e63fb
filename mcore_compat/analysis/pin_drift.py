"""Compare requirements files with the published results: whether their pins are a tested
combination, which pins differ from the lock of a cell, and which the code of another pinned release
does not accept. Nothing is installed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mcore_compat.analysis import doctor, recommend, requirements_file
from mcore_compat.analysis.around import code
from mcore_compat.analysis.around.locked import LockedVersions
from mcore_compat.analysis.around.release_ranges import ReleaseRanges
from mcore_compat.analysis.around.versions import meets
from mcore_compat.analysis.package_origin import TE
from mcore_compat.analysis.published import Compatibility
from mcore_compat.analysis.remarks import NOTE, Remark, fault
from mcore_compat.analysis.requirements_file import Entry
from mcore_compat.analysis.te_parts import CORES
from mcore_compat.base import data
from mcore_compat.base.data import DataError
from mcore_compat.base.errors import UsageError
from mcore_compat.core.cells import AXES
from mcore_compat.core.matrix import Matrix
from mcore_compat.core.profiles import Profile
from mcore_compat.environments.scan import Installed
from mcore_compat.environments.version_guards import VersionRange


@dataclass(frozen=True, kw_only=True)
class PackageFacts:
    """What is known without results: the locks of tested cells, which versions the code of each
    release accepts, and the declared matrix."""

    locked: LockedVersions
    ranges: ReleaseRanges
    matrix: Matrix


@dataclass(frozen=True, kw_only=True)
class PinDrift:
    """The `remarks` on files, the versions of the axes that they pin, sentences on pins that are
    `accepted`, and the tested `cell` nearest to the axes; empty if they pin none."""

    remarks: tuple[Remark, ...]
    pins: dict[str, str]
    accepted: tuple[str, ...] = ()
    cell: str = ""


def check(
    paths: Sequence[Path],
    known: Compatibility,
    facts: PackageFacts,
    against: str | None = None,
    profile: Profile | None = None,
) -> PinDrift:
    """Compare files with the lock of the cell `against`, or without one with the published results
    of the combination that they pin, and with what the code of the pinned releases accepts. A file
    that names no axis passes.

    Raises:
        UsageError: a file or the cell cannot be read.
    """
    remarks: list[Remark] = []
    accepted: list[str] = []
    pins: dict[str, str] = {}
    for path in paths:
        try:
            text = data.text_of(path)
        except (DataError, OSError) as error:
            raise UsageError(f"{path} cannot be read: {error}") from None
        entries = [*requirements_file.entries(text, path)]
        own = _pins(entries)
        pins |= own
        if against is not None:
            remarks += _against(path, entries, against, facts.locked)
        elif own:
            remarks += _refused(path, entries, own, facts)
            accepted += code.accepted(_ranges(own, facts), _versions(entries, own))
            remarks += _tested(path, entries, own, known, profile)
    near = recommend.closest_to(pins, known.cells, profile) if pins else None
    return PinDrift(
        remarks=tuple(remarks),
        pins=pins,
        accepted=tuple(accepted),
        cell=near.cell.name if near else "",
    )


def _pins(entries: Sequence[Entry]) -> dict[str, str]:
    """Return the versions of the axes that entries pin exactly. If they pin only TE's core library,
    its version counts as TE's."""
    pinned = {entry.name: entry.version.partition("+")[0] for entry in entries if entry.version}
    cores = [pinned[name] for name in CORES if name in pinned]
    pins = {name: version for name, version in pinned.items() if name in AXES}
    return {TE: cores[0], **pins} if cores else pins


def _versions(entries: Sequence[Entry], pins: Mapping[str, str]) -> dict[str, str]:
    """Return the versions of all packages that entries pin exactly."""
    return {**{entry.name: entry.version for entry in entries if entry.version}, **pins}


def _ranges(pins: Mapping[str, str], facts: PackageFacts) -> list[VersionRange]:
    """Return what the code of the pinned releases says of other packages."""
    return [found for axis, version in pins.items() for found in facts.ranges.of(axis, version)]


def _refused(
    path: Path, entries: Sequence[Entry], pins: Mapping[str, str], facts: PackageFacts
) -> Iterator[Remark]:
    """Yield pins that the code of another pinned release does not accept.

    Whether the code looks at all may depend on files of the other package, which pins do not tell:
    such a remark is only a note.
    """
    versions = _versions(entries, pins)
    for found in _ranges(pins, facts):
        if not code.refuses(found, versions):
            continue
        exact, tested = code.version_within(found, pins, facts.locked)
        name = found.guard.subject
        remedy = f"write {name}{exact}" + (f"; {tested}" if tested else "")
        if found.guard.without:
            remedy = f"leave out {name}: {found.guard.without}; or {remedy}"
        remark = code.refused(found, versions, facts.matrix, "is pinned", remedy)
        if found.guard.beside:
            text = f"{remark.text}, if that {name} has {found.guard.beside[0]} and what is imported"
            remark = replace(remark, kind=NOTE, text=f"{text} with it")
        line = min(entry.line for entry in entries if entry.name == name and entry.version)
        yield replace(remark, file=str(path), line=line)


def _against(
    path: Path, entries: Sequence[Entry], cell: str, locked: LockedVersions
) -> Iterator[Remark]:
    """Yield requirements that the version in a cell's lock does not meet."""
    versions = locked.all_of(cell)
    if versions is None:
        raise UsageError(f"--against: {cell} has no lock{locked.nearest(cell)}")
    for entry in entries:
        version = versions.get(entry.name)
        if version is None or meets(entry.specifier, version):
            continue
        text = f"{entry.name}{entry.specifier}, but {cell} was run with {version}"
        remark = fault(text, f"write {entry.name}=={version}")
        yield replace(remark, file=str(path), line=entry.line)


def _tested(
    path: Path,
    entries: Sequence[Entry],
    pins: dict[str, str],
    known: Compatibility,
    profile: Profile | None,
) -> Iterator[Remark]:
    """Yield published remarks on the axes that a file pins; the nearest tested combination supplies
    the versions of the axes that it does not pin."""
    near = recommend.closest_to(pins, known.cells, profile)
    if near is None:
        return
    whole = {**near.cell.pins, **pins}
    there = Installed(
        python=whole["python"],
        versions={axis: whole[axis] for axis in AXES[:-1]},
        requires={},
    )
    line = min(entry.line for entry in entries if entry.name in (*pins, *CORES))
    for remark in doctor.of_results(there, known, profile):
        yield replace(remark, file=str(path), line=line)
