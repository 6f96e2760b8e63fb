"""A folder of code against releases: for the commands that ask it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mcore_compat.api import against, codebase, interface_index, packages, scan
from mcore_compat.api.scan import ScanReport
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
    `written_for`, also what changed silently since these releases.

    For an upgrade: `wanted` are the pins of the new side, `written_for` those of the old one;
    packages of which no interfaces are kept are passed over.

    Raises:
        UsageError: there is no such path, no Python in it, or nothing is known of a release.
        MatrixError: an index of interfaces is not there, or not valid.
    """
    held = {name: version for name, version in wanted.items() if name in packages.BY_NAME}
    code = codebase.read(path)
    indexes = {
        name: interface_index.load(packages.BY_NAME[name], place.interfaces) for name in held
    }
    return scan.scan(code, held, indexes, against.withdrawn(known), written_for)
