"""Queries of the package index that pip, or uv, is configured for."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from packaging.utils import InvalidSdistFilename, InvalidWheelFilename, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from mcore_compat.base import processes
from mcore_compat.base.errors import InfrastructureError
from mcore_compat.core.releases import Release, Releases
from mcore_compat.index import belief

PACKAGES = {
    "causal-conv1d": "1.4",
    "mamba-ssm": "2.2",
    "megatron-core": "0.9",
    "nvidia-modelopt": "0.21",
    "torch": "2.4",
    "transformer-engine": "1.9",
    "transformer-engine-cu12": "1.9",
    "transformer-engine-cu13": "2.9",
    "transformer-engine-torch": "1.9",
}
"""The packages in `releases.json` and the oldest version of each, to keep the file readable."""


class Client(Protocol):
    """The interface of an index client; tests pass their own."""

    def get_project_page(self, project: str) -> Any: ...

    def metadata(self, file: Any) -> str | None: ...

    def download_package(self, pkg: Any, path: Any) -> None: ...

    def sources(self, file: Any, folder: Path) -> None: ...

    def digests(self, file: Any) -> dict[str, str]: ...


def client() -> Client:
    """A client for pip's index: `PIP_INDEX_URL`, pip's configuration, or its default.

    Raises:
        InfrastructureError: pip did not print its configuration in time.
    """
    from mcore_compat.index.pip_index import PipIndex

    address = os.environ.get("PIP_INDEX_URL")
    if not address:
        argv = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
        completed = processes.run(argv, timeout=60)
        if completed.timed_out:
            raise InfrastructureError("pip did not print its configured index within 60 s")
        address = completed.output.strip() if completed.ok else None
    return PipIndex(address)


def resolvers_client() -> Client:
    """A client for uv's index: from its environment variables, or its default."""
    from mcore_compat.index.pip_index import PipIndex

    address = os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("UV_INDEX_URL") or ""
    return PipIndex(re.sub(r"^[A-Za-z0-9._-]+=", "", address) or None)


def refresh(
    known: Releases,
    index: Client,
    say: Callable[[str], None],
    packages: Sequence[str] = tuple(PACKAGES),
    *,
    allow_removals: bool = False,
) -> Releases:
    """The releases of `packages` on the index; metadata of `known` releases is not read again.

    Without `allow_removals`, the index must list all known releases and files.

    Raises:
        InfrastructureError: the index did not answer, or lacks known releases.
    """
    by_package: dict[str, tuple[Release, ...]] = {}
    for package in packages:
        say(f"querying the index for {package}")
        with _network(f"the index did not answer for {package}; nothing was changed"):
            by_package[package] = _releases(package, known, index)
        gone = _gone(known.of(package), by_package[package])
        if gone and not allow_removals:
            raise InfrastructureError(
                f"the index no longer lists {package} {_cut(gone)}; nothing was changed"
                + belief.REMOVED
            )
        for what in gone:
            say(f"  no longer listed: {package} {what}")
    return Releases(by_package)


def _gone(known: Sequence[Release], now: Sequence[Release]) -> list[str]:
    """The known releases and files that are no longer listed, newest first; yanked is listed."""
    there = {Version(release.version): release for release in now}
    gone = []
    for release in reversed(known):
        other = there.get(Version(release.version))
        gone += (
            [release.version]
            if other is None
            else [f"{release.version} ({what})" for what in belief.lost(release, other)]
        )
    return gone


def _cut(words: Sequence[str], most: int = 4) -> str:
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more


@contextlib.contextmanager
def _network(failure: str) -> Iterator[None]:
    """Turn other libraries' errors into an InfrastructureError: `failure`, its kind, what to do.

    Raises:
        InfrastructureError: the network failed, or the disk is full.
    """
    from pypi_simple import DigestMismatchError, NoSuchProjectError
    from remotezip import RemoteIOError

    try:
        yield
    except (OSError, NoSuchProjectError, DigestMismatchError, RemoteIOError) as error:
        raise InfrastructureError(f"{failure}: {_kind(error)}; try again") from error


def _kind(error: Exception) -> str:
    """What went wrong, without URLs: they may contain a password."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full"
    name = type(error).__name__
    plain = {
        "DigestMismatchError": "the download has another sha256 than the index lists",
        "NoSuchProjectError": "no such project",
    }
    if name in plain:
        return f"{plain[name]} ({name})"
    response = getattr(error, "response", None)
    # `requests` wraps the error of the last retry.
    reason = getattr(error.args[0] if error.args else None, "reason", None)
    if isinstance(reason, Exception):
        return f"{name} ({type(reason).__name__})"
    if response is not None:
        return f"{name} (status {response.status_code})"
    of_ours = re.fullmatch(r"status \d+|it was not complete after .*", str(error))
    return f"{name} ({error})" if of_ours else name


def files_of(package: str, index: Client, known: Sequence[Release] = ()) -> list[Any]:
    """The files of a package; empty if the index has no such package and none is known.

    Raises:
        InfrastructureError: the index did not answer, or lacks known releases.
    """
    from pypi_simple import NoSuchProjectError

    with _network(f"the index did not answer for {package}"):
        try:
            found = list(index.get_project_page(package).packages)
        except NoSuchProjectError:
            found = []
    if known:
        belief.check(package, found, known)
    return found


def listed(files: Iterable[Any]) -> list[dict[str, Any]]:
    """Every release among the files of a package, as fields of `Release`."""
    by_version = sorted((file for file in files if file.version), key=lambda f: str(f.version))
    groups = itertools.groupby(by_version, key=lambda f: str(f.version))
    return [{"version": version, **_fields(list(group))} for version, group in groups]


def installable(package: str, index: Client) -> list[str]:
    """The versions of a package with a wheel, oldest first, without yanked ones and pre-releases.

    Raises:
        InfrastructureError: the index did not answer, or has none.
    """
    versions: dict[Version, str] = {}
    for release in listed(files_of(package, index)):
        try:
            version = Version(release["version"])
        except InvalidVersion:
            continue
        if release["wheels"] and not (release["yanked"] or version.is_prerelease):
            versions[version] = release["version"]
    if not versions:
        raise InfrastructureError(f"the index lists no release of {package} with a wheel")
    return [versions[version] for version in sorted(versions)]


def _fields(files: Sequence[Any]) -> dict[str, Any]:
    """The fields of `Release` that follow from a release's files."""
    uploads = [file.upload_time for file in files if file.upload_time]
    return {
        "uploaded": min(uploads).strftime("%Y-%m-%dT%H:%M:%SZ") if uploads else "",
        "requires_python": next((f.requires_python for f in files if f.requires_python), ""),
        "yanked": all(file.is_yanked for file in files),
        "sdist": any(file.package_type == "sdist" for file in files),
        "wheels": tuple(sorted({*_tags(f.filename for f in files if f.package_type == "wheel")})),
    }


