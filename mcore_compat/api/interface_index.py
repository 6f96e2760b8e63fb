"""The interfaces of all releases of a package, stored as changes: one compressed file a package.

`"forward": [[0, "def(self, x)"], [4, null]]` means that the name exists from the file's first
release on and was removed in its fifth. `xz -dc FILE` shows it, one line a name.
"""

from __future__ import annotations

import bisect
import json
import lzma
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import msgspec
from packaging.version import Version

from mcore_compat.api import packages
from mcore_compat.api.definitions import Names
from mcore_compat.api.packages import IndexedPackage
from mcore_compat.base import data
from mcore_compat.base.errors import MatrixError, UsageError, nearest

Changes = list[tuple[int, str | None]]
"""Pairs of the index of a release and the definition from it on; None: the name is missing."""

REMAKE = "remake it: nox -s refresh"

MOST_BYTES = 1 << 27
"""Maximum size of an unpacked index; today's have 2 MB."""


class _File(msgspec.Struct, forbid_unknown_fields=True):
    made_by: str
    package: str
    releases: list[str]
    modules: dict[str, dict[str, Changes]]


@dataclass(frozen=True)
class InterfaceIndex:
    """The interfaces of a package; `releases` oldest first."""

    package: IndexedPackage
    releases: tuple[str, ...]
    modules: Mapping[str, Mapping[str, Changes]]
    _places: dict[str, int] = field(init=False, default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        self._places.update({version: at for at, version in enumerate(self.releases)})

    def place(self, version: str) -> int:
        """The position of a release in `releases`.

        Raises:
            UsageError: the index does not have it; names the nearest.
        """
        if version not in self._places:
            same = [v for v in self.releases if Version(v) == Version(version)]
            if not same:
                raise UsageError(
                    f"there is no interface of {self.package.name} {version}"
                    f"{nearest(version, self.releases)}"
                )
            return self._places[same[0]]
        return self._places[version]

    def at(self, module: str, name: str, place: int) -> str | None:
        """The definition of a name in the release at `place`; None if it is missing."""
        return defined(self.modules.get(module, {}).get(name, ()), place)

    def names(self, place: int) -> dict[str, Names]:
        """The whole interface of one release."""
        found: dict[str, Names] = {}
        for module, by_name in self.modules.items():
            texts = {name: defined(changes, place) for name, changes in by_name.items()}
            names = {name: text for name, text in texts.items() if text is not None}
            if names:
                found[module] = names
        return found


def defined(changes: Iterable[tuple[int, str | None]], place: int) -> str | None:
    """The definition of a name in the release at `place`, from its changes."""
    listed = changes if isinstance(changes, list) else list(changes)
    at = bisect.bisect_right(listed, place, key=lambda change: change[0])
    return listed[at - 1][1] if at else None


def of_releases(
    package: IndexedPackage, by_release: Mapping[str, dict[str, Names]]
) -> InterfaceIndex:
    """The index of some releases, given the whole interface of each."""
    releases = sorted(by_release, key=Version)
    modules: dict[str, dict[str, Changes]] = {}
    for place, version in enumerate(releases):
        for module, names in by_release[version].items():
            for name, text in names.items():
                changes = modules.setdefault(module, {}).setdefault(name, [])
                known = changes[-1][1] if changes else None
                if text != known:
                    changes.append((place, text))
        _end(modules, by_release[version], place)
    return InterfaceIndex(package, tuple(releases), modules)


def _end(modules: Mapping[str, dict[str, Changes]], now: Mapping[str, Names], place: int) -> None:
    """Record the removal of names that a release no longer has."""
    for module, by_name in modules.items():
        names = now.get(module, {})
        for name, changes in by_name.items():
            if changes[-1][1] is not None and name not in names:
                changes.append((place, None))


def with_releases(index: InterfaceIndex, more: Mapping[str, dict[str, Names]]) -> InterfaceIndex:
    """The index with further releases, at any position."""
    known = {version: index.names(place) for place, version in enumerate(index.releases)}
    return of_releases(index.package, {**known, **more})


def dumps(index: InterfaceIndex) -> str:
    """The file's text; the same for the same interfaces."""

    def line(key: str, value: object) -> str:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        return f"{json.dumps(key, ensure_ascii=False)}:{text}"

    blocks = []
    for module in sorted(index.modules):
        by_name = index.modules[module]
        lines = ",\n".join(line(name, by_name[name]) for name in sorted(by_name))
        blocks.append(f"{json.dumps(module)}:{{\n{lines}}}")
    head = [
        line("made_by", "nox -s refresh"),
        line("package", index.package.name),
        line("releases", index.releases),
    ]
    return "{" + ",\n".join(head) + ',\n"modules":{\n' + ",\n".join(blocks) + "}}\n"


def loads(text: str, where: str) -> InterfaceIndex:
    """Parse the text of an index file.

    Raises:
        MatrixError: it is not valid.
    """
    try:
        file: _File = data.json_of(text, _File)
        package = packages.BY_NAME[file.package]
        order = [Version(version) for version in file.releases]
        if any(a >= b for a, b in pairwise(order)):
            raise ValueError("its releases are not in order")
        places = [at for names in file.modules.values() for c in names.values() for at, _ in c]
        if places and not 0 <= min(places) <= max(places) < len(order):
            raise ValueError("it refers to a release that it does not list")
    except KeyError as error:
        raise MatrixError(f"{where} is for an unknown package: {error}; {REMAKE}") from None
    except ValueError as error:
        raise MatrixError(f"{where} is not valid ({error}); {REMAKE}") from None
    return InterfaceIndex(package, tuple(file.releases), file.modules)


def packed(index: InterfaceIndex) -> bytes:
    """The content of the compressed file."""
    return lzma.compress(dumps(index).encode(), preset=9 | lzma.PRESET_EXTREME)


def path_of(package: IndexedPackage, folder: Path) -> Path:
    """The path of a package's index."""
    return folder / f"{package.name}.json.xz"


def load(package: IndexedPackage, folder: Path) -> InterfaceIndex:
    """The index of a package.

    Raises:
        MatrixError: it is missing or not valid.
    """
    path = path_of(package, folder)
    try:
        index = loads(_unpacked(path), path.name)
    except FileNotFoundError:
        why = f"the interfaces of {package.name} are missing; read them: nox -s refresh"
        raise MatrixError(why) from None
    except (OSError, lzma.LZMAError, EOFError, ValueError) as error:
        raise MatrixError(f"{path.name} cannot be read ({error}); {REMAKE}") from None
    if index.package != package:
        raise MatrixError(f"{path.name} is for {index.package.name}; {REMAKE}")
    return index


def _unpacked(path: Path) -> str:
    """The text of a file.

    Raises:
        ValueError: it is larger than MOST_BYTES, or not text.
    """
    with lzma.open(path) as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(f"over {MOST_BYTES >> 20} MB")
    return content.decode()
