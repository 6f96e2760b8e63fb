"""Of which date a lock is: what was uploaded after it is not seen."""

from __future__ import annotations

import datetime

from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

from mcore_compat.base.errors import MatrixError, UsageError, nearest
from mcore_compat.core.cells import Cell
from mcore_compat.core.releases import Releases
from mcore_compat.index import package_index
from mcore_compat.index.package_index import Client

SETTLE = datetime.timedelta(days=21)
"""How long after a release its world stands still: what was made to fit it is out by then."""


def settled(uploaded: str) -> str:
    """The date at which the world of a release stands still; `uploaded` as the index has it."""
    moment = datetime.datetime.fromisoformat(uploaded.replace("Z", "+00:00")) + SETTLE
    return moment.strftime("%Y-%m-%d")


def exclude_newer(cell: Cell, releases: Releases) -> str:
    """The date of a cell's world: three weeks after the upload of the newest release it pins.

    Raises:
        MatrixError: nothing says when any of them was uploaded.
    """
    packages = ("megatron-core", "nvidia-modelopt", "transformer-engine", "torch")
    newest = max(releases.get(name, cell.pins[name]).uploaded for name in packages)
    if not newest:
        raise MatrixError(
            f"releases.json does not say when the releases of {cell.name} were uploaded; "
            "remake it from an index that does: nox -s refresh"
        )
    return settled(newest)


def of_pin(pin: str, index: Client) -> str:
    """The date of the world of a pin: of the newest release that it admits.

    Raises:
        UsageError: the index has no such package, or release; names the nearest.
        InfrastructureError: the index did not answer.
    """
    need = Requirement(pin)
    every = [
        one
        for one in package_index.listed(package_index.files_of(need.name, index))
        if _valid(one["version"])
    ]
    fits = [one for one in every if need.specifier.contains(one["version"], prereleases=True)]
    if not fits:
        names = [one["version"] for one in every]
        wanted = pin.partition("==")[2]
        why = f"no release {wanted}{nearest(wanted, names)}" if every else "no such package"
        raise UsageError(f"{pin}: the index has {why}")
    newest = max(fits, key=lambda one: Version(one["version"]))["uploaded"]
    return settled(newest) if newest else ""


def _valid(version: str) -> bool:
    try:
        return bool(Version(version))
    except InvalidVersion:  # of another time
        return False