def requires_of(package: str, version: str, files: Iterable[Any], index: Client) -> tuple[str, ...]:
    """Requires-Dist of one release, given the files of its package; raises as `files_of`."""
    with _network(f"the index did not answer for {package}"):
        return _requires(package, [file for file in files if file.version == version], index)


def _releases(package: str, known: Releases, index: Client) -> tuple[Release, ...]:
    oldest = Version(PACKAGES.get(package, "0"))
    by_version: dict[Version, list[Any]] = {}
    for file in index.get_project_page(package).packages:
        try:
            version = Version(file.version or "")
        except InvalidVersion:
            continue
        # A development release of the oldest series is older than the series itself.
        if version >= oldest and not version.is_prerelease and not version.is_devrelease:
            by_version.setdefault(version, []).append(file)
    before = {Version(release.version): release for release in known.of(package)}
    belief.check(package, list(by_version), ())

    def release(version: Version) -> Release:
        files = by_version[version]
        belief.check_hashes(package, files)
        old = before.get(version, Release(package=package, version=str(version)))
        found = _fields(files)
        # Keep what never changes: it need not be read again, and this index may lack it.
        requires = old.requires or _requires(package, files, index)
        found["uploaded"] = found["uploaded"] or old.uploaded
        found["requires_python"] = found["requires_python"] or old.requires_python
        return Release(package=package, version=str(version), requires=requires, **found)

    with ThreadPoolExecutor(max_workers=8) as pool:
        return tuple(pool.map(release, sorted(by_version)))


def _tags(names: Iterable[str]) -> Iterable[str]:
    """Compressed tags of the wheels that fit an x86-64 Linux machine."""
    for name in names:
        if not name.endswith(("x86_64.whl", "-any.whl")) or "macosx" in name:
            continue
        try:
            _, _, _, tags = parse_wheel_filename(name)
        except (InvalidWheelFilename, InvalidSdistFilename):
            continue
        interpreters = ".".join(sorted({t.interpreter for t in tags}))
        abis = ".".join(sorted({t.abi for t in tags}))
        yield f"{interpreters}-{abis}-{'.'.join(sorted({t.platform for t in tags}))}"


def _requires(package: str, files: list[Any], index: Client) -> tuple[str, ...]:
    """Requires-Dist of a release: from a Linux wheel, else any wheel, else the source.

    A source's may be incomplete (setup.py may compute it). Raises as `belief.requires`.
    """
    wheels = [f for f in files if f.package_type == "wheel"]
    linux = [w for w in wheels if re.search(r"linux\w*_x86_64\.|-any\.", w.filename)]
    for file in (linux or wheels or [f for f in files if f.package_type == "sdist"])[:1]:
        text = index.metadata(file)
        if text is not None:
            return belief.requires(package, text, file.filename)
    return ()


def added(before: Releases, after: Releases) -> tuple[Release, ...]:
    """The releases of `after` that `before` lacks."""
    return tuple(
        release
        for package in after.by_package
        for release in after.of(package)
        if release.version not in {r.version for r in before.of(package)}
    )


def download_sdist(package: str, version: str, hashes: Sequence[str], folder: Path) -> Path:
    """Download the source distribution of a release; its sha256 must be in `hashes`.

    Raises:
        InfrastructureError: the index did not answer, or has no file with such a hash.
    """
    index = client()
    with _network(f"{package} {version} could not be downloaded"):
        for file in index.get_project_page(package).packages:
            if file.package_type == "sdist" and file.digests.get("sha256") in hashes:
                path: Path = folder / file.filename
                index.download_package(file, path)
                return path
    raise InfrastructureError(f"the index has no {package} {version} source with the lock's hash")


def download(file: Any, path: Path, index: Client) -> None:
    """Download one file of the index.

    Raises:
        InfrastructureError: the index did not answer, the file has another digest, or the disk is
            full.
    """
    with _network(f"{file.filename} could not be downloaded"):
        index.download_package(file, path)


def sources(file: Any, folder: Path, index: Client) -> None:
    """Extract the Python sources of a wheel below a folder.

    Raises:
        InfrastructureError: the index did not answer, the file is not that wheel, or the disk is
            full.
    """
    with _network(f"{file.filename} could not be read"):
        index.sources(file, folder)


def digests(file: Any, index: Client) -> dict[str, str]:
    """SHA-256 by path of what is in a wheel, as its own list says it.

    Raises:
        InfrastructureError: the index did not answer, or sent something other than the wheel.
    """
    with _network(f"{file.filename} could not be read"):
        return index.digests(file)
