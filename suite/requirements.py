"""What installed packages import while they are imported, against what they declare."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import re
import sys
from collections.abc import Iterator, Mapping
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


def imports(source: str) -> dict[str, bool]:
    """Top-level names that running `source` as a module imports; true where that is guarded.

    Looks into module-level `try`, `if`, `with`, loops and class bodies, not into functions,
    and not under `if TYPE_CHECKING`. A name that is imported both ways counts as unguarded.
    """
    found: dict[str, bool] = {}
    for name, guarded in _statements(ast.parse(source).body, guarded=False):
        found[name] = found.get(name, True) and guarded
    return found


def _statements(body: list[ast.stmt], *, guarded: bool) -> Iterator[tuple[str, bool]]:
    for node in body:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name.partition(".")[0], guarded
        elif isinstance(node, ast.ImportFrom):
            if node.level == 0 and node.module:
                yield node.module.partition(".")[0], guarded
        elif isinstance(node, ast.Try):
            yield from _statements(node.body, guarded=guarded or _catches(node))
            for handler in node.handlers:
                # What is tried when the first choice failed is a choice, too.
                yield from _statements(handler.body, guarded=True)
            # `else` runs only where what was tried is there.
            yield from _statements(node.orelse, guarded=guarded or _catches(node))
            yield from _statements(node.finalbody, guarded=guarded)
        elif isinstance(node, ast.If):
            if "TYPE_CHECKING" not in ast.dump(node.test):
                yield from _statements(node.body, guarded=True)
            yield from _statements(node.orelse, guarded=True)
        elif isinstance(node, ast.With):
            # ModelOpt's `with import_plugin(...)` swallows what fails inside.
            swallows = any("import" in ast.dump(item.context_expr) for item in node.items)
            yield from _statements(node.body, guarded=guarded or swallows)
        elif isinstance(node, (ast.For, ast.While, ast.ClassDef)):
            yield from _statements(node.body, guarded=guarded)


def _catches(node: ast.Try) -> bool:
    return any(
        handler.type is None or any(word in ast.dump(handler.type) for word in _CATCHES)
        for handler in node.handlers
    )


def declared(distribution: str) -> frozenset[str]:
    """Normalised names of what `distribution` requires, and of what those require in turn,
    without extras that nobody asks for. Includes names that are not installed."""
    found: set[str] = set()
    seen: set[tuple[str, str]] = set()
    waiting = [(distribution, "")]
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


def undeclared(
    package: str, prefix: str, modules: Mapping[str, ModuleType], owners: Mapping[str, list[str]]
) -> list[Undeclared]:
    """Imports of the loaded `modules` below `prefix` that the distribution `package` does not
    declare. `owners` says which distributions hold a top-level name."""
    requires = declared(package)
    own = prefix.partition(".")[0]
    found: dict[tuple[str, bool], Undeclared] = {}
    for name in sorted(modules):
        if name != prefix and not name.startswith(prefix + "."):
            continue
        for top, guarded in imports(_source(modules[name])).items():
            if top == own or top in sys.stdlib_module_names or top == "__main__":
                continue
            names = {normalised(owner) for owner in owners.get(top, [top])}
            if names & requires or (top, guarded) in found:
                continue
            there = top in owners or _importable(top)
            # The module was loaded without it, so that the import is optional, however written.
            guarded = guarded or not there
            found.setdefault((top, guarded), Undeclared(package, top, name, guarded, there))
    # Guarded in one module and not in another: the unguarded import is what matters.
    return sorted(
        entry for (top, guarded), entry in found.items() if not (guarded and (top, False) in found)
    )


def _source(module: ModuleType) -> str:
    file = getattr(module, "__file__", None)
    if not file or not file.endswith(".py"):
        return ""
    with open(file, encoding="utf-8") as source:
        return source.read()


def _importable(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return name in sys.modules
