"""Reads a folder of code and finds what it uses of the packages. The code is never run."""

from __future__ import annotations

import ast
import contextlib
import gc
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mcore_compat.api import packages, scopes, uses
from mcore_compat.api.resolution import Target
from mcore_compat.api.uses import Use
from mcore_compat.base.errors import UsageError

LARGEST = 4_000_000
"""Maximum bytes of a file; larger ones are data."""

_SKIPPED = {"__pycache__", "node_modules", "site-packages"}
_MENTIONED = re.compile(
    b"|".join(
        rb"\b" + p.root.replace(".", r"\b\s*(\.|import)\s*\b").encode() + rb"\b"
        for p in packages.PACKAGES
    )
)

_FROM = re.compile(rb"\bfrom[ \t]+[\w.]*?(\w+)[ \t]+import[ \t]*(\([^)]*\)|[^\n]*)")

Exports = Mapping[str, Mapping[str, tuple[Target, ...]]]
"""By module of the code: the names that it imports from the packages."""


@dataclass(frozen=True, kw_only=True)
class UnreadableFile:
    """A file that this Python version cannot parse, and why."""

    file: str
    line: int
    why: str


@dataclass(kw_only=True)
class Codebase:
    """The code: by file, its `uses` of the packages; `own`: by package, the number of the package's
    own files in the folder, which are not checked."""

    uses: dict[str, list[Use]] = field(default_factory=dict)
    unreadable: list[UnreadableFile] = field(default_factory=list)
    looked_at: int = 0
    lines: int = 0
    own: dict[str, int] = field(default_factory=dict)


def read(path: Path) -> Codebase:
    """Read a file, or all Python files below a folder.

    Raises:
        UsageError: there is no such file or folder, or no Python in it.
    """
    with _without_collection(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about invalid escapes in the code
        return _read(path)


def _read(path: Path) -> Codebase:
    found = Codebase()
    trees: dict[Path, ast.Module] = {}
    others: dict[Path, bytes] = {}
    for file in _python_files(path):
        text = _text(file, found)
        if text is None:
            continue
        package = _package_of(file)
        if package:
            found.own[package] = found.own.get(package, 0) + 1
        elif _MENTIONED.search(text):
            _parse(file, text, trees, found)
        else:
            others[file] = text
    exports = {module: names for module, names in map(_exports, trees.items()) if names}
    by_last: dict[bytes, set[bytes]] = {}
    for module, names in exports.items():
        last = module.rpartition(".")[2].encode()
        by_last.setdefault(last, set()).update(name.encode() for name in names)
    for file, text in others.items():
        if _takes(text, by_last):
            _parse(file, text, trees, found)
    for file, tree in trees.items():
        try:
            found.uses[str(file)] = uses.uses(tree, _origin(file, exports))
        except RecursionError:
            found.unreadable.append(UnreadableFile(file=str(file), line=1, why=_DEEP))
    return found


_DEEP = "nested too deeply"


def _parse(file: Path, text: bytes, trees: dict[Path, ast.Module], found: Codebase) -> None:
    try:
        trees[file] = ast.parse(text, str(file))
        return
    except SyntaxError as error:
        line, why = error.lineno or 1, error.msg or "not Python"
    except (ValueError, LookupError) as error:
        line, why = 1, str(error)
    except (RecursionError, MemoryError):
        line, why = 1, _DEEP
    found.unreadable.append(UnreadableFile(file=str(file), line=max(line, 1), why=why))


def _text(file: Path, found: Codebase) -> bytes | None:
    try:
        if file.stat().st_size > LARGEST:
            return None
        text = file.read_bytes()
    except OSError as error:
        why = error.strerror or str(error)
        found.unreadable.append(UnreadableFile(file=str(file), line=1, why=why))
        return None
    found.looked_at += 1
    found.lines += text.count(b"\n")
    return text


def _python_files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    if not path.is_dir():
        raise UsageError(f"{path} does not exist")
    some = False
    for folder, folders, files in os.walk(path):
        folders[:] = sorted(
            f for f in folders
            if not f.startswith(".") and f not in _SKIPPED
            and not os.path.exists(os.path.join(folder, f, "pyvenv.cfg"))
        )  # fmt: skip
        for name in sorted(files):
            file = Path(folder, name)
            if name.endswith(".py") and file.is_file():
                some = True
                yield file
    if not some:
        raise UsageError(f"{path} has no Python files")


def _module_of(file: Path) -> str:
    """The dotted name of a file's module, from its outermost package."""
    parts = [] if file.name == "__init__.py" else [file.stem]
    folder = file.absolute().parent
    while (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    return ".".join(parts)


def _package_of(file: Path) -> str:
    """The package that a file belongs to; empty for all other code."""
    module = _module_of(file)
    above = _root_folder(file, module)
    for name in (module, f"{above}.{module}"):
        package = packages.owner(name)
        if package is not None:
            return package.name
    return ""


def _root_folder(file: Path, module: str) -> str:
    """The name of the folder that contains a module's outermost package."""
    depth = module.count(".") + (file.name == "__init__.py")
    parents = file.absolute().parents
    return parents[depth].name if depth < len(parents) else ""


def _exports(item: tuple[Path, ast.Module]) -> tuple[str, dict[str, tuple[Target, ...]]]:
    """The names that a module imports only from the packages."""
    file, tree = item
    try:
        scope = scopes.scope_of(tree, _origin(file, {}))
    except RecursionError:
        return "", {}
    names = {
        name: tuple(dict.fromkeys(targets))
        for name, targets in scope.imports.items()
        if name not in scope.others and all(uses.normal(t) for t in targets)
    }
    return _module_of(file), names


def _takes(text: bytes, exports: Mapping[bytes, set[bytes]]) -> bool:
    """Whether a file imports a name that a module of the code has from a package; `exports`: by the
    last part of the module's name."""
    return any(
        not exports.get(match[1], set()).isdisjoint(re.findall(rb"\w+", match[2]))
        for match in _FROM.finditer(text)
    )


def _origin(file: Path, exports: Exports) -> uses.Origin:
    """A function that resolves `from … import name` in a file."""
    module = _module_of(file)
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]

    def origin(node: ast.ImportFrom, name: str) -> tuple[Target, ...]:
        source = node.module or ""
        if node.level:
            parts = package.split(".") if package else []
            above = parts[: len(parts) - node.level + 1]
            source = ".".join([*above, *([node.module] if node.module else [])])
        elif uses.normal(target := Target(module=source, names=(name,))):
            return (target,)
        return tuple(exports.get(source, {}).get(name, ()))

    return origin


@contextlib.contextmanager
def _without_collection() -> Iterator[None]:
    """Disable garbage collection: syntax trees are many objects without cycles, and looking for
    cycles takes half the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
