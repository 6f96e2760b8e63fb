"""What installed packages import while they are imported, against what they declare."""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import importlib.util
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from types import ModuleType
from typing import Any

# pytest requires it, so that it is there wherever the suite runs.
from packaging.requirements import InvalidRequirement, Requirement

_CATCHES = {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"}


@dataclass(frozen=True, order=True)
class Undeclared:
    """One import of a distribution that its importer does not require.

    `module` is the top-level name, `guarded` whether a failure of the import is caught there.
    """

    package: str
    module: str
    imported_by: str
    guarded: bool
    installed: bool

    def plain(self) -> dict[str, Any]:
        return asdict(self)


def normalised(name: str) -> str:
    """A distribution's name as the index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


@dataclass(frozen=True)
class Import:
    """One import statement's target, in full; `names` are what is taken `from` it."""

    module: str
    names: tuple[str, ...]
    guarded: bool

    @property
    def top(self) -> str:
        return self.module.partition(".")[0]


def imports(source: str, package: str = "") -> list[Import]:
    """What running `source` as a module of `package` imports.

    Looks into module-level `try`, `if`, `with`, loops and class bodies, not into functions,
    and not under `if TYPE_CHECKING`. `guarded` is true where a failure is caught, or the
    import is one of two choices.
    """
    return list(_statements(ast.parse(source).body, package, guarded=False))


def _statements(body: list[ast.stmt], package: str, *, guarded: bool) -> Iterator[Import]:
    for node in body:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, (), guarded)
        elif isinstance(node, ast.ImportFrom):
            yield Import(_target(node, package), tuple(a.name for a in node.names), guarded)
        elif isinstance(node, ast.Try):
            caught = guarded or _catches(node)
            yield from _statements(node.body, package, guarded=caught)
            for handler in node.handlers:
                # What is tried when the first choice failed is a choice, too.
                yield from _statements(handler.body, package, guarded=True)
            # `else` runs only where what was tried is there.
            yield from _statements(node.orelse, package, guarded=caught)
            yield from _statements(node.finalbody, package, guarded=guarded)
        elif isinstance(node, ast.If):
            if "TYPE_CHECKING" not in ast.dump(node.test):
                yield from _statements(node.body, package, guarded=True)
            yield from _statements(node.orelse, package, guarded=True)
        elif isinstance(node, ast.With):
            # ModelOpt's `with import_plugin(...)` swallows what fails inside.
            swallows = any("import" in ast.dump(item.context_expr) for item in node.items)
            yield from _statements(node.body, package, guarded=guarded or swallows)
        elif isinstance(node, (ast.For, ast.While, ast.ClassDef)):
            yield from _statements(node.body, package, guarded=guarded)


def _target(node: ast.ImportFrom, package: str) -> str:
    """The module that `from … import` names, its leading dots resolved."""
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    base = ".".join(parts[: len(parts) - node.level + 1])
    return f"{base}.{node.module}" if node.module else base


def _catches(node: ast.Try) -> bool:
    return any(
        handler.type is None or any(word in ast.dump(handler.type) for word in _CATCHES)
        for handler in node.handlers
    )


ASKED = ("", "torch", "pytorch")
"""Extras that count as asked for: under these, the packages declare their framework."""


def declared(package: str) -> frozenset[str]:
    """Normalised names of what `package` and the distributions that go by its name (as
    `transformer-engine-torch`) require, and what those require in turn, installed or not."""
    together = {
        normalised(distribution.metadata["Name"] or "")
        for distribution in importlib.metadata.distributions()
    }
    roots = {name for name in together if name.startswith(package + "-")} | {package}
    found: set[str] = set()
    seen: set[tuple[str, str]] = set()
    waiting = [(name, extra) for name in roots for extra in ASKED]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        found.add(normalised(name))
        for requirement in _requires(name):
            if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
                continue
            waiting += [(requirement.name, "")]
            waiting += [(requirement.name, wanted) for wanted in requirement.extras]
    return frozenset(found)


def _requires(name: str) -> list[Requirement]:
    try:
        lines = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    found = []
    for line in lines:
        try:
            found.append(Requirement(line))
        except InvalidRequirement:
            # Old metadata; the name is all that is needed here.
            found.append(Requirement(re.match(r"[\w.-]+", line.strip())[0]))  # type: ignore[index]
    return found


def unguarded(roots: Iterable[str], modules: Mapping[str, ModuleType]) -> frozenset[str]:
    """Those of `modules` that importing `roots` imports come what may.

    A module that is only reached through a guarded import is optional, and so is all that
    it imports.
    """
    reached: set[str] = set()
    waiting = [name for root in roots for name in _with_parents(root)]
    while waiting:
        name = waiting.pop()
        if name in reached or name not in modules:
            continue
        reached.add(name)
        for entry in _imports_of(modules[name]):
            if not entry.guarded:
                targets = [entry.module, *(f"{entry.module}.{part}" for part in entry.names)]
                waiting += [parent for target in targets for parent in _with_parents(target)]
    return frozenset(reached)


def _with_parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts) + 1)]


def undeclared(
    package: str,
    prefix: str,
    modules: Mapping[str, ModuleType],
    owners: Mapping[str, list[str]],
    roots: Iterable[str],
) -> list[Undeclared]:
    """Imports of the loaded `modules` below `prefix` that the distribution `package` does not
    declare.

    `owners` says which distributions hold a top-level name; `roots` are the modules that a
    user imports.
    """
    requires = declared(package)
    certain = unguarded(roots, modules)
    own = prefix.partition(".")[0]
    found: dict[str, Undeclared] = {}
    for name in sorted(modules):
        if name != prefix and not name.startswith(prefix + "."):
            continue
        for entry in _imports_of(modules[name]):
            top = entry.top
            if top == own or top in sys.stdlib_module_names or top == "__main__":
                continue
            if {normalised(owner) for owner in owners.get(top, [top])} & requires:
                continue
            there = top in owners or _importable(top)
            # What was loaded without it does not need it, however the import is written.
            guarded = entry.guarded or name not in certain or not there
            if top not in found or (found[top].guarded and not guarded):
                found[top] = Undeclared(package, top, name, guarded, there)
    return sorted(found.values())


def _imports_of(module: ModuleType) -> tuple[Import, ...]:
    file = getattr(module, "__file__", None) or ""
    package = getattr(module, "__package__", None) or ""
    return _imports_in(file, package) if file.endswith(".py") else ()


@functools.cache
def _imports_in(file: str, package: str) -> tuple[Import, ...]:
    with open(file, encoding="utf-8") as source:
        return tuple(imports(source.read(), package))


def _importable(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return name in sys.modules
