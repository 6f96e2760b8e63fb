"""Parses the releases that code is compared with: the name of a cell, or versions of packages."""

from __future__ import annotations

import re
from collections.abc import Mapping

from packaging.utils import canonicalize_name

from mcore_compat.api import packages
from mcore_compat.base.errors import UsageError, nearest
from mcore_compat.core import combinations
from mcore_compat.core.cells import AXES, full_name, parse_name
from mcore_compat.core.matrix import Matrix
from mcore_compat.core.releases import Releases

SHORT = {
    "mcore": packages.MCORE,
    "megatron": packages.MCORE,
    "modelopt": packages.MODELOPT,
    "te": packages.TE,
    "transformer-engine-torch": packages.TE,
}
"""Other names of the packages."""

EXAMPLE = (
    'write a cell, e.g. 0.19-modelopt0.47, or versions, e.g. "megatron-core 0.19.2, modelopt 0.47"'
)

_ONE = re.compile(r"(?P<name>[A-Za-z][A-Za-z0-9._-]*?)\s*(?:==?|\s|@)\s*v?(?P<version>[0-9]\S*)")


def releases_of(text: str, option: str, matrix: Matrix, releases: Releases) -> dict[str, str]:
    """The release of each package in a cell's name or a list of versions.

    Raises:
        UsageError: it is neither, or names a package without indexed interfaces or an unknown
            release; names the nearest.
    """
    word = text.strip()
    if parse_name(full_name(word)) or word.startswith("compat-"):
        pins = combinations.named(full_name(word), matrix, releases).pins
        return {package.name: pins[package.name] for package in packages.PACKAGES}
    chosen: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in word.split(","))):
        match = _ONE.fullmatch(part)
        if match is None:
            raise UsageError(f'{option}: "{part}" is not a version; {EXAMPLE}')
        package = _package(match["name"], option)
        if package is None:
            continue
        if package in chosen:
            raise UsageError(f"{option}: {package} is given twice; give one")
        chosen[package] = releases.newest(package, match["version"]).version
    if not chosen:
        raise UsageError(
            f'{option}: "{text}" names none of {", ".join(packages.BY_NAME)}; {EXAMPLE}'
        )
    return chosen


def _package(name: str, option: str) -> str | None:
    """The package of a name; None for an axis without indexed interfaces."""
    canonical = canonicalize_name(name)
    package = SHORT.get(canonical, canonical)
    if package in packages.BY_NAME:
        return package
    if package in AXES:
        return None
    known = [*packages.BY_NAME, *SHORT]
    raise UsageError(f'{option}: there are no interfaces of "{name}"{nearest(canonical, known)}')


def withdrawn(releases: Releases) -> Mapping[str, frozenset[str]]:
    """The yanked releases by package."""
    return {
        package: frozenset(r.version for r in releases.of(package) if r.yanked)
        for package in packages.BY_NAME
    }
