"""Compare what the packages declare with the results. Pure.

A relation is what one release declares about another axis: a Requires-Dist (of an extra or not),
its Requires-Python, or a version guard in its sources that the failing code passed. A finding
compares failures, or cells that work, with the relations between the releases concerned:

- `declared fine, breaks`: the deciding releases declare a range, and fail within it;
- `declared out of range, breaks`: wherever it fails, a version is outside of the declared range;
- `declared out of range, works`: a range excludes a version with which every checkpoint restores,
  and no failure is caused by these two releases together;
- `not declared`: the deciding releases declare nothing about each other, and fail together.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from mcore_compat.core.cells import AXES, parsed
from mcore_compat.core.outcomes import FAILS
from mcore_compat.core.releases import Releases
from mcore_compat.results import verdict
from mcore_compat.results.result import CheckEndings, Failure, Result

if TYPE_CHECKING:
    from mcore_compat.analysis.explanation import Explained

FINE, NOT = "declared fine, breaks", "not declared"
OUT, KEPT = "declared out of range, works", "declared out of range, breaks"

DECLARING = AXES[:-1]
"""All axes except python: packages that declare requirements on other axes."""

PARTS = {"transformer-engine": ("transformer-engine-torch",)}
"""Packages that declare requirements for an axis: TE's torch extension requires torch, its core
does not."""


@dataclass(frozen=True, kw_only=True, order=True)
class Relation:
    """`package version` declares `specifier` for the axis `on`. `extra`: the extras that declare
    it, empty if it always holds, `requires-python` for Requires-Python; `asked_in`: the place of a
    version guard in the package's sources."""

    package: str
    version: str
    on: str
    specifier: str
    extra: str
    asked_in: str = ""

    def text(self) -> str:
        if self.asked_in:
            place = f"{self.package} {self.version} in {self.asked_in}"
            return f"{place} checks for {self.on}{self.specifier}"
        where = f" (extra {self.extra})" if self.extra and self.extra != "requires-python" else ""
        return f"{self.package} {self.version} declares {self.on}{self.specifier or ' any'}{where}"

    def admits(self, version: str) -> bool:
        return holds(self.specifier, version) is not False


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A finding that the maintainers of `package` may want to know.

    `cells`: the cells that show it, the best example first; `relations`: what their releases
    declare; `rule`: the versions in words, empty without a rule; `fingerprint`: of the failure,
    empty if nothing fails.
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
    """Modules with an import that no requirement covers, in the first of `cells`."""
    pins: tuple[str, ...] = ()
    """Packages other than axes in its rule."""
    undecided: tuple[str, ...] = ()
    """Packages other than axes that the failure points at, if it is not known whether they decide.
    Until then no text for upstream is written."""


@functools.cache
def holds(specifier: str, version: str) -> bool | None:
    """Whether a version is in a range; None if the specifier is invalid."""
    try:
        return SpecifierSet(specifier).contains(version, prereleases=True)
    except InvalidSpecifier:
        return None


def relations(
    package: str, version: str, releases: Releases, pins: Collection[str] = ()
) -> tuple[Relation, ...]:
    """Return what a release of an axis declares about the other axes and about `pins`. Sorted,
    without duplicates."""
    extras_of: dict[tuple[str, str], set[str]] = {}
    for name in (package, *PARTS.get(package, ())):
        release = next((r for r in releases.of(name) if r.version == version), None)
        if release is None:
            continue
        for text in release.requires:
            for on, specifier, extra in _declared(text):
                if on != package and (on in AXES or on in pins):
                    extras_of.setdefault((on, specifier), set()).add(extra)
        if release.requires_python:
            extras_of.setdefault(("python", release.requires_python), set()).add("requires-python")
    return tuple(
        Relation(
            package=package,
            version=version,
            on=on,
            specifier=specifier,
            extra="" if "" in extras else ", ".join(sorted(extras)),
        )
        for (on, specifier), extras in sorted(extras_of.items())
    )


@functools.cache
def _declared(text: str) -> tuple[tuple[str, str, str], ...]:
    """Return `(package, specifier, extra)` of a requirement; empty if it is invalid."""
    try:
        need = Requirement(text)
    except InvalidRequirement:
        return ()
    on = canonicalize_name(need.name)
    extra = re.search(r"""extra == ["']([^"']+)""", str(need.marker or ""))
    return ((on, str(need.specifier), extra[1] if extra else ""),)


