"""Update `constraints/version_ranges.json`: which versions of other packages the code of each
release accepts, read from the sources in its wheel."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from mcore_compat.analysis.around import release_ranges
from mcore_compat.api import packages, sources
from mcore_compat.api.packages import IndexedPackage
from mcore_compat.base import files, temporary
from mcore_compat.base.errors import InfrastructureError
from mcore_compat.core.releases import Releases
from mcore_compat.core.workspace import Workspace
from mcore_compat.environments import version_guards
from mcore_compat.environments.version_guards import VersionRange
from mcore_compat.index.package_index import Client

TOGETHER = 4
"""The number of wheels that are read at a time."""


def update(
    place: Workspace,
    known: Releases,
    client: Callable[[], Client],
    say: Callable[[str], None],
    *,
    begin: bool = False,
) -> tuple[str, ...]:
    """Read the releases that the file lacks, write it, and return the releases that were read. If
    what they are read with has changed, all are read again.

    Releases that cannot be read are reported and tried again next time. If the file does not exist,
    nothing happens unless `begin` is set.

    Raises:
        MatrixError: the file is not valid.
        InfrastructureError: the disk is full or not writable.
    """
    if not (begin or place.version_ranges.exists()):
        return ()
    before = release_ranges.load(place.version_ranges)
    index: Client | None = None
    done: list[str] = []
    ranges = {}
    for package in packages.PACKAGES:
        name = package.name
        ranges[name] = {version: before.of(name, version) for version in before.releases(name)}
        lacking = [r.version for r in known.of(name) if r.version not in ranges[name]]
        if lacking:
            index = index or client()
            count = f"{len(lacking)} release{'s' if len(lacking) > 1 else ''}"
            say(f"reading which versions of other packages {count} of {name} accept")
            found = _read(package, lacking, index, say)
            ranges[name] |= found
            done += [f"{name} {version}" for version in lacking if version in found]
    text = release_ranges.dumps(release_ranges.made(ranges))
    if not place.version_ranges.exists() or place.version_ranges.read_text("utf-8") != text:
        files.write_text(place.version_ranges, text)
    return tuple(done)


def _read(
    package: IndexedPackage, versions: Iterable[str], index: Client, say: Callable[[str], None]
) -> dict[str, tuple[VersionRange, ...]]:
    """Return ranges by release."""

    def one(version: str) -> tuple[str, tuple[VersionRange, ...], str]:
        try:
            with temporary.folder() as folder:
                sources.gather(package, version, folder, index)
                return version, version_guards.ranges_of(package.name, folder), ""
        except InfrastructureError as error:
            return version, (), f"  {error}; the next refresh tries again"

    found = {}
    with ThreadPoolExecutor(max_workers=TOGETHER) as pool:
        for version, ranges, why in pool.map(one, versions):
            if why:
                say(why)
            else:
                found[version] = ranges
    return found
