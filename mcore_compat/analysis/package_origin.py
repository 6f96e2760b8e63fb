"""Where the packages of an environment come from, and where to get a version of them. Pure."""

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
"""Stands in a command for a version that is not known."""


@dataclass(frozen=True, kw_only=True)
class PackageOrigin:
    """The `container` that an environment is in, and the `releases` on the index; None if unknown.
    `with_cuda`: the releases of TE's extension that need an nvcc of torch's `cuda` (`12.8`) to be
    built; `nvcc`: whether one is installed."""

    container: InsideContainer | None = None
    releases: Releases | None = None
    with_cuda: tuple[SpecifierSet, ...] = ()
    nvcc: bool = False
    cuda: str = ""

    def part(self, version: str, command: str) -> str:
        """Return the `command` that installs a part of Transformer Engine in a version. If the
        version is not on the index (a vendor's build), say where to get it instead."""
        known = [r.version for r in self.releases.of(EXTENSION)] if self.releases else []
        if not known or _is_one(version, known):
            return command + self._nvcc(version)
        near = nearest_version(version.partition("+")[0], known) or VERSION
        whole = f"pip install --no-build-isolation '{TE}[pytorch]=={near}' replaces all of it"
        whole += self._nvcc(near)
        if self.container:
            return (
                f"{TE} {version} was built for {self.container.name} and is not on the index: "
                f"start again from the image; {whole}"
            )
        return f"{TE} {version} is not on the index: it was built from source; {whole}"

    def _nvcc(self, version: str) -> str:
        """Say that a build needs an nvcc, if there is none; else return an empty text."""
        if self.nvcc or not is_version(version):
            return ""
        if not any(spec.contains(Version(version), prereleases=True) for spec in self.with_cuda):
            return ""
        series = ".".join(self.cuda.split(".")[:2])
        make = f": mcore-compat toolkit --cuda {series} makes one" if series else ""
        return f"; it has CUDA sources and needs an nvcc, and there is none here{make}"


def _is_one(version: str, known: list[str]) -> bool:
    """Whether a version is on the index; an invalid version counts as one, as it cannot be
    compared."""
    try:
        return any(Version(version) == Version(other) for other in known)
    except (InvalidVersion, ValueError):  # ValueError: a number with too many digits
        return True


ANYWHERE = PackageOrigin()