def findings(
    results: Sequence[Result], explained: Sequence[Explained], releases: Releases
) -> tuple[Finding, ...]:
    """Return all findings: failures first, in the order of `explained`."""
    by_name = {e.cell: e for e in results}
    pins = {name for failure in explained for name in failure.suspects}

    @functools.cache
    def declared(package: str, version: str) -> tuple[Relation, ...]:
        return relations(package, version, releases, pins)

    @functools.cache
    def passed(name: str) -> PassedGuards:
        return PassedGuards(by_name[name])

    broken = [_of_failure(failure, by_name, declared, passed) for failure in explained]
    return (*broken, *_out_of_range(results, explained, declared), *_undeclared(results))


Declared = Callable[[str, str], tuple[Relation, ...]]
"""`relations` by package and version, cached."""


def _of_failure(
    failure: Explained,
    by_name: Mapping[str, Result],
    declared: Declared,
    passed: Callable[[str], PassedGuards],
) -> Finding:
    cells = tuple(sorted((s.cell for s in failure.seen if s.broken), key=_newest(by_name)))
    axes = [rule.axes for rule in failure.rules]

    @functools.cache  # thousands of cells pin few releases
    def deciding(package: str, version: str) -> tuple[Relation, ...]:
        return tuple(r for r in declared(package, version) if _about(r, axes))

    def relations(guards: PassedGuards) -> tuple[Relation, ...]:
        by_package = (deciding(package, guards.pins[package]) for package in DECLARING)
        before = (r for r in guards.before(failure.fingerprint) if _about(r, axes))
        return (*itertools.chain.from_iterable(by_package), *before)

    between = {name: relations(passed(name)) for name in cells}
    kinds = {name: _kind(between[name], versions_of(by_name[name])) for name in cells}
    # The clearest example first: within every range, nothing declared, within some range.
    wanted = ((FINE, False), (NOT, False), (FINE, True), (KEPT, True))
    shown = next(name for kind in wanted for name in cells if kinds[name] == kind)
    return Finding(
        kind=kinds[shown][0],
        package=" or ".join(failure.attributed()) or "not known which",
        subject=failure.checks[0],
        cells=(shown, *(name for name in cells if name != shown)),
        relations=between[shown],
        rule="; or ".join(rule.text() for rule in failure.rules),
        fingerprint=failure.fingerprint,
        checks=failure.checks,
        pins=tuple(name for name in failure.suspects if any(name in r.axes for r in failure.rules)),
        undecided=failure.suspects if failure.undecided else (),
    )


def versions_of(e: Result) -> Mapping[str, str]:
    """Return the version of every package of a cell, the axes included."""
    return {**e.installed, **e.pins}


def _kind(between: Sequence[Relation], pins: Mapping[str, str]) -> tuple[str, bool]:
    """Return the kind of finding for a cell that fails, and whether a range excludes one of its
    versions."""
    admitting = [r.admits(pins[r.on]) for r in between]
    if not between:
        return NOT, False
    return (FINE if any(admitting) else KEPT), not all(admitting)


ROOTS = {
    "megatron-core": "megatron/core/",
    "nvidia-modelopt": "modelopt/",
    "transformer-engine": "transformer_engine/",
}
"""The top folder of each package's sources, as in tracebacks."""

NEAR = 30
"""The most lines from a guard to the line that it guards; one further above is about other code."""


class PassedGuards:
    """The version guards in the code of a cell's packages, as its result recorded them."""

    def __init__(self, e: Result) -> None:
        self.pins, self._endings = e.pins, e.endings
        recorded = e.recorded("version-guards")
        self._by_root: dict[str, Mapping[str, Mapping[Relation, int]]] = {}
        for package, root in ROOTS.items():
            noted = recorded.get(package)
            if isinstance(noted, Mapping):
                places = tuple((str(text), tuple(map(str, at))) for text, at in noted.items())
                self._by_root[root] = _recorded(places, package, e.pins[package])

    def before(self, fingerprint: str) -> tuple[Relation, ...]:
        """Return the guards that the cell's versions passed before a failure: for each frame of its
        traceback the last ones above its line. Sorted, without duplicates."""
        failed = _failures(self._endings).get(fingerprint)
        passed: set[Relation] = set()
        for file, line in _frames(failed.traceback) if failed else ():
            for root, guards in self._by_root.items():
                if file.startswith(root):
                    passed.update(_above(guards, file.removeprefix(root), line))
        return tuple(sorted(guard for guard in passed if guard.admits(self.pins[guard.on])))


@functools.cache
def _frames(traceback: str) -> tuple[tuple[str, int], ...]:
    """Return file and line of each frame."""
    found = re.findall(r'File "([^"]+)", line (\d+)', traceback)
    return tuple((file, int(line)) for file, line in found)


