"""The constraints of one day, which unit tests take for the project's: what a night commits turns
none of them red. What is committed by now is looked at in `test_committed_data.py` alone.

Made anew, where a test wants a release that is not in it, by copying `constraints/` here.
"""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from mcore_compat.core import matrix as matrices
from mcore_compat.core import releases as facts
from mcore_compat.core.cells import Cell
from mcore_compat.core.matrix import Matrix
from mcore_compat.core.releases import Releases
from mcore_compat.run import pipeline

CONSTRAINTS = Path(__file__).resolve().parent / "constraints"
MATRIX, RELEASES = CONSTRAINTS / "matrix.toml", CONSTRAINTS / "releases.json"
DAY = datetime.date(2026, 11, 28)


def matrix() -> Matrix:
    """The matrix of that day, read on that day: none of its rules has expired."""
    return matrices.load(MATRIX, DAY)


def releases() -> Releases:
    """What was known of releases."""
    return facts.load(RELEASES)


def lock_path(cell: Cell) -> Path:
    """Where a cell's lock lies; only those that tests need are there."""
    return CONSTRAINTS / "locks" / f"{cell.name}.txt"


def use(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the program take these for the project's; once it can be pointed at a folder, that."""
    monkeypatch.setattr(matrices, "PATH", MATRIX)
    monkeypatch.setattr(matrices.load, "__defaults__", (MATRIX, DAY))
    monkeypatch.setattr(facts, "PATH", RELEASES)
    monkeypatch.setattr(facts.load, "__defaults__", (RELEASES,))
    monkeypatch.setattr(pipeline, "lock_path", lock_path)
