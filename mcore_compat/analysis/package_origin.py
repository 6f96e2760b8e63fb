"""Where the packages of an environment come from, and what can be had of them. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from mcore_compat.analysis.inside_container import InsideContainer
from mcore_compat.core.cells import is_version
from mcore_compat.core.releases import Releases, nearest_version

TE = "transformer-engine"
EXTENSION = "transformer-engine-torch"

VERSION = "VERSION"
"""In a command, where it is not known."""


@dataclass(frozen=True, kw_only=True)
class PackageOrigin:
    """The `container` that an environment is in, and the `releases` that the index has; None where
    that is not known. `with_cuda`: the releases of TE's extension that only an nvcc builds, of
    torch's `cuda` (`12.8`); `nvcc`: whether there is one."""

    container: InsideContainer | None = None
    releases: Releases | None = None
    with_cuda: tuple[SpecifierSet, ...] = ()
    nvcc: bool = False
    cuda: str = ""

    def part(self, version: str, command: str) -> str:
        """The `command` that installs a part of Transformer Engine in a version; of one that the
        index does not have, as a vendor's, from where else it is had."""
        known = [r.version for r in self.releases.of(EXTENSION)] if self.releases else []
        if not known or _is_one(version, known):
            return command + self._nvcc(version)
        near = nearest_version(version.partition("+")[0], known) or VERSION
        whole = f"pip install --no-build-isolation '{TE}[pytorch]=={near}' replaces all of it"
        whole += self._nvcc(near)
        if self.container:
            return (
                f"{TE} {version} was built for {self.container.name} and is not on the index: "
                f"start from the image anew; {whole}"
            )
        return f"{TE} {version} is not on the index, it was built from source; {whole}"

    def _nvcc(self, version: str) -> str:
        """What a build takes that is not there; empty where nothing is wanting."""
        if self.nvcc or not is_version(version):
            return ""
        if not any(spec.contains(Version(version), prereleases=True) for spec in self.with_cuda):
            return ""
        series = ".".join(self.cuda.split(".")[:2])
        make = f": mcore-compat toolkit --cuda {series} makes one" if series else ""
        return f"; it has CUDA sources and needs an nvcc, which is not here{make}"


def _is_one(version: str, known: list[str]) -> bool:
    """Whether a version is one of the index; what is none cannot be told to be none of them."""
    try:
        return any(Version(version) == Version(other) for other in known)
    except (InvalidVersion, ValueError):  # of numbers that are too long, too
        return True


ANYWHERE = PackageOrigin()
