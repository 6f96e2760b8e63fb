"""The modules of an environment as files: what each defines, what it imports, and which imports it
does without. Nothing is imported; only what stands at the top of a file is parsed."""

from __future__ import annotations

import ast
import functools
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mcore_compat.api import guards
from mcore_compat.api.guards import TRY_IMPORT

PLUGIN = "import_plugin"
"""ModelOpt's own `with` that goes on where an import fails."""

_NAMED = re.compile(r"(?:async\s+def|def|class)\s+(\w+)")
_DYNAMIC = ("\ndef __getattr__", "_LazyModule", "lazy_loader", "globals()", "sys.modules[")
"""One of these is in a module that has names which cannot be read."""
_STARTS = re.compile(r"^(?!(?:except|else|elif|finally)\b)[^\s#)\]}]", re.M)
_QUOTED = re.compile(r"(\"\"\"|''')[\s\S]*?\1")
_PLAIN = re.compile(r"(\w+)\s*(?::[^=\n]+)?=(?!=)")
_READ = re.compile(r"(?:import|from|try|with|if|for|\w+(?:,| *=))\b|\(")


@dataclass(frozen=True, kw_only=True)
class Import:
    """`from module import name`, or `import module` where there is no name; `line`: of its file."""

    module: str
    name: str = ""
    line: int = 0


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """Imports that a file does without: those of a `try`, then of what is tried in its place.

    `name`: of ModelOpt's plugin, where it is one.
    """

    line: int
    ways: tuple[tuple[Import, ...], ...]
    name: str = ""


@dataclass(kw_only=True)
class Module:
    """One module, by its file: `defined` at its top, `stars`: modules of which it takes all names;
    `dynamic`: it has names that cannot be read."""

    name: str
    path: Path
    defined: set[str] = field(default_factory=set)
    stars: list[str] = field(default_factory=list)
    imports: list[Import] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    dynamic: bool = False

    @property
    def package(self) -> str:
        """What a relative import begins at."""
        whole = self.name if self.path.name == "__init__.py" else self.name.rpartition(".")[0]
        return whole


class Modules:
    """The modules in the folders that a Python searches."""

    def __init__(self, places: Sequence[Path]) -> None:
        self._places = places
        self._tops = [f"{place}{os.sep}" for place in places]
        self.module = functools.cache(self._module)
        self.file = functools.cache(self._file)
        self.compiled = functools.cache(_compiled)

    def shown(self, path: Path) -> str:
        """A file from the folder on that a Python searches: `modelopt/torch/__init__.py`."""
        text = str(path)  # `Path.is_relative_to` takes much longer
        place = next((top for top in self._tops if text.startswith(top)), "")
        return text.removeprefix(place)

    def _file(self, name: str) -> Path | None:
        """The file, or the folder without one, of a module; None where there is none."""
        head, _, last = name.rpartition(".")
        if head:
            parent = self.file(head)
            places = [parent.parent if parent and parent.name == "__init__.py" else parent]
        else:
            places = [*self._places]
        for place in filter(None, places):
            if (init := place / last / "__init__.py").is_file():
                return init
            if (one := place / f"{last}.py").is_file():
                return one
            if compiled := self.compiled(place).get(last):
                return compiled
            if (place / last).is_dir():
                return place / last
        return None

    def _module(self, name: str) -> Module | None:
        """A module that was read; None where there is no such file."""
        path = self.file(name)
        if path is None:
            return None
        module = Module(name=name, path=path, dynamic=path.suffix != ".py")
        if not module.dynamic:
            _read(module)
        return module


def _compiled(folder: Path) -> dict[str, Path]:
    """The compiled modules of a folder."""
    try:
        names = [name for name in os.listdir(folder) if name.endswith(".so")]
    except OSError:
        return {}
    return {name.partition(".")[0]: folder / name for name in names}


def _read(module: Module) -> None:
    try:
        text = module.path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        module.dynamic = True
        return
    module.dynamic = any(mark in text for mark in _DYNAMIC)
    for line, block in blocks(text):
        if named := _NAMED.match(block) or _PLAIN.match(block):
            module.defined.add(named[1])
        elif _READ.match(block):
            for node in _parsed(block):
                _Taking(module, line - 1).take(node)


