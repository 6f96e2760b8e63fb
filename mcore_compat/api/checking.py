"""Compares a folder of code with releases, for the commands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from mcore_compat.api import against, codebase, interface_index, packages, scan
from mcore_compat.api.codebase import Codebase
from mcore_compat.api.scan import FAILURE, Finding, ScanReport
from mcore_compat.core.releases import Releases
from mcore_compat.core.workspace import Workspace


def check(
    path: Path,
    wanted: Mapping[str, str],
    place: Workspace,
    known: Releases,
    written_for: Mapping[str, str] | None = None,
) -> ScanReport:
    """The uses in code below a path that do not fit the `wanted` release of each package; with
    `written_for`, also silent changes since these releases. Packages without indexed interfaces are
    ignored.

    Raises:
        UsageError: there is no such path, no Python in it, or a release is not in the index.
        MatrixError: an interface index is missing or not valid.
    """
    return _scanned(codebase.read(path), wanted, place, known, written_for)


def check_upgrade(
    path: Path,
    before: Mapping[str, str],
    after: Mapping[str, str],
    place: Workspace,
    known: Releases,
) -> ScanReport:
    """What an upgrade breaks in the code below a path: failures with the pins `after` but not
    `before`, guarded uses, and silent changes. Only packages whose release changes are compared.

    Raises as `check`.
    """
    changed = {name: version for name, version in after.items() if before.get(name) != version}
    code = codebase.read(path)
    report = _scanned(code, changed, place, known, before)
    former = {name: before[name] for name in changed if name in before}
    failed = {_what(finding) for finding in _scanned(code, former, place, known).failures}
    findings = tuple(f for f in report.findings if f.level != FAILURE or _what(f) not in failed)
    fits = tuple(
        replace(
            fit, failures=sum(f.level == FAILURE and f.package == fit.package for f in findings)
        )
        for fit in report.fits
    )
    return replace(report, findings=findings, fits=fits)


def _what(finding: Finding) -> tuple[str, int, str, str, str]:
    """The identity of a finding in all releases."""
    return finding.file, finding.line, finding.kind, finding.path, finding.name


def _scanned(
    code: Codebase,
    wanted: Mapping[str, str],
    place: Workspace,
    known: Releases,
    written_for: Mapping[str, str] | None = None,
) -> ScanReport:
    held = {name: version for name, version in wanted.items() if name in packages.BY_NAME}
    indexes = {
        name: interface_index.load(packages.BY_NAME[name], place.interfaces) for name in held
    }
    return scan.scan(code, held, indexes, against.withdrawn(known), written_for)
