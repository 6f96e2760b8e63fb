"""A real cell in the toy project's place: its environment as it is in the cache.

The cache is laid below a folder of the workshop (overlayfs), so that whatever a fault leads to, or
the program writes, is not in the cache. A few checks are asked with `--only`; what is stored of the
cell must stay as it is.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

from minimatrix.project import REPOSITORY

from faults.hostile_index import HostileIndex
from faults.trial import Kind
from faults.workshop import Command, Workshop
from mcore_compat.base import files

CHECKS = "interface-gpt-spec,build-modelopt[gpt],restore[gpt]"
ASK = "ask"

LIMIT_S = 300.0

KINDS = (
    "limit-*",
    "folder-temporary-*",
    "shared-memory-*",
    "signal-*",
    "output-*",
    "clock-monotonic-*",
    "clock-wall-*",
)
"""What a real suite shows otherwise than the toy one."""

TOYS_ONLY = ("signal-uv-*", "signal-*-and-again")


def kinds_of(kinds: dict[str, Kind]) -> dict[str, Kind]:
    """The kinds that a real cell is tried with, each with its one command."""
    found = {}
    for name, kind in kinds.items():
        meant = any(fnmatchcase(name, word) for word in KINDS)
        if meant and not any(fnmatchcase(name, word) for word in TOYS_ONLY):
            found[name] = replace(kind, commands=(ASK,))
    return found


class RealWorkshop(Workshop):
    """A workspace with one real cell."""

    limit = LIMIT_S

    def __init__(self, folder: Path, index: HostileIndex, cell: str) -> None:
        super().__init__(folder, index)
        self.cell = cell
        self.commands = {ASK: Command(("run", cell, "--only", CHECKS))}

    def prepare(self) -> None:
        """Lay out the workspace.

        Raises:
            RuntimeError: there is no environment of the cell, or no result.
        """
        if not (files.home() / "envs" / self.cell / "bin").is_dir():
            raise RuntimeError(f"there is no environment of {self.cell}: nox -s {self.cell}")
        place = self.golden / "project"
        for name in ("constraints", "suite"):
            shutil.copytree(REPOSITORY / name, place / name)
        results = Path("reports", "results")
        for name in (self.cell, "shared"):
            shutil.copytree(REPOSITORY / results / name, place / results / name)

    def reset(self) -> None:
        """Put the workspace back, over the cache as it is."""
        super().reset()
        over = self.folder / "over"
        shutil.rmtree(over, ignore_errors=True)
        for name in ("upper", "work"):
            (over / name).mkdir(parents=True)
        self.toy.home.mkdir()
        options = f"lowerdir={files.home()},upperdir={over / 'upper'},workdir={over / 'work'}"
        words = ["mount", "-t", "overlay", "overlay", "-o", options, self.toy.home]
        subprocess.run(words, check=True)
        self.mounts.append(self.toy.home)

    def names(self) -> set[str]:
        """Of a home of gigabytes nothing is compared."""
        return set()
