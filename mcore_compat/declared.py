"""What the packages declare, beside what the evidence shows. Pure.

A relation is what one release says of another axis: a Requires-Dist, of an extra or not, its
Requires-Python, or a version guard in its sources. A finding sets failures, or cells that work,
beside the relations between the very releases that they are about:

- `declared fine, breaks`: the releases that decide declare a range, and fail within it;
- `declared out of range, works`: a range of an extra leaves a version out that was seen to work;
- `not declared`: the releases that decide say nothing of one another, and fail together.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from mcore_compat import verdict
from mcore_compat.cells import AXES
from mcore_compat.evidence import Evidence
from mcore_compat.explain import Explained
from mcore_compat.releases import Releases

FINE, OUT, NOT = "declared fine, breaks", "declared out of range, works", "not declared"

DECLARING = AXES[:-1]
"""Every axis but python declares something of others."""

PARTS = {"transformer-engine": ("transformer-engine-torch",)}
"""Packages that declare for an axis: TE's torch extension requires torch, its core does not."""


@dataclass(frozen=True, kw_only=True, order=True)
class Relation:
    """`package version` declares `specifier` for the axis `on`; `extra` names the extras that say
    so, empty where it holds always, `requires-python` for Requires-Python."""

    package: str
    version: str
    on: str
    specifier: str
    extra: str

    def text(self) -> str:
        where = f" (extra {self.extra})" if self.extra and self.extra != "requires-python" else ""
        return f"{self.package} {self.version} declares {self.on}{self.specifier or ' any'}{where}"

    def admits(self, version: str) -> bool:
        return _contains(self.specifier, version)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that a maintainer of `package` may want to know.

    `cells` are those that show it, in order; `relations` what was declared; `rule` the versions
    in words, empty where none can be stated; `fingerprint` of the failure, empty where none.
    """

    kind: str
    package: str
    subject: str
    cells: tuple[str, ...]
    relations: tuple[Relation, ...]
    rule: str = ""
    fingerprint: str = ""
    checks: tuple[str, ...] = ()
    imported_in: tuple[str, ...] = ()
    """Modules with an import that no requirement asks for, in the first of `cells`."""


@functools.cache
def _contains(specifier: str, version: str) -> bool:
    try:
        return SpecifierSet(specifier).contains(version, prereleases=True)
    except InvalidSpecifier:
        return True


def relations(package: str, version: str, releases: Releases) -> tuple[Relation, ...]:
    """What a release of an axis declares of the other axes. Sorted, each once."""
    found: dict[tuple[str, str], set[str]] = {}
    for name in (package, *PARTS.get(package, ())):
        release = next((r for r in releases.of(name) if r.version == version), None)
        if release is None:
            continue
        for text in release.requires:
            for on, specifier, extra in _said(text):
                if on != package:
                    found.setdefault((on, specifier), set()).add(extra)
        if release.requires_python:
            found.setdefault(("python", release.requires_python), set()).add("requires-python")
    return tuple(
        Relation(
            package=package,
            version=version,
            on=on,
            specifier=specifier,
            extra="" if "" in extras else ", ".join(sorted(extras)),
        )
        for (on, specifier), extras in sorted(found.items())
    )


@functools.cache
def _said(text: str) -> tuple[tuple[str, str, str], ...]:
    """`(axis, specifier, extra)` of a requirement on an axis; empty for any other."""
    try:
        need = Requirement(text)
    except InvalidRequirement:
        return ()
    on = canonicalize_name(need.name)
    if on not in AXES:
        return ()
    extra = re.search(r"""extra == ["']([^"']+)""", str(need.marker or ""))
    return ((on, str(need.specifier), extra[1] if extra else ""),)


def findings(
    found: Sequence[Evidence], explained: Sequence[Explained], releases: Releases
) -> tuple[Finding, ...]:
    """Everything worth telling, failures first, the one seen in most cells first."""
    by_name = {e.cell: e for e in found}
    asked = functools.cache(lambda package, version: relations(package, version, releases))
    broken = [_of_failure(one, by_name, asked) for one in explained]
    return (*broken, *_out_of_range(found, asked), *_undeclared(found))


Asked = Callable[[str, str], tuple[Relation, ...]]
"""`relations` of a package and version, each looked up once."""


def _of_failure(one: Explained, by_name: Mapping[str, Evidence], asked: Asked) -> Finding:
    cells = tuple(sorted((s.cell for s in one.seen if s.broken), key=_newest(by_name)))
    pins = by_name[cells[0]].pins
    every = [relation for package in DECLARING for relation in asked(package, pins[package])]
    between = tuple(r for r in every if _about(r, [rule.axes for rule in one.rules]))
    declared = [r for r in between if r.admits(pins[r.on])]
    return Finding(
        kind=FINE if declared else NOT,
        package=" or ".join(one.attributed()) or "not known which",
        subject=one.checks[0],
        cells=cells,
        relations=between,
        rule="; or ".join(rule.text() for rule in one.rules),
        fingerprint=one.fingerprint,
        checks=one.checks,
    )


def _about(relation: Relation, rules: Sequence[Sequence[str]]) -> bool:
    """Whether a relation is between axes that decide together, or of the one that does; where
    no rule is known, any is but those on python."""
    ends = {relation.package, relation.on}
    if not rules:
        return relation.on != "python"
    return any(ends <= set(axes) if len(axes) > 1 else ends & set(axes) for axes in rules)


def _newest(by_name: Mapping[str, Evidence]) -> Callable[[str], tuple[Any, ...]]:
    """A sort key: the cell of the newest releases first."""

    def key(name: str) -> tuple[Any, ...]:
        pins = by_name[name].pins
        return (
            *(tuple(-part for part in Version(pins[axis]).release) for axis in AXES[:2]),
            name,
        )

    return key


def _out_of_range(found: Sequence[Evidence], asked: Asked) -> Iterator[Finding]:
    """Ranges of extras, and of python, that leave a version out in which everything restores."""
    rows: dict[tuple[Relation, str], list[str]] = {}
    for e in found:
        if not verdict.restores_all(e):
            continue
        for package in DECLARING:
            for relation in asked(package, e.pins[package]):
                if not relation.admits(e.pins[relation.on]):
                    rows.setdefault((relation, e.pins[relation.on]), []).append(e.cell)
    for (relation, version), cells in sorted(rows.items()):
        yield Finding(
            kind=OUT,
            package=relation.package,
            subject=f"{relation.package} {relation.version} with {relation.on} {version}",
            cells=tuple(sorted(cells)),
            relations=(relation,),
            rule=f"{relation.package}=={relation.version} and {relation.on}=={version}",
        )


def _undeclared(found: Sequence[Evidence]) -> Iterator[Finding]:
    """Imports that the suite saw, and that no requirement asks for."""
    rows: dict[tuple[str, str], dict[str, set[str]]] = {}
    for e in found:
        for package, imports, module in verdict.undeclared(e):
            version = e.pins.get(package) or e.installed.get(package, "")
            by = rows.setdefault((package, imports), {})
            by.setdefault(e.cell, set()).add(f"{module} of {package} {version}".strip())
    by_name = {e.cell: e for e in found}
    for (package, imports), cells in sorted(rows.items()):
        order = tuple(sorted(cells, key=_newest(by_name)))
        yield Finding(
            kind=NOT,
            package=package,
            subject=f"{package} imports {imports}",
            cells=order,
            relations=(),
            rule="",
            imported_in=tuple(sorted(cells[order[0]])),
        )


def counts(found: Iterable[Finding]) -> dict[str, int]:
    """How many findings of each kind."""
    kinds = [one.kind for one in found]
    return {kind: kinds.count(kind) for kind in (FINE, OUT, NOT)}
