"""Tells what gloo cannot do from what the packages do wrong. Pure."""

from __future__ import annotations

import re

_COMMUNICATION = re.compile(
    r"gloo|ProcessGroup|[Nn]o backend type associated|Connection (?:closed|reset|refused)|NCCL"
    r"|[Dd]istBackendError|DistNetworkError|DistStoreError|Broken pipe|Socket|rendezvous"
    r"|Invalid scalar type",
)
"""What torch's process groups say where a backend or a connection falls short."""


def fell_short(error: BaseException) -> bool:
    """Whether `error`, or what caused it, comes from the backend between the ranks."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        if _COMMUNICATION.search(f"{type(current).__name__}: {current}"):
            return True
        hidden = current.__suppress_context__
        current = current.__cause__ or (None if hidden else current.__context__)
    return False
