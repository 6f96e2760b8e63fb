"""Compare requirements files with the published results: whether their pins are a tested
combination, and which pins differ from the lock of a cell. Nothing is installed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mcore_compat.analysis import doctor, recommend, requirements_file
from mcore_compat.analysis.around.locked import LockedVersions
from mcore_compat.analysis.around.versions import meets
from mcore_compat.analysis.published import Compatibility
from mcore_compat.analysis.remarks import Remark, fault
from mcore_compat.analysis.requirements_file import Entry
from mcore_compat.base import data
from mcore_compat.base.data import DataError
from mcore_compat.base.errors import UsageError
from mcore_compat.core.cells import AXES
from mcore_compat.core.profiles import Profile
from mcore_compat.environments.scan import Installed


@dataclass(frozen=True, kw_only=True)
class PinDrift:
    """The `remarks` on files, the versions of the axes that they pin, and the tested `cell` nearest
    to these; empty if they pin none."""

    remarks: tuple[Remark, ...]
    pins: dict[str, str]
    cell: str = ""


def check(
    paths: Sequence[Path],
    known: Compatibility,
    locked: LockedVersions,
    against: str | None = None,
    profile: Profile | None = None,
) -> PinDrift:
    """Compare files with the lock of the cell `against`, or without one with the published results
    of the combination that they pin. A file that names no axis passes.

    Raises:
        UsageError: a file or the cell cannot be read.
    """
    remarks: list[Remark] = []
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
            remarks += _against(path, entries, against, locked)
        elif own:
            remarks += _tested(path, entries, own, known, profile)
    near = recommend.closest_to(pins, known.cells, profile) if pins else None
    return PinDrift(remarks=tuple(remarks), pins=pins, cell=near.cell.name if near else "")


def _pins(entries: Sequence[Entry]) -> dict[str, str]:
    """Return the versions of the axes that entries pin exactly."""
    return {
        entry.name: entry.version.partition("+")[0]
        for entry in entries
        if entry.name in AXES and entry.version
    }


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
    line = min(entry.line for entry in entries if entry.name in pins)
    for remark in doctor.of_results(there, known, profile):
        yield replace(remark, file=str(path), line=line)
