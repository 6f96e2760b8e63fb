"""Recognizes code that handles a missing name: `try`, `hasattr`, a version check. Pure."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from mcore_compat.api.resolution import Target

TYPES_ONLY = "for type checkers only"
TRY_IMPORT = "in a try that catches ImportError"
TRY_ATTRIBUTE = "in a try that catches AttributeError"
TRY_CALL = "in a try that catches TypeError"
LOOKED = "after a check that it exists"
VERSION = "after a version check"

Targets = Callable[[ast.expr], tuple[Target, ...]]
"""Resolves an expression to names of the packages."""

_VERSION = re.compile(
    r"(^|_)(?i:version)|Version|(?i:(^|_)(mcore|te|modelopt|megatron)_(v?\d|ge|gt|le|lt)(_|$|\d))"
)
"""Names that stand for a version, or the result of a version comparison."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """`hasattr(target, name)`, and the answer for which the code continues."""

    target: Target
    name: str
    answer: bool = True


@dataclass(frozen=True, kw_only=True)
class Guard:
    """What is known inside a condition or a `try`: `labels` of the above; `strings` in the
    condition, because code that checks for "x" handles a missing x; `looks`: its checks of names of
    the packages; `signature`: whether it inspects a signature of theirs."""

    labels: frozenset[str] = frozenset()
    strings: frozenset[str] = frozenset()
    looks: frozenset[Look] = frozenset()
    signature: bool = False

    def __or__(self, other: Guard) -> Guard:
        return Guard(
            labels=self.labels | other.labels,
            strings=self.strings | other.strings,
            looks=self.looks | other.looks,
            signature=self.signature or other.signature,
        )

    def __bool__(self) -> bool:
        return bool(self.labels or self.strings or self.looks)

    @property
    def otherwise(self) -> Guard:
        """What is known if the condition is false."""
        labels = self.labels | {LOOKED} if self.signature else self.labels
        looks = frozenset(replace(look, answer=not look.answer) for look in self.looks)
        return Guard(labels=labels, strings=self.strings, looks=looks)


NONE = Guard()

IMPORT = frozenset({"ImportError", "ModuleNotFoundError"})
ATTRIBUTE = frozenset({"AttributeError"})
TYPE = frozenset({"TypeError"})
ALL = frozenset({"Exception", "BaseException", ""})
_TAKEN = {TRY_IMPORT: IMPORT, TRY_ATTRIBUTE: ATTRIBUTE, TRY_CALL: TYPE}


def of_test(test: ast.expr, flags: Mapping[str, Guard], targets: Targets) -> Guard:
    """The guard that a condition gives its body; `flags`: guards of names assigned before."""
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        inner = of_test(test.operand, flags, targets)
        return replace(inner, looks=inner.otherwise.looks)
    if isinstance(test, ast.BoolOp):
        found = NONE
        for value in test.values:
            found |= of_test(value, flags, targets)
        return found
    return _of_one(test, flags, targets)


def _of_one(test: ast.expr, flags: Mapping[str, Guard], targets: Targets) -> Guard:
    found = NONE
    for node in ast.walk(test):
        if isinstance(node, ast.Call):
            found |= _of_look(node, targets)
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found |= Guard(strings=frozenset({node.value}))
        name = node.id if isinstance(node, ast.Name) else ""
        name = node.attr if isinstance(node, ast.Attribute) else name
        if name == "TYPE_CHECKING":
            found |= Guard(labels=frozenset({TYPES_ONLY}))
        elif name and _VERSION.search(name):
            found |= Guard(labels=frozenset({VERSION}))
        found |= flags.get(name, NONE)
    return found


def _of_look(call: ast.Call, targets: Targets) -> Guard:
    """The guard of a `hasattr`, `getattr` or `signature` call."""
    function = ast.unparse(call.func)
    of = targets(call.args[0]) if call.args else ()
    if function in ("signature", "inspect.signature"):
        return Guard(signature=bool(of))
    if function not in ("hasattr", "getattr") or len(of) != 1 or len(call.args) < 2:
        return NONE
    name = call.args[1]
    if not isinstance(name, ast.Constant) or not isinstance(name.value, str):
        return NONE
    return Guard(looks=frozenset({Look(target=of[0], name=name.value)}))


def flags_of(module: ast.Module, targets: Targets) -> dict[str, Guard]:
    """The module's variables that hold the result of a check, with its guard."""
    flags: dict[str, Guard] = {}
    for node in module.body:
        if isinstance(node, ast.Assign) and isinstance(
            node.value, ast.Call | ast.Compare | ast.BoolOp
        ):
            guard = of_test(node.value, flags, targets)
            names = (target.id for target in node.targets if isinstance(target, ast.Name))
            flags.update(dict.fromkeys(names, guard) if guard else {})
    return flags


def of_handlers(handlers: Sequence[ast.ExceptHandler]) -> Guard:
    """The guard of a `try` with these handlers. A handler that raises does not handle the error."""
    labels = set()
    for handler in handlers:
        names = _names(handler.type)
        if not any(isinstance(node, ast.Raise) for node in handler.body):
            labels |= {label for label, kinds in _TAKEN.items() if names & (kinds | ALL)}
    return Guard(labels=frozenset(labels))


def of_suppressed(item: ast.expr) -> Guard:
    """The guard of `with contextlib.suppress(…)`."""
    if not isinstance(item, ast.Call) or not ast.unparse(item.func).endswith("suppress"):
        return NONE
    every = ast.Tuple(elts=list(item.args), ctx=ast.Load())
    return of_handlers([ast.ExceptHandler(type=every, name=None, body=[])])


def ends(body: Sequence[ast.stmt]) -> bool:
    """Whether a block of statements always leaves the enclosing block."""
    return bool(body) and isinstance(body[-1], ast.Return | ast.Raise | ast.Continue | ast.Break)


def _names(kind: ast.expr | None) -> set[str]:
    if kind is None:
        return {""}
    # Also of `ImportError or ModuleNotFoundError`, which catches only the first.
    every = [node for node in ast.walk(kind) if isinstance(node, ast.Name | ast.Attribute)]
    return {node.id if isinstance(node, ast.Name) else node.attr for node in every}
