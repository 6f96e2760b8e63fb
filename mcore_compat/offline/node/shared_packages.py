"""On the other machine: large packages, installed once for all cells that have the same wheels.

A layer is a folder that cells see behind their own packages and before those of the base. It is
named by the hashes of what is in it, and stays for the next run of the bundle's folder.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from mcore_compat.base import files
from mcore_compat.offline.node.install import Installer, Package, fill

LEAST = 50_000_000
"""Bytes, unpacked, from which on it is worth it."""


def groups(root: Path, packages: Iterable[Package]) -> list[list[Package]]:
    """The packages by the folder that they must lie in together: TE's three wheels are one package
    to Python, and look for each other there."""
    found: list[tuple[set[str], list[Package]]] = []
    for package in sorted(packages, key=lambda p: str(p["name"])):
        tops, mine = _tops(root, package), [package]
        for one in [one for one in found if one[0] & tops]:
            found.remove(one)
            tops, mine = tops | one[0], one[1] + mine
        found.append((tops, mine))
    return [mine for _, mine in found]


def shared(root: Path, packages: Sequence[Package], least: int = LEAST) -> list[list[Package]]:
    """Those of the groups that are worth a layer, and may be one: what has commands of its own
    belongs into an environment, which has the folder for them."""
    return [
        mine
        for mine in groups(root, packages)
        if sum(_size(root, package) for package in mine) >= least
        and not any(_has_commands(root, package) for package in mine)
    ]


def layer(installer: Installer, python: Path, packages: Sequence[Package], folder: Path) -> Path:
    """The layer of these packages in `folder`, installed by the first cell that asks.

    Raises:
        InfrastructureError: they were not installed, or the disk has no room for them.
    """
    hashes = sorted(digest for package in packages for digest in package["files"].values())
    place = folder / files.sha256_bytes("\n".join(hashes).encode())[:16]
    folder.mkdir(parents=True, exist_ok=True)
    with place.with_suffix(".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a cell beside this one installs it
        if not place.is_dir():
            part = place.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            fill(installer, python, packages, part)
            os.replace(part, place)
    return place


def _names(root: Path, package: Package) -> list[zipfile.ZipInfo]:
    found = []
    for name in package["files"]:
        with zipfile.ZipFile(root / name) as wheel:
            found += wheel.infolist()
    return found


def _tops(root: Path, package: Package) -> set[str]:
    """The names that a package has at the top of its folder, but for its own metadata."""
    tops = {one.filename.split("/")[0] for one in _names(root, package)}
    return {top for top in tops if not top.endswith(".dist-info")}


def _size(root: Path, package: Package) -> int:
    return sum(one.file_size for one in _names(root, package))


def _has_commands(root: Path, package: Package) -> bool:
    tops = _tops(root, package)
    return any(top.endswith(".data") for top in tops) or any(
        one.filename.endswith(".dist-info/entry_points.txt") for one in _names(root, package)
    )