def blocks(text: str) -> Iterator[tuple[int, str]]:
    """What stands at the left of a file, each with all that belongs to it, by its line's number.
    What is quoted over several lines is left out."""
    text = _QUOTED.sub(lambda quoted: '""' + "\n" * quoted[0].count("\n"), text)
    starts = [match.start() for match in _STARTS.finditer(text)]
    ends = [*starts[1:], len(text)] if starts else []
    line, at = 1, 0
    for start, end in zip(starts, ends, strict=True):
        line += text.count("\n", at, start)
        at = start
        yield line, text[start:end]


def _parsed(block: str) -> Sequence[ast.stmt]:
    """The statements of a block; none if it is incomplete."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            return ast.parse(block).body
    except (SyntaxError, ValueError, RecursionError):
        return ()


@dataclass(frozen=True)
class _Taking:
    """Takes from the statements of a block, which begins below `above` lines, what they define and
    import."""

    module: Module
    above: int

    def take(self, node: ast.stmt, *, sure: bool = True) -> None:
        """`sure`: whether it runs in any case."""
        if isinstance(node, ast.Import | ast.ImportFrom):
            self.module.imports += self._imports(node) if sure else []
            self._names(node)
        elif isinstance(node, ast.Try):
            guarded = TRY_IMPORT in guards.of_handlers(node.handlers).labels
            if guarded and (ways := self._ways(node)) and ways[0]:
                self._attempt(node, ways)
            for part in (*node.body, *node.orelse, *node.finalbody):
                self.take(part, sure=sure and not guarded)
            for part in [part for handler in node.handlers for part in handler.body]:
                self.take(part, sure=False)
        elif isinstance(node, ast.With):
            plugin = _plugin(node)
            if plugin is not None and (imports := self._all_imports(node.body)):
                self._attempt(node, (imports,), plugin)
            for part in node.body:
                self.take(part, sure=sure and plugin is None)
        elif isinstance(node, ast.If):
            if "TYPE_CHECKING" not in ast.unparse(node.test):
                for part in (*node.body, *node.orelse):
                    self.take(part, sure=False)
        else:
            self._define(node)

    def _attempt(
        self, node: ast.stmt, ways: tuple[tuple[Import, ...], ...], name: str = ""
    ) -> None:
        attempt = Attempt(line=node.lineno + self.above, ways=ways, name=name)
        self.module.attempts.append(attempt)

    def _define(self, node: ast.stmt) -> None:
        """The names that a statement gives a meaning."""
        for part in ast.walk(node):
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                self.module.defined.add(part.id)
            elif isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                self.module.defined.add(part.name)
            elif isinstance(part, ast.Import | ast.ImportFrom):
                self._names(part)

    def _names(self, node: ast.Import | ast.ImportFrom) -> None:
        for alias in node.names:
            self.module.defined.add((alias.asname or alias.name).partition(".")[0])
        if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
            self.module.stars.append(self._origin(node))

    def _origin(self, node: ast.ImportFrom) -> str:
        """The module that something is taken from, also where it is named from here."""
        if not node.level:
            return node.module or ""
        parts = self.module.package.split(".")
        parts = parts[: len(parts) - node.level + 1]
        return ".".join([*parts, *filter(None, [node.module])])

    def _imports(self, node: ast.Import | ast.ImportFrom) -> list[Import]:
        line = node.lineno + self.above
        if isinstance(node, ast.Import):
            return [Import(module=alias.name, line=line) for alias in node.names]
        origin = self._origin(node)
        return [
            Import(module=origin, name="" if alias.name == "*" else alias.name, line=line)
            for alias in node.names
        ]

    def _all_imports(self, body: Sequence[ast.stmt]) -> tuple[Import, ...]:
        """The imports of a block that run in any case: none of a `try` or a condition within."""
        plain = [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
        return tuple(one for node in plain for one in self._imports(node))

    def _ways(self, node: ast.Try) -> tuple[tuple[Import, ...], ...]:
        """What is tried, then what its handlers try: one way must do."""
        ways = [self._all_imports(node.body)]
        for handler in node.handlers:
            if imports := self._all_imports(handler.body):
                ways.append(imports)
            for inner in handler.body:
                if isinstance(inner, ast.Try):
                    ways += self._ways(inner)
        return tuple(ways)


def _plugin(node: ast.With) -> str | None:
    """The name of ModelOpt's plugin that a `with` imports; None where it is another `with`."""
    call = node.items[0].context_expr
    if not isinstance(call, ast.Call) or not ast.unparse(call.func).endswith(PLUGIN):
        return None
    first = call.args[0] if call.args else None
    return str(first.value) if isinstance(first, ast.Constant) else ""
