"""Where the packages of an environment come from, and what can be had of them. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from packaging.version import InvalidVersion, Version

from mcore_compat.analysis.inside_container import InsideContainer
from mcore_compat.core.releases import Releases, nearest_version

TE = "transformer-engine"
EXTENSION = "transformer-engine-torch"

VERSION = "VERSION"
"""In a command, where it is not known."""


@dataclass(frozen=True, kw_only=True)
class PackageOrigin:
    """The `container` that an environment is in, and the `releases` that the index has; None where
    that is not known."""

    container: InsideContainer | None = None
    releases: Releases | None = None

    def part(self, version: str, command: str) -> str:
        """The `command` that installs a part of Transformer Engine in a version; of one that the
        index does not have, as a vendor's, from where else it is had."""
        known = [r.version for r in self.releases.of(EXTENSION)] if self.releases else []
        if not known or _is_one(version, known):
            return command
        near = nearest_version(version.partition("+")[0], known) or VERSION
        whole = f"pip install --no-build-isolation '{TE}[pytorch]=={near}' replaces all of it"
        if self.container:
            return (
                f"{TE} {version} was built for {self.container.name} and is not on the index: "
                f"start from the image anew; {whole}"
            )
        return f"{TE} {version} is not on the index, it was built from source; {whole}"


def _is_one(version: str, known: list[str]) -> bool:
    """Whether a version is one of the index; what is none cannot be told to be none of them."""
    try:
        return any(Version(version) == Version(other) for other in known)
    except (InvalidVersion, ValueError):  # of numbers that are too long, too
        return True


ANYWHERE = PackageOrigin()
