"""How a kind of fault is declared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from faults.trial import Kind, Trial
from faults.workshop import Launch

REGISTRY: dict[str, Kind] = {}
"""All kinds, by name."""

Placing = Callable[[Trial], Iterator[Launch]]

MOUNTS, STRACE = "mounts", "strace"


def add(
    name: str,
    what: str,
    commands: Sequence[str],
    place: Placing,
    *,
    codes: Sequence[int] = (),
    killed: bool = False,
    stuck: bool = False,
    needs: Sequence[str] = (),
    share: float = 1.0,
    also: Sequence[str] = (),
) -> None:
    """Declare a kind; `place` yields once, while the fault is in place."""
    assert name not in REGISTRY, name
    REGISTRY[name] = Kind(
        name=name,
        what=what,
        commands=commands,
        place=contextmanager(place),
        codes=codes,
        killed=killed,
        stuck=stuck,
        needs=needs,
        share=share,
        also=also,
    )
