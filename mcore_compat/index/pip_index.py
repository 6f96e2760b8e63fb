"""The one module that talks to a package index. It is imported late: its imports are slow."""

from __future__ import annotations

import base64
import csv
import logging
import os
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any

import remotezip
from pypi_simple import PYPI_SIMPLE_ENDPOINT, NoMetadataError, NoSuchProjectError, PyPISimple
from pypi_simple.client import USER_AGENT
from requests import HTTPError

from mcore_compat.base import temporary
from mcore_compat.base.errors import InfrastructureError
from mcore_compat.index import belief, transport

_UNREADABLE = (UnicodeDecodeError, zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error)

MOST_OF_SOURCES = 64_000_000
"""Maximum bytes of a wheel to download for its sources; TE's core is five times larger."""


class PipIndex:
    """The index at `address`, else the public one. It validates every answer."""

    def __init__(self, address: str | None) -> None:
        # nox shows the logs of all libraries; a line for each request would hide the progress.
        logging.getLogger("urllib3").setLevel(logging.ERROR)
        session = transport.Session()
        session.headers["User-Agent"] = USER_AGENT
        self._simple = PyPISimple(address or PYPI_SIMPLE_ENDPOINT, session=session)

    def get_project_page(self, project: str) -> Any:
        """The files of a project, as `pypi_simple.ProjectPage`; raises as `belief.page`."""
        url = self._simple.get_project_url(project)
        answer = transport.get(self._simple.s, url, self._simple.accept)
        if answer.status == 404:
            raise NoSuchProjectError(project, url)
        if answer.status != 200:
            raise HTTPError(f"status {answer.status}")
        return belief.page(project, answer)

    def download_package(self, pkg: Any, path: Any) -> None:
        """Download one file; it gets its name only when it is complete and its digest verified.

        Raises:
            InfrastructureError: the index has no digest for it.
        """
        belief.check_hashes(pkg.project or pkg.filename, [pkg])
        target = Path(path)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".download-") as folder:
            part = Path(folder) / "part"
            transport.within(
                transport.limits().file, lambda: self._simple.download_package(pkg, part)
            )
            os.replace(part, target)

    def metadata(self, file: Any) -> str | None:
        """METADATA of a wheel, PKG-INFO of a source; None if the file has none.

        If the index has the metadata as a separate file (PEP 658), only that is read, else the
        wheel's member by HTTP ranges; never the whole wheel.

        Raises:
            InfrastructureError: the answer cannot be read.
        """
        try:
            return transport.within(transport.limits().page, lambda: self._metadata(file))
        except _UNREADABLE as e:
            raise InfrastructureError(
                f"the index sent an unreadable {file.filename}: {type(e).__name__}"
            ) from e

    def sources(self, file: Any, folder: Path) -> None:
        """Extract the Python sources of a wheel below a folder; a compiled module becomes an empty
        file.

        From a wheel larger than MOST_OF_SOURCES, only the sources are read, by HTTP ranges.

        Raises:
            InfrastructureError: the answer cannot be read.
        """
        limits = transport.limits()
        try:
            if (file.size or 0) > MOST_OF_SOURCES:
                transport.within(limits.page, lambda: self._sources_by_range(file, folder))
                return
            with temporary.folder() as place:
                path = place / file.filename
                self.download_package(file, path)
                with zipfile.ZipFile(path) as wheel:
                    _extract(wheel, folder)
        except _UNREADABLE as error:
            raise InfrastructureError(
                f"the index sent an unreadable {file.filename}: {type(error).__name__}"
            ) from error

    def digests(self, file: Any) -> dict[str, str]:
        """SHA-256 by path of what is in a wheel: its RECORD, read by HTTP ranges.

        Raises:
            InfrastructureError: what came cannot be read.
        """
        try:
            return transport.within(transport.limits().page, lambda: self._digests(file))
        except (*_UNREADABLE, KeyError, ValueError) as error:
            raise InfrastructureError(
                f"the index sent something else than {file.filename}: {type(error).__name__}"
            ) from error

    def _digests(self, file: Any) -> dict[str, str]:
        with remotezip.RemoteZip(file.url.partition("#")[0], session=self._simple.s) as wheel:
            name = next((n for n in wheel.namelist() if n.endswith(".dist-info/RECORD")), "RECORD")
            rows = csv.reader(wheel.read(name).decode().splitlines())
            return {
                row[0]: base64.urlsafe_b64decode(f"{row[1].removeprefix('sha256=')}=").hex()
                for row in rows
                if len(row) > 1 and row[1].startswith("sha256=")
            }

    def _sources_by_range(self, file: Any, folder: Path) -> None:
        with remotezip.RemoteZip(file.url.partition("#")[0], session=self._simple.s) as wheel:
            _extract(wheel, folder)

    def _metadata(self, file: Any) -> str | None:
        if file.package_type == "sdist":
            return self._pkg_info(file)
        try:
            verify = bool(getattr(file, "metadata_digests", None))
            return str(self._simple.get_package_metadata(file, verify=verify))
        except NoMetadataError:
            return self._member(file)

    def _member(self, file: Any) -> str | None:
        with remotezip.RemoteZip(file.url.partition("#")[0], session=self._simple.s) as wheel:
            names = [n for n in wheel.namelist() if n.endswith(".dist-info/METADATA")]
            return wheel.read(names[0]).decode() if names else None

    def _pkg_info(self, file: Any) -> str | None:
        with temporary.folder() as folder:
            path = folder / file.filename
            self._simple.download_package(file, path)
            if not tarfile.is_tarfile(path):
                return None
            with tarfile.open(path) as source:
                for member in source:
                    # The package's own is at the top; deeper ones are vendored.
                    if member.name.count("/") == 1 and member.name.endswith("/PKG-INFO"):
                        content = source.extractfile(member)
                        return content.read().decode() if content else None
        return None


def _extract(wheel: zipfile.ZipFile, folder: Path) -> None:
    for name in wheel.namelist():
        inside = PurePosixPath(name)
        if inside.suffix not in (".py", ".so") or inside.is_absolute() or ".." in inside.parts:
            continue
        target = folder / inside
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(wheel.read(name) if inside.suffix == ".py" else b"")
