"""Code that is prepared for what is not there: `try`, `hasattr`, a look at the version. Pure."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from mcore_compat.api.resolution import Target

TYPES_ONLY = "for type checkers only"
TRY_IMPORT = "in a try that takes ImportError"
TRY_ATTRIBUTE = "in a try that takes AttributeError"
TRY_CALL = "in a try that takes TypeError"
LOOKED = "behind a look at what is there"
VERSION = "behind a look at the version"

Targets = Callable[[ast.expr], tuple[Target, ...]]
"""What an expression is of the packages."""

_VERSION = re.compile(
    r"(^|_)(?i:version)|Version|(?i:(^|_)(mcore|te|modelopt|megatron)_(v?\d|ge|gt|le|lt)(_|$|\d))"
)
"""Names that stand for a version, or for what a comparison of versions came to."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """`hasattr(target, name)`, and the answer with which the code goes on."""

    target: Target
    name: str
    answer: bool = True


@dataclass(frozen=True, kw_only=True)
class Guard:
    """What is known below a condition or within a `try`: `labels` of the above, and the `strings`
    that the condition names: who asks for "x" is prepared for x not to be there. `looks`: what it
    asks of the packages; `signature`: whether it looks at a signature of theirs."""

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
        """What is known where the condition does not hold."""
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
    """How a condition guards what stands below it; `flags`: names that were given one before."""
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
    """What a call asks of a package."""
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
    """The names of a module that hold what a look, or a comparison of versions, came to."""
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
    """How a `try` with these handlers guards what it tries. Whoever raises again is not prepared,
    but tells."""
    labels = set()
    for handler in handlers:
        names = _names(handler.type)
        if not any(isinstance(node, ast.Raise) for node in handler.body):
            labels |= {label for label, kinds in _TAKEN.items() if names & (kinds | ALL)}
    return Guard(labels=frozenset(labels))


def of_suppressed(item: ast.expr) -> Guard:
    """How `with contextlib.suppress(…)` guards what stands in it."""
    if not isinstance(item, ast.Call) or not ast.unparse(item.func).endswith("suppress"):
        return NONE
    every = ast.Tuple(elts=list(item.args), ctx=ast.Load())
    return of_handlers([ast.ExceptHandler(type=every, name=None, body=[])])


def ends(body: Sequence[ast.stmt]) -> bool:
    """Whether nothing comes after a block of statements."""
    return bool(body) and isinstance(body[-1], ast.Return | ast.Raise | ast.Continue | ast.Break)


def _names(kind: ast.expr | None) -> set[str]:
    if kind is None:
        return {""}
    # Also of `ImportError or ModuleNotFoundError`, which takes the first of them alone.
    every = [node for node in ast.walk(kind) if isinstance(node, ast.Name | ast.Attribute)]
    return {node.id if isinstance(node, ast.Name) else node.attr for node in every}
