"""One cell, end to end: lock → wheelhouse → environment → suite → evidence → verdict.

Each stage is another module's; what this one adds is their order, the early exits (fresh,
unresolvable, unbuildable) and the promise that what was learnt is kept.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mcore_compat import environment, evidence, expand, interpreters, locks, runner, wheelhouse
from mcore_compat.cells import Cell
from mcore_compat.errors import CompatError, InfrastructureError
from mcore_compat.evidence import Builder, Evidence, Fresh
from mcore_compat.files import ROOT, home, sha256_tree
from mcore_compat.locks import Lock, Unresolvable
from mcore_compat.matrix import Matrix
from mcore_compat.outcomes import CellOutcome
from mcore_compat.proc import Runner
from mcore_compat.releases import Releases
from mcore_compat.wheelhouse import Unbuildable, Wheel


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a cell is run. `limit`: seconds a check may take."""

    force: bool = False
    only: str | None = None
    limit: float = runner.CHECK_LIMIT_S
    store: bool = True


@dataclass(frozen=True, kw_only=True)
class Context:
    """What every stage needs; `run` is the one door to processes, `say` prints progress."""

    matrix: Matrix
    releases: Releases
    run: Runner
    say: Callable[[str], None]
    uv: Path


def device_class() -> str:
    """`gpu` where the NVIDIA driver is loaded, else `host`; asks no package under test."""
    return "gpu" if Path("/proc/driver/nvidia/version").exists() else "host"


def find_uv() -> Path:
    """The `uv` beside this Python, else the one on PATH."""
    try:
        import uv

        return Path(uv.find_uv_bin())
    except (ImportError, FileNotFoundError):
        found = shutil.which("uv")
    if found is None:
        raise InfrastructureError("uv was not found; install this package with its dependencies")
    return Path(found)


def suite_digest() -> str:
    """Digest of every file of the suite; part of what makes evidence fresh."""
    return sha256_tree(ROOT / "suite")


def lock_path(cell: Cell) -> Path:
    return ROOT / "constraints" / "locks" / f"{cell.name}.txt"
