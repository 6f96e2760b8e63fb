"""A stand-in for the index, shared by the tests of what is read from it."""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pypi_simple

from mcore_compat.core.releases import Release, Releases
from mcore_compat.index import package_index

PACKAGE = "a-stand-in"
"""Not in PACKAGES: without an oldest version."""

WHEEL = "a_stand_in-{}-py3-none-any.whl"
SDIST = "a_stand_in-{}.tar.gz"

MISMATCH = pypi_simple.DigestMismatchError(
    algorithm="sha256", expected_digest="aa", actual_digest="bb", url="https://index.invalid/a"
)


def file(filename: str, version: str = "1.0", **said: Any) -> SimpleNamespace:
    """A stand-in for a file of the index."""
    standard = {
        "filename": filename,
        "version": version,
        "package_type": "wheel" if filename.endswith(".whl") else "sdist",
        "upload_time": None,
        "requires_python": None,
        "is_yanked": False,
        "digests": {"sha256": "ab" * 32},
        "project": PACKAGE,
        "url": f"https://index.invalid/{filename}",
    }
    assert set(said) <= set(standard)
    return SimpleNamespace(**{**standard, **said})


def day(number: int, hour: int = 12) -> datetime.datetime:
    return datetime.datetime(2026, 1, number, hour, tzinfo=datetime.timezone.utc)


@dataclass
class StandIn:
    """Stands in for the index: `files` by package, METADATA by file name; an exception is raised.

    `read` names the files whose metadata was asked for.
    """

    files: Mapping[str, list[SimpleNamespace] | Exception]
    texts: Mapping[str, str | Exception | None] = field(default_factory=dict)
    read: list[str] = field(default_factory=list)

    def get_project_page(self, project: str) -> Any:
        found = self.files[project]
        if isinstance(found, Exception):
            raise found
        return SimpleNamespace(packages=found)

    def metadata(self, file: Any) -> str | None:
        self.read.append(file.filename)
        text = self.texts.get(file.filename)
        if isinstance(text, Exception):
            raise text
        return text

    def download_package(self, pkg: Any, path: Any) -> None:
        found = self.texts.get(pkg.filename)
        if isinstance(found, Exception):
            raise found
        Path(path).write_text(f"a stand-in for {pkg.filename}")


def quiet(text: str) -> None:
    """Says nothing."""


def refreshed(
    *files: SimpleNamespace,
    texts: Mapping[str, str | Exception | None] | None = None,
    known: Releases | None = None,
    package: str = PACKAGE,
) -> tuple[Release, ...]:
    """What a refresh gathers from `files`."""
    asked = StandIn({package: list(files)}, texts or {})
    return package_index.refresh(known or Releases({}), asked, quiet, [package]).of(package)


def metadata(*requires: str) -> str:
    lines = ["Metadata-Version: 2.1", "Name: a-stand-in", "Version: 1.0"]
    return "\n".join([*lines, *(f"Requires-Dist: {r}" for r in requires)]) + "\n\nProse.\n"
