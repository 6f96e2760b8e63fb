"""Facts about releases: `constraints/releases.json`, one line a release, written by `refresh`.

Pure except `load`; `mcore_compat.index.package_index` talks to the index.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path

import msgspec
from packaging.version import Version

from mcore_compat.base import data
from mcore_compat.base.data import DataError
from mcore_compat.base.errors import MatrixError, UsageError, edits, nearest, slip
from mcore_compat.core.cells import series_of


@dataclass(frozen=True, kw_only=True)
class Release:
    """The index's data about one release. `uploaded`: ISO 8601, UTC, of its first file.

    `wheels` are the tags of its wheels, compressed as in file names (`cp312-cp312-manylinux…`);
    `requires` is Requires-Dist, empty if the index has no metadata.
    """

    package: str
    version: str
    uploaded: str = ""
    requires_python: str = ""
    yanked: bool = False
    sdist: bool = False
    wheels: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()


@dataclass(frozen=True)
class Releases:
    """All known releases, by package, oldest first."""

    by_package: Mapping[str, tuple[Release, ...]]

    def of(self, package: str) -> tuple[Release, ...]:
        """Every release of a package; empty for an unknown package."""
        return self.by_package.get(package, ())

    def get(self, package: str, version: str) -> Release:
        """One release.

        Raises:
            UsageError: there is no such release; names the nearest.
        """
        release = self._exact.get((package, version)) or next(
            (r for r in self.of(package) if Version(r.version) == Version(version)), None
        )
        if release is not None:
            return release
        known = [r.version for r in self.of(package)]
        raise UsageError(f"{package} has no release {version}{nearest(version, known)}")

    def newest(self, package: str, wanted: str) -> Release:
        """The release that `wanted` names: a patch release (`0.16.1`), or a series' newest one.

        For Transformer Engine, the newest with a torch extension of the same version: 1.9.0.post1
        is only the metapackage, which requires the parts of 1.9.0.

        Raises:
            UsageError: neither exists; names the nearest series.
        """
        if release := self.meant(package, wanted):
            return release
        near = self.nearest(package, wanted)
        hint = f'; did you mean "{near}"?' if near else nearest(wanted, self._words(package))
        raise UsageError(f"{package} has no release {wanted}{hint}")

    def meant(self, package: str, wanted: str) -> Release | None:
        """As `newest`, but None if there is none."""
        return self._meant(package).get(wanted)

    def _meant(self, package: str) -> Mapping[str, Release]:
        """The release by every word that means one."""
        if package not in self._words_of:
            known = [r for r in self.of(package) if not r.yanked]
            extended = {r.version for r in self.of("transformer-engine-torch")}
            meant = {series_of(r.version): r for r in known}
            if package == "transformer-engine":
                meant |= {series_of(r.version): r for r in known if r.version in extended}
            self._words_of[package] = meant | {r.version: r for r in known}
        return self._words_of[package]

    @cached_property
    def _words_of(self) -> dict[str, Mapping[str, Release]]:
        """A cache: thousands of combinations are made from the same few words."""
        return {}

    def nearest(self, package: str, wanted: str) -> str | None:
        """The most likely series or release for a word that is neither."""
        return nearest_version(wanted, self._words(package))

    def _words(self, package: str) -> list[str]:
        """All series, and all releases."""
        known = [r.version for r in self.of(package) if not r.yanked]
        return list(dict.fromkeys([*map(series_of, known), *known]))

    @cached_property
    def _exact(self) -> dict[tuple[str, str], Release]:
        return {(r.package, r.version): r for rows in self.by_package.values() for r in rows}

    @cached_property
    def _cuda(self) -> dict[str, str]:
        return {
            release.version: ".".join(match["version"].split(".")[:2])
            for release in self.of("torch")
            for text in release.requires
            if (match := _CUDA_PIN.match(text))
        }

    def cuda_of_torch(self, version: str) -> str | None:
        """`12.8` for the CUDA that the index's torch of this version was built with.

        Read from torch's requirements (its pin of the CUDA runtime or toolkit); None if they do not
        say.
        """
        return self._cuda.get(version)


_CUDA_PIN = re.compile(
    r"(?:nvidia-cuda-runtime(?:-cu\d+)?|cuda-toolkit(?:\[[^]]*\])?)\s*\(?==\s*(?P<version>[\d.]+)"
)


def _numbers(version: str) -> tuple[int, int, int]:
    parsed = Version(version)
    return parsed.major, parsed.minor, parsed.micro


def nearest_version(wanted: str, known: Iterable[str]) -> str | None:
    """The known version that was most likely meant. Versions are compared by number, because text
    similarity puts 0.2 near 0.20. If none is within two series, one letter is likely wrong: 0.61
    means 0.16. None if `wanted` is not a version, or `known` is empty."""
    choices = list(known)
    try:
        target = _numbers(wanted)
    except ValueError:
        return None
    if not choices:
        return None

    def distance(text: str) -> tuple[list[int], int]:
        return [abs(a - b) for a, b in zip(_numbers(text), target, strict=True)], len(text)

    near = min(choices, key=distance)
    if far_apart(near, wanted):
        same = (text for text in choices if _numbers(text)[0] == target[0])
        alike = (text for text in same if abs(len(text) - len(wanted)) < 2)
        typed = [text for text in alike if edits(wanted, text) == 1]
        near = min(typed, key=lambda text: (slip(wanted, text), distance(text)), default=near)
    return near


def far_apart(one: str, other: str) -> bool:
    """Whether two versions are so far apart that a typo is more likely than an unknown release."""
    (a, b, _), (c, d, _) = _numbers(one), _numbers(other)
    return a != c or abs(b - d) > NEAR_SERIES


NEAR_SERIES = 2
"""How many series a new release may be beyond the known ones; anything farther is a typo."""


def parse(text: str, where: str) -> Releases:
    """Releases from the text of `releases.json`.

    Raises:
        MatrixError: not JSON, or does not follow the file's schema; names the package.
    """
    names = {f.name for f in fields(Release)}
    by_package: dict[str, list[Release]] = {}
    try:
        for row in data.json_of(text)["releases"]:
            unknown = set(row) - names
            if unknown:
                raise ValueError(f"{row.get('package')}: unknown key {sorted(unknown)[0]!r}")
            release = msgspec.convert(row, Release)
            Version(release.version)  # an invalid version fails here, not in a later comparison
            by_package.setdefault(release.package, []).append(release)
    except (ValueError, KeyError, TypeError, AttributeError, msgspec.ValidationError) as error:
        raise MatrixError(f"{where} is not valid ({error}); {REMAKE}") from None
    return Releases(
        {
            package: tuple(sorted(rows, key=lambda r: Version(r.version)))
            for package, rows in sorted(by_package.items())
        }
    )


REMAKE = "remake it: nox -s refresh"


def load(path: Path) -> Releases:
    """Read `constraints/releases.json`.

    Raises:
        MatrixError: it does not exist or is not valid.
    """
    try:
        text = data.text_of(path)
    except FileNotFoundError:
        raise MatrixError(f"{path.name} does not exist; make it: nox -s refresh") from None
    except DataError as error:
        raise MatrixError(f"{path.name} cannot be read: {error}") from None
    return parse(text, path.name)


def dumps(releases: Releases) -> str:
    """The file's text: sorted by package and version, one line a release, defaults left out."""
    default = asdict(Release(package="", version="", uploaded=""))
    lines = []
    for package in sorted(releases.by_package):
        for release in releases.of(package):
            row = {k: v for k, v in asdict(release).items() if v != default[k]}
            lines.append("  " + json.dumps(row, ensure_ascii=False, sort_keys=True))
    head = '{\n "made_by": "nox -s refresh",\n "releases": [\n'
    return head + ",\n".join(lines) + "\n ]\n}\n"
