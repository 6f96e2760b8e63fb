"""Update `constraints/digests.json`: the digests of the files that published causes are about, in
every release of the axes. They come from the list in each wheel; no wheel is downloaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

from mcore_compat.analysis import concerned_files, published
from mcore_compat.analysis.published import PublishedCause
from mcore_compat.api import interface_index, packages, sources
from mcore_compat.api.definitions import ALIAS, FOREIGN
from mcore_compat.api.packages import IndexedPackage
from mcore_compat.base import files
from mcore_compat.base.errors import InfrastructureError, ResultError
from mcore_compat.core import source_digests
from mcore_compat.core.releases import Releases
from mcore_compat.core.workspace import Workspace
from mcore_compat.index.package_index import Client

TORCH = IndexedPackage(name="torch", root="torch")
SOURCES = (*packages.PACKAGES, TORCH)
TOGETHER = 8
"""The number of wheels that are read at a time."""

OTHERS = (ALIAS, FOREIGN)
"""Prefixes of the text of a name that is defined elsewhere."""


def update(
    place: Workspace,
    known: Releases,
    client: Callable[[], Client],
    say: Callable[[str], None],
    *,
    begin: bool = False,
) -> tuple[str, ...]:
    """Read the digests that the file lacks, write it, and return the releases that were read.

    Releases that cannot be read are reported and tried again next time. If the file does not exist,
    nothing happens unless `begin` is set.

    Raises:
        MatrixError: the file, or an index of interfaces, is not valid.
        InfrastructureError: the disk is full or not writable.
    """
    if not (begin or place.digests.exists()):
        return ()
    try:
        causes = published.load(place.published).causes
    except ResultError as error:
        say(f"digests of source files were not read: {error}")
        return ()
    before = source_digests.load(place.digests)
    names = _names(causes, place)
    wanted = {path for cause in causes for path in cause.files}
    wanted |= {path for paths in names.values() for path in paths}
    index: Client | None = None
    done: list[str] = []
    digests: dict[str, Mapping[str, Mapping[str, str]]] = {}
    for package in SOURCES:
        paths = sorted(p for p in wanted if source_digests.package_of(p) == package.name)
        there = source_digests.by_release(before, package.name)
        if not set(paths) <= set(before.files(package.name)):
            there = {}
        lacking = [r.version for r in known.of(package.name) if r.version not in there]
        if paths and lacking:
            index = index or client()
            count = f"{len(lacking)} release{'s' if len(lacking) > 1 else ''}"
            say(f"reading digests of source files: {count} of {package.name}")
            there |= _read(package, lacking, paths, index, say)
            done += [f"{package.name} {version}" for version in lacking if version in there]
        digests[package.name] = {
            version: {path: of_release.get(path, source_digests.ABSENT) for path in paths}
            for version, of_release in there.items()
        }
    text = source_digests.dumps(source_digests.made(digests, names))
    if not place.digests.exists() or place.digests.read_text(encoding="utf-8") != text:
        files.write_text(place.digests, text)
    return tuple(done)


def _read(
    package: IndexedPackage,
    versions: Iterable[str],
    paths: Iterable[str],
    index: Client,
    say: Callable[[str], None],
) -> dict[str, dict[str, str]]:
    """Return digest by release and path."""

    def one(version: str) -> tuple[str, dict[str, str], str]:
        try:
            return version, sources.digests(package, version, index), ""
        except InfrastructureError as error:
            return version, {}, f"  {error}; the next refresh tries again"

    found: dict[str, dict[str, str]] = {}
    with ThreadPoolExecutor(max_workers=TOGETHER) as pool:
        for version, digests, why in pool.map(one, versions):
            if why:
                say(why)
            else:  # also if the release has no sources, so that it is not read again
                found[version] = {path: digests.get(path, "") for path in paths}
    return found


def _names(causes: Iterable[PublishedCause], place: Workspace) -> dict[str, tuple[str, ...]]:
    """Return, by function that a cause's message names, the files that define it in any release,
    from the indexes of interfaces; without functions that these lack."""
    called = {name for cause in causes for name in concerned_files.called(cause.message)}
    found: dict[str, set[str]] = {}
    for package in packages.PACKAGES if called else ():
        if not interface_index.path_of(package, place.interfaces).exists():
            continue
        modules = interface_index.load(package, place.interfaces).modules
        for module, names in modules.items():
            path = module.replace(".", "/")
            for name in called & {*names}:
                if any(text and not text.startswith(OTHERS) for _, text in names[name]):
                    found.setdefault(name, set()).update({f"{path}.py", f"{path}/__init__.py"})
    return {name: tuple(sorted(found[name])) for name in sorted(found)}
