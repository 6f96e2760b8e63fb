"""Compares the files of an environment with its `RECORD` files: path, digest, size (PyPA
specifications, "Recording installed projects")."""

from __future__ import annotations

import base64
import csv
import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Damage:
    """A file of a package that changed after its installation, and what is wrong with it."""

    package: str
    file: str
    problem: str

    def __str__(self) -> str:
        return f"{self.file} of {self.package} {self.problem}"


def damaged(site: Path, *, contents: bool, without: Collection[str] = ()) -> Damage | None:
    """The first file of a site-packages that changed after its installation; None if none did.

    `contents`: read all files, else compare only their sizes; `without`: folders that were removed
    on purpose.
    """
    for record in sorted(site.glob("*.dist-info/RECORD")):
        for name, digest, size in _rows(record):
            if name.startswith(tuple(f"{folder}/" for folder in without)):
                continue
            problem = _problem(site / name, digest if contents else "", size)
            if problem:
                return Damage(
                    record.parent.name.removesuffix(".dist-info").rpartition("-")[0], name, problem
                )
    return None


def _rows(record: Path) -> Iterator[tuple[str, str, str]]:
    with record.open(encoding="utf-8", errors="surrogateescape", newline="") as lines:
        for row in csv.reader(lines):
            if len(row) == 3 and row[2]:  # files made by the installer have no size
                yield row[0], row[1], row[2]


def _problem(path: Path, digest: str, size: str) -> str | None:
    try:
        there = path.stat().st_size
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if str(there) != size:
        return f"has {there} bytes, not {size}"
    kind, _, wanted = digest.partition("=")
    if not wanted:
        return None
    try:
        with path.open("rb") as content:
            found = hashlib.file_digest(content, kind).digest()
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    spelt = base64.urlsafe_b64encode(found).rstrip(b"=").decode()
    return None if spelt == wanted else "has other content than the installed wheel"
