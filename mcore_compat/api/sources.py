"""Extracts the sources of a release from its wheel into a temporary folder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mcore_compat.api.packages import IndexedPackage
from mcore_compat.base.errors import InfrastructureError
from mcore_compat.index import package_index
from mcore_compat.index.package_index import Client

_FOR_LINUX = re.compile(r"-any\.whl$|linux\w*_x86_64\.")


def gather(package: IndexedPackage, version: str, folder: Path, index: Client) -> None:
    """Write the Python sources of a release below a folder; each folder of them is a package.

    Raises:
        InfrastructureError: the index did not answer, or no wheel of the release has sources.
    """
    below = folder.joinpath(*package.root.split("."))
    for name in (package.name, *package.also):
        wheel = _wheel(package_index.files_of(name, index), version)
        if wheel is not None:
            package_index.sources(wheel, folder, index)
        if below.is_dir():
            _complete(folder)
            return
    raise InfrastructureError(
        f"no wheel of {package.name} {version} has the sources of {package.root}"
    )


def digests(package: IndexedPackage, version: str, index: Client) -> dict[str, str]:
    """SHA-256 by path of the Python sources of a release; empty where it has no wheel of them.

    Raises:
        InfrastructureError: the index did not answer, or its wheel cannot be read.
    """
    below = f"{package.root.partition('.')[0]}/"
    for name in (package.name, *package.also):
        wheel = _wheel(package_index.files_of(name, index), version)
        listed = package_index.digests(wheel, index) if wheel is not None else {}
        found = {path: digest for path, digest in listed.items() if path.startswith(below)}
        found = {path: digest for path, digest in found.items() if path.endswith(".py")}
        if found:
            return found
    return {}


def _wheel(files: Sequence[Any], version: str) -> Any | None:
    """A wheel of a release: all have the same sources, so any will do."""
    wheels = [f for f in files if f.version == version and f.package_type == "wheel"]
    fitting = [f for f in wheels if _FOR_LINUX.search(f.filename)] or wheels
    return min(fitting, key=lambda f: str(f.filename), default=None)


def _complete(folder: Path) -> None:
    """Add `__init__.py` to folders without one: Python can import them, but griffe ignores them."""
    for file in list(folder.rglob("*.py")):
        for place in file.relative_to(folder).parents[:-1]:
            init = folder / place / "__init__.py"
            if not init.exists():
                init.touch()
