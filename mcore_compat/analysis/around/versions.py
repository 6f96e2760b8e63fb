"""Whether versions are within ranges. Pure."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from mcore_compat.core.cells import is_version


def meets(specifier: SpecifierSet, version: str) -> bool:
    """Whether a version is within a range; True if the version or a bound is invalid."""
    try:
        return not is_version(version) or specifier.contains(Version(version), prereleases=True)
    except ValueError:  # a number in a bound has too many digits
        return True


def within(version: str, *, least: str = "", most: str = "", below: str = "") -> bool:
    """Whether a version is within bounds as code compares them: a post-release is above its
    release. Invalid bounds are ignored."""
    if not is_version(version):
        return True
    have = Version(version)
    return not (
        (is_version(least) and have < Version(least))
        or (is_version(most) and have > Version(most))
        or (is_version(below) and have >= Version(below))
    )


def needs(requires: Sequence[str], where: Mapping[str, str]) -> Iterator[Requirement]:
    """Yield the valid requirements whose markers hold in the environment `where`, without
    extras."""
    for need in filter(None, map(requirement, requires)):
        try:
            if need.marker is None or need.marker.evaluate({**where, "extra": ""}):
                yield need
        except ValueError:  # the marker compares an invalid version
            continue


@functools.lru_cache(maxsize=4096)
def requirement(text: str) -> Requirement | None:
    """Parse a requirement and normalize its name; None if it is invalid."""
    try:
        need = Requirement(text)
    except (InvalidRequirement, RecursionError, ValueError):
        return None
    need.name = canonicalize_name(need.name)
    return need
