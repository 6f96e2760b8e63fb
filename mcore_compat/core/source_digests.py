"""Digests of source files in each release of a package: `constraints/digests.json`.

Of the files alone that stand in the traceback of a published cause, or define a name that one is
about. `[[0, "5a…"], [3, null]]` says: this digest as of the first of the package's releases that
are listed, and no such file as of its fourth. Pure but for `load`.
"""

from __future__ import annotations

import bisect
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec
from packaging.version import Version

from mcore_compat.base import data
from mcore_compat.base.data import DataError
from mcore_compat.base.errors import MatrixError
from mcore_compat.core.cells import AXES

PACKAGES = dict(zip(("megatron", "modelopt", "transformer_engine", "torch"), AXES[:4], strict=True))
"""By top-level module: whose file it is."""

ABSENT = ""
"""The digest of a file that a release does not have."""

SHORT = 12
"""Digits of a digest that are shown."""

REMAKE = "remake it: nox -s refresh -- --interfaces"

Changes = list[tuple[int, str | None]]


class _Package(msgspec.Struct, forbid_unknown_fields=True):
    releases: list[str]
    files: dict[str, Changes]


class SourceDigests(msgspec.Struct, forbid_unknown_fields=True):
    """`packages`: by name; `names`: by function that a cause is about, the files that define it."""

    packages: dict[str, _Package] = {}
    names: dict[str, tuple[str, ...]] = {}
    made_by: str = "nox -s refresh"

    def releases(self, package: str) -> Sequence[str]:
        """The releases that were read, oldest first."""
        return self.packages[package].releases if package in self.packages else ()

    def files(self, package: str) -> Iterable[str]:
        return self.packages[package].files if package in self.packages else ()

    def of(self, package: str, version: str, path: str) -> str | None:
        """SHA-256 of a file in a release, `ABSENT` where it has none; None: it was not read."""
        known = self.packages.get(package)
        if known is None or version not in known.releases or path not in known.files:
            return None
        changes = known.files[path]
        place = known.releases.index(version)
        at = bisect.bisect_right(changes, place, key=lambda change: change[0])
        return (changes[at - 1][1] if at else None) or ABSENT


NO_DIGESTS = SourceDigests()


def package_of(path: str) -> str | None:
    """Whose file it is, by its path below `site-packages`; None for that of another package."""
    return PACKAGES.get(path.partition("/")[0])


def made(
    digests: Mapping[str, Mapping[str, Mapping[str, str]]], names: Mapping[str, tuple[str, ...]]
) -> SourceDigests:
    """From digest by package, release, and path; every file that any release of a package has is
    taken to be looked for in all of them."""
    packages = {}
    for package in sorted(digests):
        by_release = digests[package]
        order = sorted(by_release, key=Version)
        paths = sorted({path for files in by_release.values() for path in files})
        files: dict[str, Changes] = {path: [] for path in paths}
        for place, version in enumerate(order):
            for path, changes in files.items():
                now = by_release[version].get(path) or None
                if not changes or changes[-1][1] != now:
                    changes.append((place, now))
        packages[package] = _Package(releases=order, files=files)
    return SourceDigests(packages=packages, names=dict(sorted(names.items())))


def by_release(known: SourceDigests, package: str) -> dict[str, dict[str, str]]:
    """The inverse of `made`, for one package."""
    return {
        version: {path: known.of(package, version, path) or ABSENT for path in known.files(package)}
        for version in known.releases(package)
    }


def together(digests: Mapping[str, str]) -> str:
    """One digest for several files: what `sha256sum FILES | sha256sum` prints, sorted by path; of
    one file its own."""
    if len(digests) == 1:
        return next(iter(digests.values())) or "no such file"
    lines = "".join(f"{digests[path]}  {path}\n" for path in sorted(digests) if digests[path])
    return hashlib.sha256(lines.encode()).hexdigest()


def dumps(known: SourceDigests) -> str:
    """The file's text, a line for each file of a package."""

    def line(key: str, value: object) -> str:
        return f"{json.dumps(key)}:{json.dumps(value, separators=(',', ':'))}"

    blocks = []
    for name, package in sorted(known.packages.items()):
        files = ",\n".join(line(path, package.files[path]) for path in sorted(package.files))
        releases = line("releases", package.releases)
        blocks.append(f'{json.dumps(name)}:{{{releases},"files":{{\n{files}}}}}')
    names = ",\n".join(line(name, known.names[name]) for name in sorted(known.names))
    head = line("made_by", known.made_by)
    return f'{{{head},\n"names":{{\n{names}}},\n"packages":{{\n' + ",\n".join(blocks) + "}}\n"


def parse(text: str, where: str) -> SourceDigests:
    """The digests of a file's text.

    Raises:
        MatrixError: the text is not valid.
    """
    try:
        known: SourceDigests = data.json_of(text, SourceDigests)
        for name, package in known.packages.items():
            places = [place for changes in package.files.values() for place, _ in changes]
            if places and not 0 <= min(places) <= max(places) < len(package.releases):
                raise DataError(f"{name}: it tells of a release that it does not list")
    except DataError as error:
        raise MatrixError(f"{where} is not valid ({error}); {REMAKE}") from None
    return known


def load(path: Path) -> SourceDigests:
    """Those of a workspace; nothing is known where it has no such file.

    Raises:
        MatrixError: the file is not valid.
    """
    return data.of_file(path, parse, NO_DIGESTS, REMAKE)
