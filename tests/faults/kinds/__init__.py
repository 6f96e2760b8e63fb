"""The kinds of fault, a module an area; each adds its own to the `REGISTRY`."""

from faults.kinds import (
    clocks,
    doubles,
    environments,
    folders,
    indexes,
    limits,
    locks,
    results,
    signals,
    streams,
    suites,
    system_calls,
)
from faults.kinds.registry import REGISTRY

__all__ = [
    "REGISTRY",
    "clocks",
    "doubles",
    "environments",
    "folders",
    "indexes",
    "limits",
    "locks",
    "results",
    "signals",
    "streams",
    "suites",
    "system_calls",
]
