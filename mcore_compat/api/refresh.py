"""Updates the interface indexes: reads the releases that they do not have yet."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from mcore_compat.api import extraction, interface_index, packages, sources
from mcore_compat.api.definitions import Names
from mcore_compat.api.interface_index import InterfaceIndex
from mcore_compat.api.packages import IndexedPackage
from mcore_compat.base import files, temporary
from mcore_compat.base.errors import InfrastructureError
from mcore_compat.core.releases import Releases
from mcore_compat.index.package_index import Client

EVERY = 8
"""Number of releases after which the index is written, to limit the loss at an interruption."""


def update(
    folder: Path,
    known: Releases,
    client: Callable[[], Client],
    say: Callable[[str], None],
    *,
    begin: bool = False,
) -> tuple[str, ...]:
    """Read the `known` releases that the indexes in a folder lack, and write the indexes; returns
    the releases that were read. Unreadable releases are reported and tried again next time. With
    `begin`, missing indexes are created.

    Raises:
        MatrixError: an index is not valid.
        InfrastructureError: the disk is full or not writable.
    """
    lacking = {
        package: missing
        for package in packages.PACKAGES
        if begin or interface_index.path_of(package, folder).exists()
        if (missing := _missing(package, folder, known))
    }
    if not lacking:
        return ()
    if not extraction.available():
        count = sum(map(len, lacking.values()))
        say(
            f"the interfaces of {count} releases were not read: griffe is not installed; "
            "pip install 'mcore-compat[refresh]'"
        )
        return ()
    index = client()
    done: list[str] = []
    for package, versions in lacking.items():
        for some in _by(EVERY, versions):
            texts = dict(_read(package, some, index, say))
            if texts:
                write(_with(package, folder, texts), folder)
                done += [f"{package.name} {version}" for version in texts]
    return tuple(done)


def write(index: InterfaceIndex, folder: Path) -> None:
    """Write an index, completely or not at all.

    Raises:
        InfrastructureError: the disk is full or not writable.
    """
    path = interface_index.path_of(index.package, folder)
    files.write_bytes(path, interface_index.packed(index))


def _missing(package: IndexedPackage, folder: Path, known: Releases) -> list[str]:
    if not interface_index.path_of(package, folder).exists():
        return [release.version for release in known.of(package.name)]
    there = set(interface_index.load(package, folder).releases)
    return [r.version for r in known.of(package.name) if r.version not in there]


def _with(
    package: IndexedPackage, folder: Path, texts: dict[str, dict[str, Names]]
) -> InterfaceIndex:
    if not interface_index.path_of(package, folder).exists():
        return interface_index.of_releases(package, texts)
    return interface_index.with_releases(interface_index.load(package, folder), texts)


def _by(count: int, versions: list[str]) -> Iterable[list[str]]:
    return (versions[at : at + count] for at in range(0, len(versions), count))


def _read(
    package: IndexedPackage, versions: Iterable[str], index: Client, say: Callable[[str], None]
) -> Iterable[tuple[str, dict[str, Names]]]:
    for version in versions:
        say(f"reading the interface of {package.name} {version}")
        try:
            yield version, interface(package, version, index)
        except InfrastructureError as error:
            say(f"  {error}; the next refresh tries again")


def interface(package: IndexedPackage, version: str, index: Client) -> dict[str, Names]:
    """The interface of one release.

    Raises:
        InfrastructureError: the index did not answer, or its wheel cannot be read.
    """
    with temporary.folder() as folder:
        sources.gather(package, version, folder, index)
        try:
            return extraction.extract(folder, package.root)
        except (SyntaxError, ValueError, LookupError, RecursionError) as error:
            why = f"{type(error).__name__}: {error}"
            raise InfrastructureError(
                f"the sources of {package.name} {version} cannot be read ({why})"
            ) from error
