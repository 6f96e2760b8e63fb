"""Fixtures of the host side's tests."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import snapshot
from hypothesis import settings
from support import START, stand_in_cell

from mcore_compat.core.cells import Cell
from mcore_compat.results.from_events import Builder
from mcore_compat.results.result import Result, empty_result

settings.register_profile("quick", max_examples=25, deadline=None)
settings.register_profile("thorough", max_examples=500, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


def pytest_configure() -> None:
    """Where Python is told to compile nothing beside sources, let it do so elsewhere: hundreds of
    processes that tests start would otherwise compile pytest and the program, each anew."""
    if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        place = os.environ.setdefault(
            "PYTHONPYCACHEPREFIX", str(caches / "mcore-compat-tests" / "pycache")
        )
        sys.dont_write_bytecode, sys.pycache_prefix = False, place


@pytest.fixture
def on_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    """The program takes the constraints of `tests/snapshot/` for the project's."""
    snapshot.use(monkeypatch)


@pytest.fixture
def made() -> Callable[..., Result]:
    """A result from events, as a run would make it."""

    def make(*events: dict[str, Any], cell: Cell | None = None, end: bool = True) -> Result:
        base = empty_result(
            cell or stand_in_cell(), device_class="host", lock="l", suite="s", wheels={"w": "1"}
        )
        builder = Builder(base)
        for one in (START, *events, *([{"event": "end", "seconds": 1.0}] if end else [])):
            builder.take(one)
        return builder.result()

    return make
