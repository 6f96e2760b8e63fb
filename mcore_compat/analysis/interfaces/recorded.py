"""Stage results → interface changes: what each cell recorded of the interfaces that callers use.
Pure.

The record `signatures` and the checks `interface-*` have functions, `private-names` has names that
the packages use from each other, and `spec-modules` has the structure of the ModelOpt specs.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from mcore_compat.core.outcomes import HOLDS, CheckOutcome
from mcore_compat.results.result import CheckEndings, CheckResult, Result

OWNERS = {
    "megatron": "megatron-core",
    "modelopt": "nvidia-modelopt",
    "torch": "torch",
    "transformer_engine": "transformer-engine",
}
"""The package of each top-level module."""

T = TypeVar("T")

_ASKED = frozenset({*HOLDS, CheckOutcome.UNSUPPORTED})


Structure = tuple[tuple[str, tuple[str, ...]], ...]
"""The classes at each place of a spec, sorted; without empty places."""


@dataclass(frozen=True, kw_only=True, order=True)
class Subject:
    """A function, `module:attribute`, or the ModelOpt spec of a family."""

    package: str
    name: str


@dataclass(frozen=True, kw_only=True)
class ReleaseSighting:
    """What the cells of one release recorded of a subject.

    `values`: the texts or structures with the cells that recorded them; empty if the release lacks
    the subject, several if cells disagree. `users`: modules that import it without a guard;
    `guarded`: modules that import it behind a guard.
    """

    values: dict[str | Structure, set[str]] = field(default_factory=dict)
    users: set[str] = field(default_factory=set)
    guarded: set[str] = field(default_factory=set)


History = dict[Subject, dict[str, ReleaseSighting]]
"""By subject and release; without releases of which nothing is known."""


def history(cells: Iterable[Result]) -> History:
    """Return the records of all cells; a cell in which the package was not imported does not count
    as one that lacks the subject."""
    results = list(cells)
    paths = _interface_paths(results)
    history: History = {}
    structures, tops = _shared(structure), _shared(_tops)

    @functools.cache
    def of_checks(endings: CheckEndings) -> tuple[set[str], list[_Row]]:
        """Return the imported packages, and what the checks recorded."""
        looked = (_looked(check, paths, structures) for check in endings.checks)
        return _imported(endings.checks, tops), [*_rows(itertools.chain(*looked))]

    for e in results:
        whole, rows = of_checks(e.endings)
        for subject, top, value, by in itertools.chain(_rows(_signatures(e)), rows):
            if value is None and top not in whole:
                continue  # a package that cannot be imported may still have it
            by_release = history.setdefault(subject, {})
            release = e.pins[subject.package]
            if (seen := by_release.get(release)) is None:
                seen = by_release[release] = ReleaseSighting()
            if value is not None:
                seen.values.setdefault(value, set()).add(e.cell)
            if by:
                (seen.guarded if by[1] else seen.users).add(by[0])
    return history


_Row = tuple[Subject, str, str | Structure | None, tuple[str, bool] | None]
"""A subject with its top-level module, its value, and who imports it, as in `_Looked`."""


def _rows(looked: Iterable[_Looked]) -> Iterator[_Row]:
    """Yield what was recorded of the packages under test."""
    for name, value, by in looked:
        if row := _subject(name, isinstance(value, tuple) or ":" not in name):
            yield *row, value, by


@functools.cache
def _subject(name: str, of_spec: bool) -> tuple[Subject, str] | None:
    top = "megatron" if of_spec else _top(name)
    return (Subject(package=OWNERS[top], name=name), top) if top in OWNERS else None


def _shared(make: Callable[[Any], T]) -> Callable[[Any], T]:
    """Cache `make` by the identity of its argument, because thousands of cells share values. Valid
    only as long as all results are in memory."""
    known: dict[int, T] = {}

    def get(value: Any) -> T:
        if id(value) not in known:
            known[id(value)] = make(value)
        return known[id(value)]

    return get


def _tops(modules: Any) -> tuple[set[str], set[str]]:
    """Return the top-level packages with an imported module, and those with a failed import."""
    rows = modules.items() if isinstance(modules, Mapping) else ()
    works = {_top(module) for module, how in rows if how == "ok"}
    return works, {_top(module) for module, how in rows if how != "ok"}


def structure(layers: Any) -> Structure:
    """Return the structure from a record of `spec-modules`: class by layer and place.

    Numbered layers count as one, with the classes of all of them at each place. Empty if the record
    has another form.
    """
    there: dict[str, set[str]] = {}
    for layer, places in layers.items() if isinstance(layers, Mapping) else ():
        numbered = layer == "layer" or layer.startswith("layers.")
        for place, name in places.items() if isinstance(places, Mapping) else ():
            if "Identity" in str(name):
                continue  # an empty place
            path = ".".join(part for part in ("" if numbered else layer, place) if part)
            there.setdefault(path, set()).add(str(name))
    return tuple((place, tuple(sorted(there[place]))) for place in sorted(there))


def _top(name: str) -> str:
    return re.split(r"[.:]", name, maxsplit=1)[0]


_Looked = tuple[str, str | Structure | None, tuple[str, bool] | None]
"""A name, its value, and the module that imports it, with whether it does so behind a guard."""


def _signatures(e: Result) -> Iterator[_Looked]:
    """Yield the functions in the record of signatures."""
    for name, value in e.recorded("signatures").items():
        if ":" in name and (value is None or isinstance(value, str)):
            yield name, value, None


def _looked(
    check: CheckResult, paths: Mapping[str, set[str]], structures: Callable[[Any], Structure]
) -> Iterator[_Looked]:
    """Yield what a check recorded, without entries in another form."""
    if check.kind == "private-names":
        for name, row in check.details.items():
            if ":" in name and isinstance(row, Mapping):
                value = row.get("is")
                by = (str(row.get("by")), bool(row.get("guarded")))
                yield name, value if isinstance(value, str) else None, by
    elif check.kind.startswith("interface-"):
        yield from _spec_functions(check, paths[check.kind])
    elif check.kind == "spec-modules":
        modules = structures(check.details.get("modules"))
        if modules or check.outcome is CheckOutcome.UNSUPPORTED:
            yield f"ModelOpt spec of {check.family}", modules or None, None


def _spec_functions(check: CheckResult, paths: Iterable[str]) -> Iterator[_Looked]:
    """Yield the `paths` that the check recorded; if the check completed, the others are absent."""
    # The check makes its assertions only after it has recorded everything.
    asserted = check.failure is not None and check.failure.type == "AssertionError"
    for path in sorted(paths):
        module, _, name = path.rpartition(".")
        value = check.details.get(path)
        if isinstance(value, str):
            yield f"{module}:{name}", value, None
        elif check.outcome in _ASKED or asserted:
            yield f"{module}:{name}", None, None


def _interface_paths(results: Iterable[Result]) -> dict[str, set[str]]:
    """Return, by check, the dotted paths of functions that any cell recorded."""
    paths: dict[str, set[str]] = {}
    for endings in dict.fromkeys(e.endings for e in results):
        for check in endings.checks:
            if check.kind.startswith("interface-"):
                names = {n for n, v in check.details.items() if isinstance(v, str) and "." in n}
                paths.setdefault(check.kind, set()).update(names)
    return paths


def _imported(
    checks: Iterable[CheckResult], tops: Callable[[Any], tuple[set[str], set[str]]]
) -> set[str]:
    """Return the top-level packages of which the cell imported a module and no import failed."""
    works: set[str] = set()
    fails: set[str] = set()
    for check in checks:
        if not check.kind.startswith("import-"):
            continue
        for key in ("modules", "preload"):
            there, failed = tops(check.details.get(key))
            works |= there
            fails |= failed
        if check.outcome not in _ASKED:
            fails |= {top for top in OWNERS if f"-{top}-" in check.kind}
    return works - fails
