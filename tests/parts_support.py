"""Results of parts, made up."""

from __future__ import annotations

from typing import Any

from support import START, event, stand_in_cell

from mcore_compat.results import evidence
from mcore_compat.results.evidence import Evidence
from mcore_compat.results.from_events import Builder
from mcore_compat.run import part_results as results
from mcore_compat.run.check_sets import RANKS, Part


def taken(
    *events: dict[str, Any], part: Part = RANKS, device: str = "host", end: bool = True
) -> Evidence:
    base = evidence.start(stand_in_cell(), device_class=device, lock="l", suite="d")
    builder = Builder(base)
    for one in ({**START, "device_class": device}, *events):
        builder.take(one)
    if end:
        builder.take({"event": "end", "seconds": 1.0})
    return results.of(builder.evidence(), part)


ONE = event("restore-tp1-to-tp2[gpt]", details={"tensors": 3, "left_behind": ["python x"]})
