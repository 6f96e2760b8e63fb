"""Fixtures of the host side's tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support import START, stand_in_cell

from mcore_compat.core.cells import Cell
from mcore_compat.results import evidence
from mcore_compat.results.evidence import Evidence
from mcore_compat.results.from_events import Builder


@pytest.fixture
def made() -> Callable[..., Evidence]:
    """Evidence from events, as a run would make it."""

    def make(*events: dict[str, Any], cell: Cell | None = None, end: bool = True) -> Evidence:
        base = evidence.start(
            cell or stand_in_cell(), device_class="host", lock="l", suite="s", wheels={"w": "1"}
        )
        builder = Builder(base)
        for one in (START, *events, *([{"event": "end", "seconds": 1.0}] if end else [])):
            builder.take(one)
        return builder.evidence()

    return make
