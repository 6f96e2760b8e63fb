"""The check sets: checks that are run together in one environment.

Standard library only: a bundle carries this to machines that have nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mcore_compat.base import files

SUITE_LIMIT_S = 1800.0
"""Seconds that a whole check set may take before its process group is killed."""


@dataclass(frozen=True, kw_only=True)
class CheckSet:
    """`devices`: how many GPUs it takes at a time, where there are so many; `limit`: seconds that
    all of its checks may take."""

    name: str
    devices: int = 1
    limit: float = SUITE_LIMIT_S

    @property
    def words(self) -> str:
        """What it is called in a sentence."""
        return "the suite" if self.name == "main" else self.name

    def folder(self, suite: Path) -> Path:
        """The folder of its checks; `suite` is that of the whole suite."""
        return suite if self.name == "main" else suite / self.name

    def digest(self, suite: Path) -> str:
        """Digest of its checks and of what of the suite they are made of: a result of another one
        is out of date."""
        main = files.sha256_tree(suite, deep=False)
        if self.name == "main":
            return main
        return files.sha256_bytes(f"{main}\n{files.sha256_tree(self.folder(suite))}".encode())


MAIN = CheckSet(name="main")
RANKS = CheckSet(name="ranks", devices=2)
# Kernels are compiled, and each check has a limit of its own.
GPU = CheckSet(name="gpu", limit=2 * SUITE_LIMIT_S)
EXCHANGE = CheckSet(name="exchange")

ON_A_GPU = {check_set.name: check_set for check_set in (RANKS, GPU)}
"""What a whole run of a cell asks beside the main set, where there is a GPU."""
