"""Checks the resolver's refusals against the index: what it calls missing must be missing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import Version

from mcore_compat.core.releases import Releases
from mcore_compat.index import belief, package_index
from mcore_compat.index.package_index import Client

_NAME = r"(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)(?:\[[^\]]*\])?"
_RANGE = r"[=<>!~][^\s]*"
_ABSENT = (
    re.compile(rf"{_NAME} was not found in "),
    re.compile(rf"there (?:is|are) no versions? of {_NAME}(?P<range>{_RANGE})?"),
)
_ONLY = (
    re.compile(rf"only {_NAME}(?P<range>{_RANGE}) is available"),
    re.compile(
        rf"only the following versions of {_NAME} are available:"
        rf"(?P<ranges>(?: [^\s=<>!~]+{_RANGE})+)"
    ),
)

_KINDS = ("wheel", "sdist")


@dataclass(frozen=True, kw_only=True)
class Claim:
    """Versions of a package that the resolver calls missing: those in `absent`, or all but those in
    one of the ranges in `only`."""

    package: str
    absent: str | None = None
    only: tuple[str, ...] = ()

    def denies(self, version: Version) -> bool:
        """Whether the claim says that a version is missing."""
        if self.absent is not None:
            return SpecifierSet(self.absent).contains(version, prereleases=True)
        return not any(SpecifierSet(r).contains(version, prereleases=True) for r in self.only)


def claims(output: str) -> Iterator[Claim]:
    """The claims in a refusal's text."""
    text = " ".join(re.sub(r"[╰─▶│×├]", " ", output).split())
    for pattern in _ABSENT:
        for match in pattern.finditer(text):
            groups = match.groupdict()
            yield Claim(package=match["name"].lower(), absent=_specifier(groups.get("range") or ""))
    for pattern in _ONLY:
        for match in pattern.finditer(text):
            words = (match.groupdict().get("ranges") or match[0].split()[1]).split()
            ranges = (re.sub(r"^[^=<>!~]+", "", word) for word in words)
            yield Claim(package=match["name"].lower(), only=tuple(map(_specifier, ranges)))


def _specifier(text: str) -> str:
    """A version range from the resolver's text; the range of all versions if it is unreadable."""
    text = text.rstrip(",.;:")
    try:
        return str(SpecifierSet(text))
    except InvalidSpecifier:
        return ""


def contradiction(
    output: str,
    packages: Sequence[str],
    until: tuple[str, Mapping[str, str]],
    known: Releases,
    index: Client,
) -> str | None:
    """A claim of a refusal that the index contradicts, as text; None if there is none.

    Queries the index for `packages` and for the packages of all claims. `until`: the date from
    which on the resolver ignores files, and separate dates of some packages.

    Raises:
        InfrastructureError: the index did not answer, its answer is invalid, or it lacks a package
            or known releases.
    """
    denied = list(claims(output))
    listed = {}
    for package in dict.fromkeys([*packages, *(claim.package for claim in denied)]):
        listed[package] = package_index.files_of(package, index, known.of(package))
        belief.check(package, listed[package], ())
    for claim in denied:
        for file in listed[claim.package]:
            version = _release(file, until[1].get(claim.package, until[0]))
            if version is not None and claim.denies(version):
                return f"it did not find {claim.package} {version}, which the index lists"
    return None


def _release(file: Any, until: str) -> Version | None:
    """The version of a file that the resolver must see; None for pre-releases and yanked files,
    which it may ignore."""
    try:
        version = Version(file.version or "")
    except ValueError:
        return None
    hidden = file.upload_time is not None and file.upload_time.strftime("%Y-%m-%d") >= until
    passed_over = version.is_prerelease or file.is_yanked or file.package_type not in _KINDS
    return None if hidden or passed_over else version
