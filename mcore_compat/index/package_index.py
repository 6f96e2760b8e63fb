"""The one module that talks to the package index: the one that pip is configured for."""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import os
import re
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from packaging.metadata import Metadata
from packaging.utils import InvalidSdistFilename, InvalidWheelFilename, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from mcore_compat.base import processes
from mcore_compat.base.errors import InfrastructureError
from mcore_compat.core.releases import Release, Releases

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
"""What is asked for, and the oldest version that matters: the file stays one that can be read."""


class Client(Protocol):
    """What is asked of the index; tests pass their own."""

    def get_project_page(self, project: str) -> Any: ...

    def metadata(self, file: Any) -> str | None: ...

    def download_package(self, pkg: Any, path: Any) -> None: ...


class PipIndex:
    """The index that pip is configured for: `PIP_INDEX_URL`, its configuration, or its default."""

    def __init__(self) -> None:
        import pypi_simple

        # nox shows what any library logs; a line for each request hides the progress.
        logging.getLogger("urllib3").setLevel(logging.WARNING)
        address = os.environ.get("PIP_INDEX_URL")
        if not address:
            argv = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
            completed = processes.run(argv, timeout=30)
            address = completed.output.strip() if completed.ok else None
        self._simple = pypi_simple.PyPISimple(address or pypi_simple.PYPI_SIMPLE_ENDPOINT)

    def get_project_page(self, project: str) -> Any:
        """The files of a project, as `pypi_simple.ProjectPage`."""
        return self._simple.get_project_page(project)

    def download_package(self, pkg: Any, path: Any) -> None:
        """One file, its digest checked."""
        self._simple.download_package(pkg, path)

    def metadata(self, file: Any) -> str | None:
        """METADATA of a wheel, PKG-INFO of a source; None where the file has none.

        What the index keeps beside a wheel (PEP 658) is one small answer; where it keeps
        nothing, the wheel's own member is read by HTTP ranges, never the whole wheel.
        """
        from pypi_simple import NoMetadataError

        if file.package_type == "sdist":
            return self._pkg_info(file)
        try:
            return str(self._simple.get_package_metadata(file, verify=False))
        except NoMetadataError:
            return self._member(file)

    def _member(self, file: Any) -> str | None:
        from remotezip import RemoteZip

        with RemoteZip(file.url.partition("#")[0], session=self._simple.s) as wheel:
            names = [n for n in wheel.namelist() if n.endswith(".dist-info/METADATA")]
            return wheel.read(names[0]).decode() if names else None

    def _pkg_info(self, file: Any) -> str | None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / file.filename
            self._simple.download_package(file, path)
            if not tarfile.is_tarfile(path):
                return None
            with tarfile.open(path) as source:
                for member in source:
                    # The package's own, at the top: a vendored one lies deeper.
                    if member.name.count("/") == 1 and member.name.endswith("/PKG-INFO"):
                        content = source.extractfile(member)
                        return content.read().decode() if content else None
        return None


def client() -> Client:
    """A client for pip's index."""
    return PipIndex()


def refresh(
    known: Releases,
    index: Client,
    say: Callable[[str], None],
    packages: Sequence[str] = tuple(PACKAGES),
) -> Releases:
    """Everything that the index knows of `packages`; metadata that is `known` is not read again.

    Raises:
        InfrastructureError: the index did not answer; nothing is returned by halves.
    """
    by_package: dict[str, tuple[Release, ...]] = {}
    for package in packages:
        say(f"asking the index for {package}")
        with _network(f"the index did not answer for {package}; nothing was changed"):
            by_package[package] = _releases(package, known, index)
    return Releases(by_package)


@contextlib.contextmanager
def _network(failure: str) -> Iterator[None]:
    """Turn what is no error of ours into `failure`, with its kind, and what helps.

    Raises:
        InfrastructureError: the network failed, or the disk is full.
    """
    from pypi_simple import DigestMismatchError, NoSuchProjectError
    from remotezip import RemoteIOError

    try:
        yield
    except (OSError, NoSuchProjectError, DigestMismatchError, RemoteIOError) as error:
        full = isinstance(error, OSError) and error.errno == errno.ENOSPC
        kind = "the disk is full" if full else type(error).__name__
        raise InfrastructureError(f"{failure}: {kind}; try again") from error


def files_of(package: str, index: Client) -> list[Any]:
    """The files of a package; empty where the index has no such package.

    Raises:
        InfrastructureError: the index did not answer.
    """
    from pypi_simple import NoSuchProjectError

    with _network(f"the index did not answer for {package}"):
        try:
            return list(index.get_project_page(package).packages)
        except NoSuchProjectError:
            return []


def listed(files: Iterable[Any]) -> list[dict[str, Any]]:
    """Every release among the files of a package, in the fields of `Release`."""
    by_version = sorted((file for file in files if file.version), key=lambda f: str(f.version))
    groups = itertools.groupby(by_version, key=lambda f: str(f.version))
    return [{"version": version, **_fields(list(group))} for version, group in groups]


def _fields(files: Sequence[Any]) -> dict[str, Any]:
    """What the files of a release say of it."""
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
        return _requires([file for file in files if file.version == version], index)


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
    requires = {Version(release.version): release.requires for release in known.of(package)}

    def release(version: Version) -> Release:
        files = by_version[version]
        return Release(
            package=package,
            version=str(version),
            # Metadata of a release never changes: what was read once is kept.
            requires=requires.get(version) or _requires(files, index),
            **_fields(files),
        )

    with ThreadPoolExecutor(max_workers=8) as pool:
        return tuple(pool.map(release, sorted(by_version)))


def _tags(names: Iterable[str]) -> Iterable[str]:
    """Compressed tags of the wheels that an x86-64 Linux machine can take; no other matters."""
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


def _requires(files: list[Any], index: Client) -> tuple[str, ...]:
    """Requires-Dist of a release: of a Linux wheel, else of any wheel, else of the source.

    A source's may be incomplete (its metadata is dynamic where setup.py decides).
    """
    wheels = [f for f in files if f.package_type == "wheel"]
    linux = [w for w in wheels if re.search(r"linux\w*_x86_64\.|-any\.", w.filename)]
    for file in (linux or wheels or [f for f in files if f.package_type == "sdist"])[:1]:
        text = index.metadata(file)
        if text is not None:
            metadata = Metadata.from_email(text, validate=False)
            return tuple(sorted(str(r) for r in metadata.requires_dist or ()))
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
    """The source distribution of a release, its sha256 checked against `hashes` of the lock.

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
    raise InfrastructureError(f"the index has no source of {package} {version} of the lock's hash")


def download(file: Any, path: Path, index: Client) -> None:
    """One file of the index.

    Raises:
        InfrastructureError: the index did not answer, what it sent has another digest, or the disk
            is full.
    """
    with _network(f"{file.filename} could not be downloaded"):
        index.download_package(file, path)
