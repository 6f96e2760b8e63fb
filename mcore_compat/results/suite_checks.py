"""The checks of a suite, read from its files without importing them, since that would need the
packages under test.

As `suite.plugin` makes them of the functions `check_*` in `check_*.py`, from their marks: the ids
of a whole run's checks, each with its kind, family, feature and format.
"""

from __future__ import annotations

import ast
import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mcore_compat.base.errors import ResultError
from mcore_compat.core.outcomes import FEATURES
from mcore_compat.core.profiles import Words


@dataclass(frozen=True, slots=True)
class Declared:
    """A check as declared in a suite."""

    kind: str
    family: str | None
    feature: str | None
    format: str | None


@functools.cache
def of(suite: Path, folder: Path) -> Mapping[str, Declared]:
    """The checks in a folder of the suite, by id; empty if no file has any.

    Raises:
        ResultError: a file cannot be read, or names its checks by an expression that is not
        plain.
    """
    checks: dict[str, Declared] = {}
    for path in sorted(folder.glob("check_*.py")):
        module = _Module(suite, path)
        for function in module.tree.body:
            if isinstance(function, ast.FunctionDef) and function.name.startswith("check_"):
                checks.update(_of_function(function, module))
    return checks


def words(suite: Path) -> Words:
    """The words of profiles: those of the suite's main checks. Raises as `of`."""
    declared = of(suite, suite).values()
    return Words(
        features=FEATURES,
        families=tuple(sorted({check.family for check in declared if check.family})),
        formats=tuple(sorted({check.format for check in declared if check.format})),
    )


def _of_function(function: ast.FunctionDef, module: _Module) -> Iterator[tuple[str, Declared]]:
    marks = [*function.decorator_list, *module.marks]
    if any(_mark(mark)[0] == "record_only" for mark in marks):
        return
    named = {name: arguments for name, arguments in map(_mark, reversed(marks)) if arguments}
    kind = function.name.removeprefix("check_").replace("_", "-")
    if "kind" in named:
        kind = module.word(named["kind"][0])
    feature = module.word(named["feature"][0]) if "feature" in named else None
    parameters = [
        [(module.word(arguments[0]), value) for value in module.words(arguments[1])]
        for name, arguments in map(_mark, marks)
        if name == "parametrize"
    ]
    families: Sequence[str | None] = [None]
    if "family" in {argument.arg for argument in function.args.args}:
        families = [module.word(one) for one in named.get("families", ())] or module.families()
    for chosen in itertools.product(*parameters):
        words = dict(chosen)
        name = kind.format(**words)
        for family in families:
            about = feature.format(**words) if feature else None
            declared = Declared(name, family, about, words.get("fmt"))
            yield (name if family is None else f"{name}[{family}]"), declared


def _mark(node: ast.expr) -> tuple[str | None, Sequence[ast.expr]]:
    """The name and the arguments of `pytest.mark.NAME(...)`."""
    function = node.func if isinstance(node, ast.Call) else node
    name = function.attr if isinstance(function, ast.Attribute) else None
    return name, node.args if isinstance(node, ast.Call) else ()


class _Module:
    """A file of the suite: its marks, and the values of its names."""

    def __init__(self, suite: Path, path: Path) -> None:
        self._suite, self._path = suite, path
        try:
            self.tree = ast.parse(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, SyntaxError) as error:
            raise ResultError(f"{path} cannot be read: {error}") from None
        self._values: dict[str, ast.expr] = {}
        self._imports: dict[str, tuple[str, str]] = {}
        for node in self.tree.body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                self._values[node.targets[0].id] = node.value
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                self._values.update({node.target.id: node.value} if node.value else {})
            elif isinstance(node, ast.ImportFrom) and node.module:
                for one in node.names:
                    self._imports[one.asname or one.name] = (node.module, one.name)

    @property
    def marks(self) -> list[ast.expr]:
        """The marks of all its checks."""
        marks = self._values.get("pytestmark")
        if marks is None:
            return []
        return [*marks.elts] if isinstance(marks, ast.List) else [marks]

    def families(self) -> list[str]:
        """All families of the suite."""
        return self._other("suite.outcomes").words(ast.Name("FAMILIES"))

    def word(self, node: ast.expr) -> str:
        """The text of an expression."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return node.value
        raise self._unknown(node)

    def words(self, node: ast.expr) -> list[str]:
        """The texts in a list, a tuple or a set, or the keys of a mapping."""
        match node:
            case ast.List(elts) | ast.Tuple(elts) | ast.Set(elts):
                return [word for one in elts for word in self._each(one)]
            case ast.Dict(keys):
                return [self.word(key) for key in keys if key is not None]
            case ast.DictComp(ast.Name(key), _, [ast.comprehension(target, source)]):
                first = target.elts[0] if isinstance(target, ast.Tuple) else target
                if isinstance(first, ast.Name) and first.id == key:
                    return self.words(source)
            case ast.Call(ast.Name("sorted"), [values], [ast.keyword("reverse", ast.Constant(up))]):
                return sorted(self.words(values), reverse=bool(up))
            case ast.Call(ast.Name("sorted"), [values], []):
                return sorted(self.words(values))
            case ast.Call(ast.Name("tuple" | "list"), [values], []):
                return self.words(values)
            case ast.Call(ast.Attribute(values, "items"), [], []):
                return self.words(values)
            case ast.Name(name) if name in self._values:
                return self.words(self._values[name])
            case ast.Name(name) if name in self._imports:
                module, original = self._imports[name]
                return self._other(module).words(ast.Name(original))
            case ast.Attribute(ast.Name(module), name) if module in self._imports:
                return self._other(".".join(self._imports[module])).words(ast.Name(name))
        raise self._unknown(node)

    def _each(self, node: ast.expr) -> list[str]:
        return self.words(node.value) if isinstance(node, ast.Starred) else [self.word(node)]

    def _other(self, name: str) -> _Module:
        """Another file of the suite, by its module's name."""
        return _Module(self._suite, self._suite.joinpath(*name.split(".")[1:]).with_suffix(".py"))

    def _unknown(self, node: ast.expr) -> ResultError:
        line = getattr(node, "lineno", 0)
        return ResultError(f"{self._path}:{line}: this is not a plain list of names of checks")
