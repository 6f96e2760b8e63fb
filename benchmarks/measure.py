"""The row of a measurement, and how disk use is counted."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from mcore_compat.core.workspace import Workspace

HERE = Workspace(Path(__file__).resolve().parents[1])
"""The checkout."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measured figure. `limit` is what the project promises, in the same unit."""

    name: str
    what: str
    value: float
    unit: str
    limit: float
    alternative: str = ""
    alternative_value: float | None = None


def disk_usage(folder: Path, seen: set[tuple[int, int]]) -> int:
    """Bytes on disk below `folder`, counting no inode that is in `seen` (which it extends)."""
    total = 0
    for base, folders, names in os.walk(folder):
        for name in [*names, *folders]:
            status = os.lstat(os.path.join(base, name))
            inode = (status.st_dev, status.st_ino)
            if inode not in seen:
                seen.add(inode)
                total += status.st_blocks * 512
    return total
