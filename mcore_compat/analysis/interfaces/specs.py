"""Structures of specs: which class stands at each place, and what differs between two. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mcore_compat.analysis.interfaces.signatures import InterfaceDifference

Structure = tuple[tuple[str, tuple[str, ...]], ...]
"""The classes at each place of a spec, sorted; places where nothing stands are left out."""


def structure(layers: Any) -> Structure:
    """The structure in what `spec-modules` recorded: by layer, by place, the class there.

    Layers that are only numbered count as one: what stands at a place in any of them. Empty where
    nothing of that form was recorded.
    """
    there: dict[str, set[str]] = {}
    for layer, places in layers.items() if isinstance(layers, Mapping) else ():
        numbered = layer == "layer" or layer.startswith("layers.")
        for place, name in places.items() if isinstance(places, Mapping) else ():
            if "Identity" in str(name):
                continue  # stands for nothing
            path = ".".join(part for part in ("" if numbered else layer, place) if part)
            there.setdefault(path, set()).add(str(name))
    return tuple((place, tuple(sorted(there[place]))) for place in sorted(there))


def compare(old: Structure, new: Structure) -> tuple[InterfaceDifference, ...]:
    """What differs between two specs; a place is named by its path, the root by none."""
    return tuple(_differences(dict(old), dict(new)))


def _differences(
    old: Mapping[str, tuple[str, ...]], new: Mapping[str, tuple[str, ...]]
) -> Iterator[InterfaceDifference]:
    for place in sorted({*old, *new}):
        before, after = old.get(place, ()), new.get(place, ())
        gone = " or ".join(name for name in before if name not in after) or None
        come = " or ".join(name for name in after if name not in before) or None
        if not before:
            yield InterfaceDifference(kind="submodule added", name=place, new=come)
        elif not after:
            why = "code that reaches into the spec does not find it"
            yield InterfaceDifference(
                kind="submodule removed", name=place, old=gone, breaking=True, why=why
            )
        elif before != after:
            why = "code that looks for the former class does not find it" if gone else ""
            yield InterfaceDifference(
                kind="class changed", name=place, old=gone, new=come, breaking=bool(gone), why=why
            )


def topmost(names: list[str]) -> dict[str, int]:
    """Of places, those that lie below no other of them, each with the number below it."""
    tops = [n for n in names if not any(n != o and (not o or n.startswith(f"{o}.")) for o in names)]
    return {top: sum(not top or n.startswith(f"{top}.") for n in names if n != top) for top in tops}
