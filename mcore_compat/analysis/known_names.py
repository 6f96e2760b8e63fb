"""Published data → known errors other than failures of checks: names that a release lacks,
undeclared imports, and cells that cannot be resolved or built. Pure."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from packaging.requirements import Requirement

from mcore_compat.analysis.cell_record import CellRecord
from mcore_compat.analysis.declarations import Finding
from mcore_compat.analysis.error_text import frame_key, words
from mcore_compat.analysis.known_errors import Answer, Failures, KnownError, some, span, title
from mcore_compat.analysis.published import Compatibility, PublishedChange
from mcore_compat.base import foreign
from mcore_compat.core.cells import parsed
from mcore_compat.core.matrix import Undeclared

MODULES = {"pyyaml": "yaml", "setuptools": "pkg_resources"}
"""The module of each package whose import name differs from it."""

PACKAGES = {"megatron": "megatron-core", "modelopt": "nvidia-modelopt"}
"""The package of a module."""

_IMPORTS = re.compile(r"(?P<package>[\w.-]+) imports (?P<module>\w+)")
_PLACE = re.compile(r"(?P<module>[\w.]+) of (?P<package>[\w.-]+) ")
_HAS_NONE = re.compile(r"(?P<module>\w+(?:\.\w+)+) has no (?P<name>\w+)")
_TAKES_NONE = re.compile(r"(?P<module>\w+(?:\.\w+)+)\.(?P<function>\w+) takes no (?P<name>\w+)")
"""Reasons of checks for which a release lacks a name or parameter."""

MISSING_NAME = ("ImportError", "AttributeError")
MISSING_MODULE = ("ModuleNotFoundError", "ImportError")
CALL = ("TypeError",)


def known_errors(
    known: Compatibility,
    releases: Mapping[str, Sequence[str]],
    undeclared: Sequence[Undeclared] = (),
) -> list[KnownError]:
    """Return all known errors; the first of those with the same key is kept."""
    every = [
        *Failures(known, releases).all(),
        *_imports(known, undeclared),
        *_changes(known.drift, known.cells),
        *_lacking(known.cells),
        *_never_ran(known.cells),
    ]
    return [*{one.key: one for one in reversed(every)}.values()][::-1]


def _imports(known: Compatibility, undeclared: Sequence[Undeclared]) -> Iterator[KnownError]:
    """Yield modules that a package imports without requiring them."""
    firsts: dict[tuple[str, str], dict[tuple[str, str], list[str]]] = {}
    rests: dict[tuple[str, str], list[str]] = {}
    for rule in undeclared:
        for text in rule.requires:
            name = Requirement(text).name
            where = (MODULES.get(name, name.replace("-", "_")), rule.imported_by)
            firsts.setdefault(where, {}).setdefault((text, rule.of), []).append(str(rule.when))
            rests.setdefault(where, []).append(
                f"imported by: {rule.imported_by} ({rule.of} {rule.when}): {rule.reason}"
            )
    tested: dict[tuple[str, str], Answer] = {}
    cells = {cell.name: cell for cell in known.cells}
    for finding in known.findings:
        match = _IMPORTS.fullmatch(finding.subject)
        if match and finding.imported_in:
            place = _PLACE.match(finding.imported_in[0])
            where = (match["module"], place["module"] if place else "")
            seen_in = [cells[name] for name in finding.cells if name in cells]
            tested[where] = _not_asked_for(finding, match["module"], seen_in)
    for where in {**firsts, **tested}:
        module, by = where
        message = f"No module named '{module}'"
        rows = [
            f'pip install "{text}": {of} {" and ".join(when)} needs it and does not declare it'
            for (text, of), when in firsts.get(where, {}).items()
        ]
        seen = tested.get(where, Answer("", ()))
        first = "; ".join(rows) or seen.first
        answer = Answer(first, (*rests.get(where, ()), *seen.rest), cells=seen.cells)
        yield KnownError(
            key=f"import {module} {by}",
            title=title("", f"ModuleNotFoundError: {message}, in {by}"),
            types=MISSING_MODULE,
            words=words(message),
            frames=(frame_key(by, "<module>"),) if by else (),
            tell=functools.partial(_told, answer._replace(page=seen.page or "index.html")),
        )


def _not_asked_for(finding: Finding, module: str, cells: Sequence[CellRecord]) -> Answer:
    pins = [cell.pins for cell in cells]
    versions = sorted({p[finding.package] for p in pins if finding.package in p}, key=parsed)
    of = f"{finding.package} {' to '.join(dict.fromkeys([*versions[:1], *versions[-1:]]))}"
    rest = (
        f"imported by: {finding.imported_in[0]}",
        f"tested: {len(finding.cells)} cells, e.g. {finding.cells[0]}",
    )
    package = module.replace("_", "-")
    first = f"pip install {package}: {of} imports {module} and does not declare it"
    return Answer(first, rest, f"cells/{finding.cells[0]}.html", tuple(cells))


def _changes(drift: Iterable[PublishedChange], cells: Sequence[CellRecord]) -> Iterator[KnownError]:
    """Yield names and parameters that were added, removed or moved."""
    first: dict[tuple[str, str], CellRecord] = {}
    for cell in cells:
        for pin in cell.pins.items():
            first.setdefault(pin, cell)
    groups: dict[str, list[PublishedChange]] = {}
    for change in drift:
        if message := _message(change):
            groups.setdefault(message, []).append(change)
    for message, changes in groups.items():
        yield KnownError(
            key=message,
            title=title("", message),
            types=CALL if changes[0].name else MISSING_NAME,
            words=words(message),
            frames=(),
            tell=functools.partial(_changed, tuple(changes), first),
        )


def _message(change: PublishedChange) -> str:
    """Return Python's message to a caller of the release that lacks the name; empty if none
    does."""
    module, _, name = change.subject.partition(":")
    if not name:
        return ""
    if change.name and change.kind in ("parameter added", "parameter removed"):
        return f"{name}() got an unexpected keyword argument '{change.name}'"
    if change.kind not in ("added", "removed", "moved"):
        return ""
    owner, _, attribute = name.removesuffix(".__init__").rpartition(".")
    if owner:
        return f"type object '{owner}' has no attribute '{attribute}'"
    return f"cannot import name '{attribute}' from '{module}'"


_HOW = {
    "parameter added": "accepts {name} since {package} {after}, not yet in {before}",
    "parameter removed": "accepted {name} until {package} {before}, no longer in {after}",
    "added": "exists since {package} {after}, not yet in {before}",
    "removed": "existed until {package} {before}, no longer in {after}",
    "moved": "is {new} since {package} {after}",
}


def _changed(
    changes: Sequence[PublishedChange], first: Mapping[tuple[str, str], CellRecord]
) -> Answer:
    """Tell of changes; `first`: the first cell with each release of a package."""
    rows, rest = [], []
    sides = dict.fromkeys((c.package, v) for c in changes for v in (c.before, c.after))
    for change in changes:
        names = {field: getattr(change, field) for field in ("name", "package", "new")}
        text = _HOW[change.kind].format(**names, before=change.before, after=change.after)
        rows.append(f"{change.subject} {text}")
        older = change.kind in ("removed", "parameter removed", "moved")
        rest.append(
            f"take: {change.package} "
            + (f"{change.before} or older" if older else f"{change.after} or newer")
        )
        if change.not_tested:
            between = some(change.not_tested)
            rest.append(f"in between, not run: {change.package} {between}")
    seen = tuple(first[side] for side in sides if side in first)
    return Answer(some(rows), tuple(dict.fromkeys(rest)), "releases/index.html", seen)


def _lacking(cells: Iterable[CellRecord]) -> Iterator[KnownError]:
    """Yield names and parameters that checks did not find in a release."""
    groups: dict[str, dict[str, CellRecord]] = {}
    for cell in cells:
        for _, reason in sorted((checks[0], reason) for reason, checks in cell.by_reason.items()):
            if _HAS_NONE.fullmatch(reason) or _TAKES_NONE.fullmatch(reason):
                groups.setdefault(reason, {})[cell.name] = cell
    for reason, where in groups.items():
        if match := _TAKES_NONE.fullmatch(reason):
            message = f"{match['function']}() got an unexpected keyword argument '{match['name']}'"
            types: tuple[str, ...] = CALL
        elif match := _HAS_NONE.fullmatch(reason):
            message = f"module '{match['module']}' has no attribute '{match['name']}'"
            types = MISSING_NAME
        else:
            continue
        yield KnownError(
            key=reason,
            title=title("", message),
            types=types,
            words=words(message),
            frames=(),
            tell=functools.partial(_absent, reason, match["module"], tuple(where.values())),
        )


def _absent(reason: str, module: str, cells: Sequence[CellRecord]) -> Answer:
    package = PACKAGES.get(module.partition(".")[0], "")
    versions = sorted({cell.pins[package] for cell in cells if package}, key=parsed)
    of = f"{package} {' to '.join(dict.fromkeys([*versions[:1], *versions[-1:]]))}: "
    rest = (f"tested: {span(cells)}", f"more: mcore-compat explain {cells[0].name}")
    text = f"{of if package else ''}{reason}"
    return Answer(text, rest, f"cells/{cells[0].name}.html", tuple(cells))


def _never_ran(cells: Iterable[CellRecord]) -> Iterator[KnownError]:
    """Yield the reasons why cells ran no checks."""
    groups: dict[tuple[str, ...], list[CellRecord]] = {}
    for cell in cells:
        if cell.reason and not cell.checks:
            groups.setdefault((cell.outcome, *words(cell.reason)), []).append(cell)
    for (outcome, *said), where in groups.items():
        reasons = dict.fromkeys(foreign.line(str(cell.reason)) for cell in where)
        rest: tuple[str, ...] = (
            *(f"also: {reason}" for reason in [*reasons][1:3]),
            f"tested: {span(where)}",
            f"more: mcore-compat explain {where[0].name}",
        )
        first, page = f"{outcome}: {next(iter(reasons))}", f"cells/{where[0].name}.html"
        answer = Answer(first, rest, page, tuple(where))
        yield KnownError(
            key=" ".join((outcome, *said)),
            title=title("", str(where[0].reason)),
            types=(),
            words=tuple(said),
            frames=(),
            tell=functools.partial(_told, answer),
        )


def _told(answer: Answer) -> Answer:
    return answer
