"""Comparisons with versions that packages make in their own sources.

Where a package asks for the version of another one, it behaves otherwise on the two sides of
that version: those are the releases worth testing.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

HINT = re.compile(r"_min_version\(|_version\(\)|__version__|[vV]ersion\(\W")
"""A source without it compares no versions, and need not be parsed."""

NAMES = {
    "te": "transformer-engine",
    "transformer-engine": "transformer-engine",
    "transformer-engine-torch": "transformer-engine",
    "megatron": "megatron-core",
    "megatron.core": "megatron-core",
    "mcore": "megatron-core",
    "modelopt": "nvidia-modelopt",
    "mamba": "mamba-ssm",
    "fa": "flash-attn",
}
"""What sources call packages, where that is not their distribution's name."""

OPERATORS = {ast.Gt: ">", ast.GtE: ">=", ast.Lt: "<", ast.LtE: "<=", ast.Eq: "==", ast.NotEq: "!="}
MIRRORED = {">": "<", ">=": "<=", "<": ">", "<=": ">=", "==": "==", "!=": "!="}

_MINIMUM = re.compile(r"is_(\w+)_min_version$")
_PARSES = re.compile(r"(?i)(^|_)(version|pkgversion|parse|looseversion)$")
_ASKS = re.compile(r"^(?:get_)?(\w+?)_version$")
_NUMBER = re.compile(r"\d+(\.\d+)*[\w.+-]*$")


@dataclass(frozen=True, order=True)
class Guard:
    """`package operator version`, as `torch>=2.6`, at a line of a source."""

    package: str
    operator: str
    version: str
    line: int

    def __str__(self) -> str:
        return f"{self.package}{self.operator}{self.version}"


def guards(source: str) -> Iterator[Guard]:
    """The guards in one source, in no order; only those whose two sides can be read as a package
    and a version, by themselves or by the name that the same source gives a package's version.

    Raises:
        SyntaxError: the source is for another Python.
    """
    if not HINT.search(source):
        return
    nodes = list(ast.walk(ast.parse(source)))
    names = dict(_names(nodes))
    for node in nodes:
        if isinstance(node, ast.Call):
            found = _minimum(node)
        elif isinstance(node, ast.Compare) and len(node.ops) == 1:
            found = _compared(node, names)
        else:
            found = None
        if found is not None:
            yield found


def _names(nodes: list[ast.AST]) -> Iterator[tuple[str, str]]:
    """Names that stand for a package's version: `from torch import __version__ as this`, and
    `this = Version(torch.__version__)`."""
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                if alias.name == "__version__":
                    yield alias.asname or alias.name, named(node.module)
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            package = _package(node.value, {}) if isinstance(node.value, ast.Call) else None
            if package is not None:
                yield node.targets[0].id, package


def _minimum(call: ast.Call) -> Guard | None:
    """`is_te_min_version("2.1.0", check_equality=False)`."""
    known = _MINIMUM.match(_last(call.func))
    version = _version(call.args[0]) if known and call.args else None
    if known is None or version is None:
        return None
    more = call.args[1:2] + [k.value for k in call.keywords if k.arg == "check_equality"]
    strict = any(isinstance(one, ast.Constant) and one.value is False for one in more)
    return Guard(named(known[1]), ">" if strict else ">=", version, call.lineno)


def _compared(node: ast.Compare, names: Mapping[str, str]) -> Guard | None:
    """`Version(torch.__version__) >= Version("2.6")`, either way round."""
    operator = OPERATORS.get(type(node.ops[0]))
    if operator is None:
        return None
    for one, other, said in (
        (node.left, node.comparators[0], operator),
        (node.comparators[0], node.left, MIRRORED[operator]),
    ):
        version = _version(other)
        package = _package(one, names) if version is not None else None
        if package is not None and version is not None:
            return Guard(package, said, version, node.lineno)
    return None


def _version(node: ast.expr) -> str | None:
    """`"2.6"`, `Version("2.6")` or `(2, 6)` as `2.6`."""
    if isinstance(node, ast.Call) and len(node.args) == 1 and _PARSES.search(_last(node.func)):
        node = node.args[0]
    if isinstance(node, ast.Tuple) and len(node.elts) > 1:
        parts = [e.value for e in node.elts if isinstance(e, ast.Constant)]
        whole = len(parts) == len(node.elts) and all(type(p) is int for p in parts)
        return ".".join(map(str, parts)) if whole else None
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value if _NUMBER.match(node.value) else None
    return None


def _package(node: ast.expr, names: Mapping[str, str]) -> str | None:
    """The package whose version an expression gives, None where it says nothing of one."""
    for part in ast.walk(node):
        if isinstance(part, ast.Name) and part.id in names:
            return names[part.id]
        if isinstance(part, ast.Attribute) and part.attr == "__version__":
            return named(ast.unparse(part.value))
        if isinstance(part, ast.Call):
            found = _asked(part)
            if found is not None:
                return found
    return None


def _asked(call: ast.Call) -> str | None:
    """The package of `version("torch")`, `get_te_version()` or `torch_version()`."""
    function = _last(call.func)
    argument = call.args[0] if call.args else None
    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
        asks = "version" in function.lower() and not _NUMBER.match(argument.value)
        return named(argument.value) if asks else None
    said = _ASKS.match(function)
    return named(said[1]) if said and argument is None and said[1] != "get" else None


def _last(function: ast.expr) -> str:
    """The last part of a function's dotted name."""
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def named(word: str) -> str:
    """The distribution that a source calls `word`."""
    plain = word.lower().replace("_", "-")
    return NAMES.get(plain, NAMES.get(word, plain))
