"""A folder of code against releases: for the commands that need it."""

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
    """What of the code below a path does not fit the `wanted` release of each package; with
    `written_for`, also what changed silently since these releases. Packages of which no interfaces
    are kept are passed over.

    Raises:
        UsageError: there is no such path, no Python in it, or nothing is known of a release.
        MatrixError: an index of interfaces is not there, or not valid.
    """
    return _scanned(codebase.read(path), wanted, place, known, written_for)


def check_upgrade(
    path: Path,
    before: Mapping[str, str],
    after: Mapping[str, str],
    place: Workspace,
    known: Releases,
) -> ScanReport:
    """What an upgrade breaks in the code below a path: failures with the pins `after` that are
    none with the pins `before`, what is prepared for, and what changes silently. Of packages whose
    release does not change nothing is said.

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
    """A finding, whatever the release."""
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
