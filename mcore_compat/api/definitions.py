"""The index's text for a definition: as Python writes its head, without annotations.

`def(self, x, *, y=1)`, `staticmethod(x)`, `class(a.b.Base)`, `property`, `= a.b.c` for another name
of something, `value`, `import`. A `?` after the first word means that a call of it cannot be
judged. If branches define a name differently, all are listed, separated by ` | `. Pure.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Names = dict[str, str]
"""The definitions of one module by name (`f`, `C.method`); the empty name is the module itself."""

MODULE, OPEN_MODULE = "module", "module?"
"""The names of an open module are unknown: it is compiled, or creates them at run time."""

PROPERTY, VALUE = "property", "value"

FOREIGN = "import"
"""A name that a module imports from a package without an indexed interface."""

EITHER = " | "
ALIAS = "= "

POSITIONAL_ONLY, POSITIONAL, ARGS, KEYWORD, KWARGS = range(5)
KINDS = {
    "positional-only": POSITIONAL_ONLY,
    "positional or keyword": POSITIONAL,
    "variadic positional": ARGS,
    "keyword-only": KEYWORD,
    "variadic keyword": KWARGS,
}

LONGEST = 60
"""Maximum characters of a default; a longer one is replaced by its digest."""


@dataclass(frozen=True, kw_only=True)
class FunctionParameter:
    """A parameter; `kind` is one of the five above, `default` its text."""

    name: str
    kind: int
    default: str | None = None

    @property
    def required(self) -> bool:
        """Whether a call must give it."""
        return self.default is None and self.kind not in (ARGS, KWARGS)


@dataclass(frozen=True, kw_only=True)
class Definition:
    """A parsed definition. `word`: its kind; `opaque`: a call of it cannot be judged;
    `target`: of an alias; `bases`: of a class; `parameters`: of a function."""

    word: str
    opaque: bool = False
    target: str = ""
    bases: tuple[str, ...] = ()
    parameters: tuple[FunctionParameter, ...] = ()


def alias(target: str) -> str:
    """The text of another name for something."""
    return f"{ALIAS}{target}"


def class_(bases: Sequence[str], *, opaque: bool) -> str:
    """The text of a class."""
    return f"class{'?' * opaque}({', '.join(bases)})"


def function(word: str, parameters: Iterable[FunctionParameter], *, opaque: bool) -> str:
    """The text of a function."""
    parts: list[str] = []
    last = POSITIONAL_ONLY
    listed = list(parameters)
    for p in listed:
        if p.kind > POSITIONAL_ONLY and last == POSITIONAL_ONLY and parts:
            parts.append("/")
        if p.kind == KEYWORD and last < ARGS:
            parts.append("*")
        stars = {ARGS: "*", KWARGS: "**"}.get(p.kind, "")
        parts.append(f"{stars}{p.name}" + (f"={p.default}" if p.default is not None else ""))
        last = p.kind
    if listed and last == POSITIONAL_ONLY:
        parts.append("/")
    return f"{word}{'?' * opaque}({', '.join(parts)})"


def either(texts: Sequence[str]) -> str:
    """The text of a name that branches define differently."""
    return EITHER.join(dict.fromkeys(texts))


def short(default: str) -> str:
    """A default that fits a line."""
    if len(default) <= LONGEST and EITHER not in default:
        return default
    digest = hashlib.sha256(default.encode()).hexdigest()[:6]
    return f"'… {digest}'"


@functools.cache
def read(text: str) -> tuple[Definition, ...]:
    """Parse a text of the index: one definition, or one for each branch.

    Raises:
        ValueError: it is not a definition.
    """
    return tuple(_read_one(part) for part in text.split(EITHER))


def _read_one(text: str) -> Definition:
    if text.startswith(ALIAS):
        return Definition(word="alias", target=text.removeprefix(ALIAS))
    head, bracket, rest = text.partition("(")
    word, opaque = head.removesuffix("?"), head.endswith("?")
    if word == "class":
        bases = tuple(base for base in rest.removesuffix(")").split(", ") if base)
        return Definition(word=word, opaque=opaque, bases=bases)
    if not bracket:
        if word not in ("module", PROPERTY, VALUE, FOREIGN):
            raise ValueError(f"{text!r} is not a definition")
        return Definition(word=word, opaque=opaque)
    try:
        arguments = ast.parse(f"def f({rest}: pass").body[0]
    except SyntaxError:
        raise ValueError(f"{text!r} is not a definition") from None
    assert isinstance(arguments, ast.FunctionDef)
    return Definition(word=word, opaque=opaque, parameters=tuple(parameters_of(arguments.args)))


def parameters_of(a: ast.arguments) -> Iterable[FunctionParameter]:
    """The parameters of a function, in their order."""
    by_position = [*a.posonlyargs, *a.args]
    missing: list[ast.expr | None] = [None] * (len(by_position) - len(a.defaults))
    for at, (arg, default) in enumerate(zip(by_position, [*missing, *a.defaults], strict=True)):
        kind = POSITIONAL_ONLY if at < len(a.posonlyargs) else POSITIONAL
        yield FunctionParameter(name=arg.arg, kind=kind, default=_unparsed(default))
    if a.vararg:
        yield FunctionParameter(name=a.vararg.arg, kind=ARGS)
    for arg, default in zip(a.kwonlyargs, a.kw_defaults, strict=True):
        yield FunctionParameter(name=arg.arg, kind=KEYWORD, default=_unparsed(default))
    if a.kwarg:
        yield FunctionParameter(name=a.kwarg.arg, kind=KWARGS)


def _unparsed(default: ast.expr | None) -> str | None:
    return None if default is None else ast.unparse(default)
