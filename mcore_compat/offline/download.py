"""Fetches wheels of a lock by their hashes: from the cache, else from the package index."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from mcore_compat.base import files
from mcore_compat.base.errors import InfrastructureError
from mcore_compat.index import package_index
from mcore_compat.index.package_index import Client
from mcore_compat.resolve.locks import Pin


def folder() -> Path:
    """The cache of downloaded wheels: each in a folder named by its SHA-256."""
    return files.home() / "downloads"


def kept(digest: str) -> Path | None:
    """The cached wheel of a hash, or None. Its content is not verified here."""
    return next(iter(sorted((folder() / digest).glob("*.whl"))), None)


def ensure(
    pins: Iterable[Pin],
    say: Callable[[str], None],
    *,
    pure: bool = False,
    client: Callable[[], Client] = package_index.client,
) -> dict[str, Path]:
    """The wheels of `pins`, as path by hash: all of each pin, or with `pure` only those for every
    platform.

    Raises:
        InfrastructureError: the index did not answer, lacks a file, or the disk is full.
    """
    paths: dict[str, Path] = {}
    missing = []
    for pin in pins:
        wheels = {digest: path for digest in pin.hashes if (path := kept(digest))}
        if len(wheels) == len(pin.hashes) or (pure and wheels):
            paths.update(wheels)
        else:
            missing.append(pin)
    if missing:
        say(f"downloading the wheels of {len(missing)} packages")
        index = client()
        with files.disk_errors(folder()), ThreadPoolExecutor(max_workers=4) as pool:
            for downloaded in pool.map(lambda pin: _download(pin, index, pure, say), missing):
                paths.update(downloaded)
    return paths


def _download(pin: Pin, index: Client, pure: bool, say: Callable[[str], None]) -> dict[str, Path]:
    paths: dict[str, Path] = {}
    for file in package_index.files_of(pin.name, index):
        digest = file.digests.get("sha256")
        wanted = file.filename.endswith("-none-any.whl" if pure else ".whl")
        if digest in pin.hashes and wanted:
            paths[digest] = kept(digest) or _fetched(file, digest, index, say)
    if not paths or (not pure and len(paths) < len(pin.hashes)):
        raise InfrastructureError(
            f"the index does not have all wheels of {pin.name} {pin.version} with the lock's hashes"
        )
    return paths


def _fetched(file: Any, digest: str, index: Client, say: Callable[[str], None]) -> Path:
    """Download one file; it gets its name only when it is complete and verified."""
    size = getattr(file, "size", None)
    if size and size > 50_000_000:
        say(f"  {file.filename}, {size / 1e6:.0f} MB")
    place: Path = folder() / digest / file.filename
    folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder()) as part_folder:
        part = Path(part_folder) / file.filename
        package_index.download(file, part, index)
        if files.sha256_file(part) != digest:
            raise InfrastructureError(f"{file.filename} was damaged during the download; try again")
        place.parent.mkdir(exist_ok=True)
        os.replace(part, place)
    return place
