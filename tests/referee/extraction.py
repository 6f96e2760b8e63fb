"""What a test file of upstream's asserts, statement by statement, from its syntax tree. Pure.

Told apart are the kinds of `KINDS`. An assertion is known by its digest, so that none of
upstream's text has to be kept here.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

KINDS = ("import", "build", "call", "expected", "assert", "raises")
"""`import`: a name of Megatron's is there; `build`: a configuration, spec, layer or model can be
made so; `call`: what is called so does not raise; `expected`: an entry of a table that the file
compares with; `assert`: a statement; `raises`: an error that is wanted."""

_CALLS = frozenset(
    {
        "_register_load_state_dict_pre_hook",
        "forward",
        "load",
        "load_state_dict",
        "save",
        "sharded_state_dict",
    }
)
_BUILDS = ("Config", "Model", "Linear", "_spec")
_LIBRARY = "megatron"


@dataclass(frozen=True)
class Assertion:
    """One thing that a test file asks: in which class and function, of which kind, as what text."""

    where: str
    kind: str
    text: str

    @property
    def id(self) -> str:
        """A digest of all of it; the same in each tag that asks the same."""
        whole = "\n".join((self.where, self.kind, self.text))
        return hashlib.sha256(whole.encode()).hexdigest()[:12]


def assertions(source: str) -> tuple[Assertion, ...]:
    """Everything that the test file `source` asks, in its order, each once."""
    found = _of_body(ast.parse(source).body, "")
    return tuple(dict.fromkeys(found))


def _of_body(body: list[ast.stmt], where: str) -> Iterator[Assertion]:
    for node in body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            name = f"{where}.{node.name}" if where else node.name
            if isinstance(node, ast.ClassDef):
                yield from _of_body(node.body, name)
            else:
                for statement in node.body:
                    yield from _of_statement(statement, name)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(_LIBRARY):
            for alias in node.names:
                yield Assertion(where, "import", f"{node.module}.{alias.name}")


def _of_statement(statement: ast.stmt, where: str) -> Iterator[Assertion]:
    for node in ast.walk(statement):
        if isinstance(node, ast.Assert):
            yield Assertion(where, "assert", ast.unparse(node.test))
        elif isinstance(node, ast.With):
            for item in node.items:
                if _name(item.context_expr) == "raises":
                    yield Assertion(where, "raises", ast.unparse(node))
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            target = node.targets[0]
            if isinstance(target, ast.Name) and target.id.startswith("expected"):
                for key, value in zip(node.value.keys, node.value.values, strict=True):
                    text = f"{target.id}: {ast.unparse(key) if key else '**'}: {ast.unparse(value)}"
                    yield Assertion(where, "expected", text)
        elif isinstance(node, ast.Call):
            name = _name(node)
            if name in _CALLS:
                yield Assertion(where, "call", ast.unparse(node))
            elif name.endswith(_BUILDS):
                yield Assertion(where, "build", ast.unparse(node))


def _name(node: ast.expr) -> str:
    """The last part of the name of what is called; empty for all else."""
    function = node.func if isinstance(node, ast.Call) else None
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def tests(source: str) -> tuple[str, ...]:
    """`Class.test` or `test` of everything in the file that pytest collects, inherited ones too."""
    body = ast.parse(source).body
    classes = {node.name: node for node in body if isinstance(node, ast.ClassDef)}
    found = [node.name for node in body if isinstance(node, ast.FunctionDef) and _is_test(node)]
    for name in classes:
        if name.startswith("Test"):
            found += [f"{name}.{test}" for test in _methods(name, classes)]
    return tuple(found)


def _methods(name: str, classes: dict[str, ast.ClassDef]) -> list[str]:
    """Names of the tests of a class and of those of its bases that the file defines."""
    mine = [n.name for n in classes[name].body if isinstance(n, ast.FunctionDef) and _is_test(n)]
    for base in classes[name].bases:
        if isinstance(base, ast.Name) and base.id in classes:
            mine += _methods(base.id, classes)
    return list(dict.fromkeys(mine))


def _is_test(node: ast.FunctionDef) -> bool:
    return node.name.startswith("test")
