"""The check sets: checks that run together in one environment.

Standard library only: bundles run this on machines that have nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mcore_compat.base import files

SUITE_LIMIT_S = 1800.0
"""Seconds that a whole check set may take before its process group is killed."""


@dataclass(frozen=True, kw_only=True)
class CheckSet:
    """`devices`: the number of GPUs it uses at a time, if there are as many; `limit`: the time
    limit of all its checks together, in seconds."""

    name: str
    devices: int = 1
    limit: float = SUITE_LIMIT_S

    @property
    def words(self) -> str:
        """Its name in a sentence."""
        return "the suite" if self.name == "main" else self.name

    def folder(self, suite: Path) -> Path:
        """The folder of its checks; `suite`: the folder of the whole suite."""
        return suite if self.name == "main" else suite / self.name

    def digest(self, suite: Path) -> str:
        """Digest of its checks and of the parts of the suite that they use: a result with another
        digest is out of date."""
        main = files.sha256_tree(suite, deep=False)
        if self.name == "main":
            return main
        return files.sha256_bytes(f"{main}\n{files.sha256_tree(self.folder(suite))}".encode())


MAIN = CheckSet(name="main")
RANKS = CheckSet(name="ranks", devices=2)
# It compiles kernels, and each of its checks has its own limit.
GPU = CheckSet(name="gpu", limit=2 * SUITE_LIMIT_S)
EXCHANGE = CheckSet(name="exchange")

ON_A_GPU = {check_set.name: check_set for check_set in (RANKS, GPU)}
"""The check sets that a whole run of a cell runs beside the main one, if there is a GPU."""
