"""Which versions of other packages the code of each release accepts:
`constraints/version_ranges.json`.

`["2.12.0", {"least": "2.1.1", …}]` says: these bounds as of this release, up to the next one that
is named; null: none. Pure but for `load`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import msgspec
from packaging.version import Version

from mcore_compat.base import data
from mcore_compat.base.data import DataError
from mcore_compat.base.errors import MatrixError
from mcore_compat.core.cells import is_version
from mcore_compat.environments import version_guards
from mcore_compat.environments.version_guards import Bounds, VersionGuard, VersionRange

Changes = list[tuple[str, Bounds | None]]

REMAKE = "remake it: nox -s refresh -- --interfaces"


class _Package(msgspec.Struct, forbid_unknown_fields=True):
    """`read_with`: the digest of the guards (`version_guards.digest`) that the releases were read
    with."""

    releases: list[str]
    read_with: str
    ranges: dict[str, Changes]


class ReleaseRanges(msgspec.Struct, forbid_unknown_fields=True):
    """`packages`: by name; `ranges`: by key of the guard."""

    packages: dict[str, _Package] = {}
    made_by: str = "nox -s refresh"

    def releases(self, package: str) -> Sequence[str]:
        """The releases that were read with the guards that there are now, oldest first."""
        known = self.packages.get(package)
        return known.releases if known and known.read_with == version_guards.digest(package) else ()

    def of(self, package: str, version: str) -> tuple[VersionRange, ...]:
        """What a release says of others; empty also if it was not read."""
        version = version.partition("+")[0]
        if not is_version(version):
            return ()
        have = Version(version)
        if have not in map(Version, self.releases(package)):
            return ()
        guards = version_guards.guards_of(package)
        found = ((guard, self._at(guard, have)) for guard in guards)
        return tuple(
            VersionRange(guard=guard, **asdict(bounds)) for guard, bounds in found if bounds
        )

    def _at(self, guard: VersionGuard, version: Version) -> Bounds | None:
        changes = self.packages[guard.of].ranges.get(guard.key, [])
        return next((b for start, b in reversed(changes) if Version(start) <= version), None)


NO_RANGES = ReleaseRanges()


def made(read: Mapping[str, Mapping[str, Sequence[VersionRange]]]) -> ReleaseRanges:
    """From ranges by package and release."""
    packages = {}
    for package, by_release in sorted(read.items()):
        order = sorted(by_release, key=Version)
        ranges: dict[str, Changes] = {}
        for guard in version_guards.guards_of(package):
            changes: Changes = []
            for version in order:
                now = next((r.bounds for r in by_release[version] if r.guard == guard), None)
                if now != (changes[-1][1] if changes else None):
                    changes.append((version, now))
            ranges[guard.key] = changes
        packages[package] = _Package(
            releases=order, read_with=version_guards.digest(package), ranges=ranges
        )
    return ReleaseRanges(packages=packages)


def dumps(known: ReleaseRanges) -> str:
    """The file's text, a line for each change."""
    blocks = []
    for name, package in sorted(known.packages.items()):
        ranges = ",\n".join(
            f"{_json(key)}:[{','.join(map(_change, changes))}]"
            for key, changes in sorted(package.ranges.items())
        )
        head = f'"releases":{_json(package.releases)},"read_with":{_json(package.read_with)}'
        blocks.append(f'{_json(name)}:{{{head},"ranges":{{\n{ranges}}}}}')
    packages = ",\n".join(blocks)
    return f'{{"made_by":{_json(known.made_by)},\n"packages":{{\n{packages}}}}}\n'


def _change(change: tuple[str, Bounds | None]) -> str:
    version, bounds = change
    said = {kind: text for kind, text in asdict(bounds).items() if text} if bounds else None
    return f"\n {_json([version, said])}"


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def parse(text: str, where: str) -> ReleaseRanges:
    """The ranges of a file's text.

    Raises:
        MatrixError: the text is not valid.
    """
    try:
        known: ReleaseRanges = data.json_of(text, ReleaseRanges)
        for name, package in known.packages.items():
            starts = [start for changes in package.ranges.values() for start, _ in changes]
            for version in (*package.releases, *starts):
                if not is_version(version):
                    raise DataError(f'{name}: invalid version "{version}"')
    except DataError as error:
        raise MatrixError(f"{where} is not valid ({error}); {REMAKE}") from None
    return known


def load(path: Path) -> ReleaseRanges:
    """Those of a workspace; nothing is known where it has no such file.

    Raises:
        MatrixError: the file is not valid.
    """
    return data.of_file(path, parse, NO_RANGES, REMAKE)
