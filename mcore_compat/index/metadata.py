"""Caches the index's data for the resolver, so that it can work without a network: files by
version, and Requires-Dist of the versions that it has looked at.

One JSON file a package below `<cache>/metadata/`. The metadata of a release never changes. The list
of releases does; it is read again for a later date (`MetadataStore.page`).
"""

from __future__ import annotations

import contextlib
import datetime
import json
import threading
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from packaging.version import InvalidVersion, Version

from mcore_compat.base import files
from mcore_compat.base.errors import CompatError, InfrastructureError
from mcore_compat.core.releases import Release, Releases
from mcore_compat.index import package_index
from mcore_compat.index.package_index import Client


class NotKeptError(CompatError):
    """The cache does not have it, and the index must not be queried."""

    exit_code = InfrastructureError.exit_code


@dataclass
class MetadataStore:
    """Pages and requirements by package; `client` is None if the index must not be queried."""

    folder: Path = field(default_factory=lambda: files.home() / "metadata")
    client: Client | None = None
    known: Releases = field(default_factory=lambda: Releases({}))
    """Releases that the index must list; an answer without them is an error."""
    today: str = field(default_factory=lambda: datetime.date.today().isoformat())
    fitting: dict[tuple[str, str, bool], tuple[tuple[Release, ...], tuple[Release, ...]]] = field(
        default_factory=dict
    )
    """For the resolver: by package, python and whether from source, a page and its fitting
    releases."""
    _kept: dict[str, dict[str, Any]] = field(default_factory=dict)
    _pages: dict[str, tuple[Release, ...]] = field(default_factory=dict)
    _files: dict[str, list[Any]] = field(default_factory=dict)
    _changed: set[str] = field(default_factory=set)
    _locks: defaultdict[str, threading.RLock] = field(
        default_factory=lambda: defaultdict(threading.RLock)
    )

    def page(self, package: str, until: str) -> tuple[Release, ...]:
        """Every release of a package, newest first; empty if the index has none.

        `until`: the date up to which the page must be complete; an older page is read again if
        there is a client.

        Raises:
            NotKeptError: the cache does not have the page, and there is no client.
            InfrastructureError: the index did not answer, or lacks known releases or all releases
                of a package in the cache.
        """
        with self._locks[package]:
            record = self._load(package)
            outdated = record.get("asked", "") < min(until, self.today)
            if "page" not in record or (outdated and self.client is not None):
                page = package_index.listed(self._files_of(package))
                if record.get("page") and not page:
                    raise InfrastructureError(
                        f"the index lists no release of {package}, but did before; "
                        f"if that is correct, remove {self._path(package)}"
                    )
                record["page"] = page
                record["asked"] = self.today
                self._changed.add(package)
                self._pages.pop(package, None)
            if package not in self._pages:
                self._pages[package] = tuple(_rows(package, record["page"]))
            return self._pages[package]

    def requires(self, package: str, version: str) -> tuple[str, ...]:
        """Requires-Dist of a release; raises as `page`."""
        with self._locks[package]:
            record = self._load(package)
            by_version = record.setdefault("requires", {})
            if version not in by_version:
                listing = self._files_of(package)
                assert self.client is not None
                answer = package_index.requires_of(package, version, listing, self.client)
                by_version[version] = list(answer)
                self._changed.add(package)
            return tuple(by_version[version])

    def save(self) -> None:
        """Write the new data to the cache."""
        for package in sorted(self._changed):
            with self._locks[package]:
                text = json.dumps(self._kept[package], sort_keys=True, indent=0)
                files.write_text(self._path(package), text + "\n", durable=False)
                self._changed.discard(package)

    def _path(self, package: str) -> Path:
        return self.folder / f"{package}.json"

    def _load(self, package: str) -> dict[str, Any]:
        if package not in self._kept:
            try:
                record = json.loads(self._path(package).read_text(encoding="utf-8"))
            except (OSError, ValueError):
                record = {}  # not in the cache, or truncated: query the index
            self._kept[package] = record if isinstance(record, dict) else {}
        return self._kept[package]

    def _files_of(self, package: str) -> list[Any]:
        """The files of a package; queries the index once."""
        if self.client is None:
            raise NotKeptError(f"the cache has no data of {package}; fetch it: nox -s static")
        if package not in self._files:
            known = self.known.of(package)
            self._files[package] = package_index.files_of(package, self.client, known)
        return self._files[package]


def _rows(package: str, page: list[dict[str, Any]]) -> list[Release]:
    releases = []
    for row in page:
        with contextlib.suppress(InvalidVersion):  # no resolver accepts it
            Version(row["version"])
            releases.append(Release(package=package, **{**row, "wheels": tuple(row["wheels"])}))
    return sorted(releases, key=lambda r: Version(r.version), reverse=True)
