"""Which pins change from one cell to another. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mcore_compat.core.cells import AXES, parsed
from mcore_compat.core.matrix import Matrix
from mcore_compat.resolve.locks import Lock


@dataclass(frozen=True, kw_only=True)
class Packages:
    """How the packages other than the axes change between two locks: by package, the version, or
    the old and the new one. `complete`: both cells have a lock."""

    complete: bool = False
    added: Mapping[str, str] | None = None
    removed: Mapping[str, str] | None = None
    changed: Mapping[str, tuple[str, str]] | None = None


def back(old: Mapping[str, str], new: Mapping[str, str]) -> tuple[str, ...]:
    """The axes that move to an older version."""
    return tuple(axis for axis in AXES if parsed(new[axis]) < parsed(old[axis]))


def packages(old: Lock | None, new: Lock | None) -> Packages:
    """How two locks differ in packages other than the axes."""
    if old is None or new is None:
        return Packages()
    before, after = (
        {p.name: p.version for p in (*lock.pins, *lock.source_only) if p.name not in AXES}
        for lock in (old, new)
    )
    both = sorted({*before} & {*after})
    return Packages(
        complete=True,
        added={name: after[name] for name in sorted({*after} - {*before})},
        removed={name: before[name] for name in sorted({*before} - {*after})},
        changed={n: (before[n], after[n]) for n in both if before[n] != after[n]},
    )


def mentioned(text: str, rest: Packages) -> tuple[tuple[str, str, str], ...]:
    """The packages in `rest` that a text names as a module: `(package, old version, new version)`,
    empty if a cell does not have the package. Sorted."""
    rows = {name: (name, old, new) for name, (old, new) in (rest.changed or {}).items()}
    rows |= {name: (name, "", new) for name, new in (rest.added or {}).items()}
    rows |= {name: (name, old, "") for name, old in (rest.removed or {}).items()}
    named = set(re.findall(r"(?<![\w.])([A-Za-z]\w*)(?=[.'\"])", text))
    return tuple(rows[name] for name in sorted(rows) if name.replace("-", "_") in named)


def undeclared(
    old: Mapping[str, str], new: Mapping[str, str], matrix: Matrix
) -> tuple[tuple[str, str, str], ...]:
    """Packages that the new cell needs, the old one did not, and no package declares:
    `(requirement, the release that needs it, the module that imports it)`. Sorted."""
    before = {name for name, *_ in _undeclared(old, matrix)}
    rows = {row[1:] for row in _undeclared(new, matrix) if row[0] not in before}
    return tuple(sorted(rows))


def _undeclared(pins: Mapping[str, str], matrix: Matrix) -> Iterable[tuple[str, str, str, str]]:
    for rule in matrix.undeclared:
        if rule.when.contains(pins[rule.of]):
            for text in rule.requires:
                name = canonicalize_name(Requirement(text).name)
                yield name, text, f"{rule.of} {pins[rule.of]}", rule.imported_by
