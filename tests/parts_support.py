"""Results of check sets beside the main one, made up."""

from __future__ import annotations

from typing import Any

from support import START, event, stand_in_cell

from mcore_compat.results.from_events import Builder
from mcore_compat.results.result import Result, empty_result
from mcore_compat.run.check_sets import RANKS, CheckSet


def taken(
    *events: dict[str, Any], part: CheckSet = RANKS, device: str = "host", end: bool = True
) -> Result:
    base = empty_result(
        stand_in_cell(), device_class=device, lock="l", suite="d", check_set=part.name
    )
    builder = Builder(base)
    for one in ({**START, "device_class": device}, *events):
        builder.take(one)
    if end:
        builder.take({"event": "end", "seconds": 1.0})
    return builder.result()


ONE = event("restore-tp1-to-tp2[gpt]", details={"tensors": 3, "left_behind": ["python x"]})