@functools.cache
def _failures(endings: CheckEndings) -> Mapping[str, Failure]:
    """Return the first failure with each fingerprint."""
    failures = (c.failure for c in reversed(endings.checks) if c.failure)
    return {failure.fingerprint: failure for failure in failures}


def _above(
    guards: Mapping[str, Mapping[Relation, int]], file: str, line: int
) -> Iterator[Relation]:
    """Yield the last guards above a line of a file, at most NEAR lines away."""
    lines = guards.get(file, {})
    last = max((at for at in lines.values() if line - NEAR <= at <= line), default=None)
    yield from (guard for guard, at in lines.items() if at == last)


@functools.cache
def _recorded(
    noted: tuple[tuple[str, tuple[str, ...]], ...], package: str, version: str
) -> Mapping[str, Mapping[Relation, int]]:
    """Return the guards on other axes that the suite recorded from a package's sources: by file,
    with their lines. `noted`: places by requirement."""
    found: dict[str, dict[Relation, int]] = {}
    for text, places in noted:
        asks = re.fullmatch(r"([a-z-]+)([<>=!]=?)(\d.*)", text)
        if not asks or asks[1] not in AXES or asks[1] == package:
            continue
        for place in places:
            guard = Relation(
                package=package,
                version=version,
                on=asks[1],
                specifier=asks[2] + asks[3],
                extra="",
                asked_in=place,
            )
            path, _, line = place.rpartition(":")
            found.setdefault(path, {})[guard] = int(line)
    return found


def _about(relation: Relation, rules: Sequence[Sequence[str]]) -> bool:
    """Whether a relation concerns the deciding axes: it is between axes that decide together, or it
    involves the one that decides. Without a rule: any relation except one on python."""
    ends = {relation.package, relation.on}
    if not rules:
        return relation.on != "python"
    return any(ends <= set(axes) if len(axes) > 1 else ends & set(axes) for axes in rules)


def _newest(by_name: Mapping[str, Result]) -> Callable[[str], tuple[Any, ...]]:
    """Return a sort key: the cell with the newest releases first."""
    return lambda name: (*newest_first(by_name[name].pins, AXES[:2]), name)


def newest_first(pins: Mapping[str, str], axes: Sequence[str]) -> list[tuple[int, ...]]:
    """Return a sort key: the newest versions of these axes first."""
    return [tuple(-part for part in parsed(pins[axis]).release) for axis in axes]


def _out_of_range(
    results: Sequence[Result], explained: Sequence[Explained], declared: Declared
) -> Iterator[Finding]:
    """Yield ranges that exclude a version with which every checkpoint restores, every import works,
    and no failure is caused by the two releases together."""
    deciding = {f.fingerprint: [set(rule.axes) for rule in f.rules] for f in explained}
    rows: dict[tuple[Relation, str], list[str]] = {}
    for e in results:
        imports = [c.outcome for c in e.checks if c.kind.startswith("import-")]
        if not verdict.restores_all(e) or any(outcome in FAILS for outcome in imports):
            continue
        failed = [c.failure.fingerprint for c in e.checks if c.failure]
        together = [axes for key in failed for axes in deciding.get(key, ())]
        for package in DECLARING:
            for relation in declared(package, e.pins[package]):
                if relation.on not in AXES:
                    continue
                out = not relation.admits(e.pins[relation.on])
                if out and not any({package, relation.on} <= axes for axes in together):
                    rows.setdefault((relation, e.pins[relation.on]), []).append(e.cell)
    failing = {e.cell: verdict.failing(e) for e in results}
    for (relation, version), cells in sorted(rows.items()):
        yield Finding(
            kind=OUT,
            package=relation.package,
            subject=f"{relation.package} {relation.version} with {relation.on} {version}",
            cells=tuple(sorted(cells, key=lambda name: (failing[name], name))),
            relations=(relation,),
            rule=f"{relation.package}=={relation.version} and {relation.on}=={version}",
        )


def _undeclared(results: Sequence[Result]) -> Iterator[Finding]:
    """Yield imports that the suite recorded and no requirement covers."""
    rows: dict[tuple[str, str], dict[str, set[str]]] = {}
    for e in results:
        for package, imports, module in verdict.undeclared(e):
            version = e.pins.get(package) or e.installed.get(package, "")
            by_cell = rows.setdefault((package, imports), {})
            by_cell.setdefault(e.cell, set()).add(f"{module} of {package} {version}".strip())
    by_name = {e.cell: e for e in results}
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
