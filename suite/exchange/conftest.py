"""Which checks are asked: those whose folder is named, and none where the main suite runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from suite.exchange import kept

HERE = Path(__file__).resolve().parent
ASKED_WITH = {"check_save.py": kept.SAVE_INTO, "check_load.py": kept.LOAD_FROM}
"""By file of checks: the variable without which it has nothing to do."""


def pytest_configure(config: pytest.Config) -> None:
    if mine(config) and not any(os.environ.get(name) for name in ASKED_WITH.values()):
        names = " or ".join(ASKED_WITH.values())
        raise pytest.UsageError(f"the exchange has no folder: set {names}")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    variable = ASKED_WITH.get(collection_path.name)
    if variable is None or collection_path.parent != HERE:
        return None
    return True if not mine(config) or not os.environ.get(variable) else None


def mine(config: pytest.Config) -> bool:
    """Whether the exchange was asked for, rather than the main suite above it."""
    return config.rootpath.resolve() == HERE


@pytest.fixture
def family(request: pytest.FixtureRequest) -> str:
    """The family's name alone: whether a release has it depends on the spec that is asked for."""
    return str(request.param)
