"""On the node: installs large packages once for all cells that have the same wheels.

A layer is a folder on a cell's path, after its own packages and before those of the base. Its name
comes from the hashes of its wheels; it is kept for the next run in the bundle's folder.
"""

from __future__ import annotations

import os
import re
import shutil
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from mcore_compat.base import files
from mcore_compat.offline.node.install import Installer, Package, fill
from mcore_compat.offline.node.run_script import lock

LEAST = 50_000_000
"""Minimum unpacked bytes of a layer."""


def groups(root: Path, packages: Iterable[Package]) -> list[list[Package]]:
    """Group packages that must share a folder: TE's three wheels are one Python package, and find
    each other there."""
    groups: list[tuple[set[str], list[Package]]] = []
    for package in sorted(packages, key=lambda p: str(p["name"])):
        names = {member.filename.split("/")[0] for member in _members(root, package)}
        tops = {name for name in names if not name.endswith(".dist-info")}
        members = [package]
        for group in [group for group in groups if group[0] & tops]:
            groups.remove(group)
            tops, members = tops | group[0], group[1] + members
        groups.append((tops, members))
    return [members for _, members in groups]


def shared(root: Path, packages: Sequence[Package], least: int = LEAST) -> list[list[Package]]:
    """The groups to install as layers: large enough, and without commands, which must be in an
    environment's `bin` folder."""
    return [
        group
        for group in groups(root, packages)
        if sum(member.file_size for package in group for member in _members(root, package)) >= least
        and not any(_has_commands(root, package) for package in group)
    ]


def layer(installer: Installer, python: Path, packages: Sequence[Package], folder: Path) -> Path:
    """The layer of these packages in `folder`, installed by the first cell that needs it.

    Raises:
        InfrastructureError: the installation failed, or the disk is too small.
    """
    hashes = sorted(digest for package in packages for digest in package["files"].values())
    place = folder / files.sha256_bytes("\n".join(hashes).encode())[:16]
    folder.mkdir(parents=True, exist_ok=True)
    with place.with_suffix(".lock").open("a") as file:
        lock(file, wait=True)  # another cell may be installing it
        if not place.is_dir():
            part = place.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            fill(installer, python, packages, part)
            os.replace(part, place)
    return place


def _members(root: Path, package: Package) -> list[zipfile.ZipInfo]:
    members = []
    for name in package["files"]:
        with zipfile.ZipFile(root / name) as wheel:
            members += wheel.infolist()
    return members


def _has_commands(root: Path, package: Package) -> bool:
    names = [member.filename for member in _members(root, package)]
    return any(re.match(r"[^/]*\.data/|.*\.dist-info/entry_points\.txt$", name) for name in names)
