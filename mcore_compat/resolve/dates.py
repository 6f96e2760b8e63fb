"""The date of a lock: the resolver ignores files that were uploaded later."""

from __future__ import annotations

import datetime

from packaging.requirements import Requirement
from packaging.version import Version

from mcore_compat.base.errors import MatrixError, UsageError, nearest
from mcore_compat.core.cells import Cell, is_version
from mcore_compat.core.releases import Releases
from mcore_compat.index import package_index
from mcore_compat.index.package_index import Client

SETTLE = datetime.timedelta(days=21)
"""How long after a release its lock's date is: packages adapted to it are out by then."""


def settled(uploaded: str) -> str:
    """The lock date (YYYY-MM-DD) for a release with this upload time (ISO 8601)."""
    moment = datetime.datetime.fromisoformat(uploaded.replace("Z", "+00:00")) + SETTLE
    return moment.strftime("%Y-%m-%d")


def exclude_newer(cell: Cell, releases: Releases) -> str:
    """The date of a cell's lock: three weeks after the upload of the newest release it pins.

    Raises:
        MatrixError: the upload time of none of them is known.
    """
    packages = ("megatron-core", "nvidia-modelopt", "transformer-engine", "torch")
    newest = max(releases.get(name, cell.pins[name]).uploaded for name in packages)
    if not newest:
        raise MatrixError(
            f"releases.json has no upload times for the releases of {cell.name}; "
            "remake it from an index that has them: nox -s refresh"
        )
    return settled(newest)


def of_pin(pin: str, index: Client) -> str:
    """The lock date of a pin: that of the newest release that it allows; empty if unknown.

    Raises:
        UsageError: the index has no such package or release; names the nearest.
        InfrastructureError: the index did not answer.
    """
    need = Requirement(pin)
    every = [
        one
        for one in package_index.listed(package_index.files_of(need.name, index))
        if is_version(one["version"])
    ]
    fits = [one for one in every if need.specifier.contains(one["version"], prereleases=True)]
    if not fits:
        names = [one["version"] for one in every]
        wanted = pin.partition("==")[2]
        why = f"no release {wanted}{nearest(wanted, names)}" if every else "no such package"
        raise UsageError(f"{pin}: the index has {why}")
    newest = max(fits, key=lambda one: Version(one["version"]))["uploaded"]
    return settled(newest) if newest else ""
