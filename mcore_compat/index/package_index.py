"""The one module that talks to the package index: the one that pip is configured for."""

from __future__ import annotations

import errno
import logging
import os
import re
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Sequence
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
        address = os.environ.get("PIP_INDEX_URL") or _configured()
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
                        found = source.extractfile(member)
                        return found.read().decode() if found else None
        return None


def client() -> Client:
    """A client for pip's index."""
    return PipIndex()


def _configured() -> str | None:
    done = processes.run(
        [sys.executable, "-m", "pip", "config", "get", "global.index-url"], timeout=30
    )
    return done.output.strip() if done.ok else None


def refresh(
    known: Releases,
    asked: Client,
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
        try:
            by_package[package] = _releases(package, known, asked)
        except Exception as error:
            if not _is_network(error):
                raise
            raise InfrastructureError(
                f"the index did not answer for {package}: {type(error).__name__}; "
                "nothing was changed, try again"
            ) from error
    return Releases(by_package)


def _is_network(error: Exception) -> bool:
    import requests
    from pypi_simple import DigestMismatchError, NoSuchProjectError
    from remotezip import RemoteIOError

    of_network = (requests.RequestException, NoSuchProjectError, DigestMismatchError)
    return isinstance(error, (*of_network, RemoteIOError, OSError))


def files_of(package: str, asked: Client) -> list[Any]:
    """The files of a package; empty where the index has no such package.

    Raises:
        InfrastructureError: the index did not answer.
    """
    from pypi_simple import NoSuchProjectError

    try:
        return list(asked.get_project_page(package).packages)
    except NoSuchProjectError:
        return []
    except Exception as error:
        raise _silent(package, error) from error


def listed(packages: Iterable[Any]) -> list[dict[str, Any]]:
    """Every release among the files of a package, in the fields of `metadata.Listed`."""
    found: dict[str, list[Any]] = {}
    for file in packages:
        if file.version:
            found.setdefault(file.version, []).append(file)
    rows = []
    for version, mine in sorted(found.items()):
        uploads = [p.upload_time for p in mine if p.upload_time]
        wheels = [p.filename for p in mine if p.package_type == "wheel"]
        rows.append(
            {
                "version": version,
                "uploaded": min(uploads).strftime("%Y-%m-%dT%H:%M:%SZ") if uploads else "",
                "requires_python": next((p.requires_python for p in mine if p.requires_python), ""),
                "yanked": all(p.is_yanked for p in mine),
                "sdist": any(p.package_type == "sdist" for p in mine),
                "wheels": sorted(set(_tags(wheels))),
            }
        )
    return rows


def requires_of(
    package: str, version: str, packages: Iterable[Any], asked: Client
) -> tuple[str, ...]:
    """Requires-Dist of one release, given the files of its package; raises as `files_of`."""
    try:
        return _requires([p for p in packages if p.version == version], asked)
    except Exception as error:
        raise _silent(package, error) from error


def _silent(package: str, error: Exception) -> Exception:
    """The error to raise where the index did not answer; another one as it is."""
    if not _is_network(error):
        return error
    return InfrastructureError(
        f"the index did not answer for {package}: {type(error).__name__}; try again"
    )


def _releases(package: str, known: Releases, asked: Client) -> tuple[Release, ...]:
    oldest = Version(PACKAGES.get(package, "0"))
    found: dict[Version, list[Any]] = {}
    for file in asked.get_project_page(package).packages:
        try:
            version = Version(file.version or "")
        except InvalidVersion:
            continue
        # A development release of the oldest series is older than the series itself.
        if version >= oldest and not version.is_prerelease and not version.is_devrelease:
            found.setdefault(version, []).append(file)
    before = {Version(r.version): r for r in known.of(package)}
    with ThreadPoolExecutor(max_workers=8) as pool:
        done = pool.map(lambda v: _release(package, v, found[v], before.get(v), asked), found)
    return tuple(sorted(done, key=lambda r: Version(r.version)))


def _release(
    package: str, version: Version, packages: list[Any], before: Release | None, asked: Client
) -> Release:
    wheels = [p for p in packages if p.package_type == "wheel"]
    # Metadata of a release never changes: what was read once is kept.
    requires = before.requires if before and before.requires else _requires(packages, asked)
    uploads = [p.upload_time for p in packages if p.upload_time]
    return Release(
        package=package,
        version=str(version),
        uploaded=min(uploads).strftime("%Y-%m-%dT%H:%M:%SZ") if uploads else "",
        requires_python=next((p.requires_python for p in packages if p.requires_python), ""),
        yanked=all(p.is_yanked for p in packages),
        sdist=any(p.package_type == "sdist" for p in packages),
        wheels=tuple(sorted(set(_tags(p.filename for p in wheels)))),
        requires=requires,
    )


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


def _requires(files: list[Any], asked: Client) -> tuple[str, ...]:
    """Requires-Dist of a release: of a Linux wheel, else of any wheel, else of the source.

    A source's may be incomplete (its metadata is dynamic where setup.py decides).
    """
    wheels = [f for f in files if f.package_type == "wheel"]
    linux = [w for w in wheels if re.search(r"linux\w*_x86_64\.|-any\.", w.filename)]
    for file in (linux or wheels or [f for f in files if f.package_type == "sdist"])[:1]:
        text = asked.metadata(file)
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
    asked = client()
    try:
        for file in asked.get_project_page(package).packages:
            if file.package_type == "sdist" and file.digests.get("sha256") in hashes:
                path: Path = folder / file.filename
                asked.download_package(file, path)
                return path
    except Exception as error:
        if not _is_network(error):
            raise
        raise InfrastructureError(
            f"{package} {version} could not be downloaded: {type(error).__name__}"
        ) from error
    raise InfrastructureError(f"the index has no source of {package} {version} of the lock's hash")


def download(file: Any, path: Path, asked: Client) -> None:
    """One file of the index.

    Raises:
        InfrastructureError: the index did not answer, or what it sent has another digest.
        OSError: the disk is full.
    """
    try:
        asked.download_package(file, path)
    except Exception as error:
        if not _is_network(error) or getattr(error, "errno", None) == errno.ENOSPC:
            raise
        raise InfrastructureError(
            f"{file.filename} could not be downloaded: {type(error).__name__}; try again"
        ) from error
