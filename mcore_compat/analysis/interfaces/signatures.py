"""Parse signatures from text and compare them. Pure.

The text is `inspect.signature`'s, on one line. Parts of it are not valid Python (a default
`<factory>`, a type variable `~T`), so it is split at brackets and quotes.
"""

from __future__ import annotations

import ast
import functools
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

POSITIONAL, PLAIN, KEYWORD = "positional-only", "positional or keyword", "keyword-only"
ARGS, KWARGS = "*args", "**kwargs"

WAYS = {
    POSITIONAL: {"by position"},
    PLAIN: {"by position", "by keyword"},
    KEYWORD: {"by keyword"},
    ARGS: {"as *args"},
    KWARGS: {"as **kwargs"},
}
"""By kind: the ways to pass an argument."""

MOST_BY_POSITION = 8
"""Callers pass at most this many arguments by position; a later parameter can move without harm."""

_CLOSING = {"(": ")", "[": "]", "{": "}", "<": ">"}
_TOKEN = re.compile(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|->|[^'"()\[\]{}<>,=-]+|.""", re.DOTALL)
"""A quoted text, an arrow, a run of other characters without a meaning here, or one character."""
_NAMED = re.compile(r"(\*{0,2})([^\W\d]\w*)\s*([:=].*)?", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One parameter. `default` and `annotation` are texts, or None."""

    name: str
    kind: str
    default: str | None
    annotation: str | None

    @property
    def shown(self) -> str:
        """The name, with its stars."""
        return {ARGS: "*", KWARGS: "**"}.get(self.kind, "") + self.name


@dataclass(frozen=True, kw_only=True)
class Signature:
    """The parameters in order, and the text after the arrow."""

    parameters: tuple[Parameter, ...]
    returns: str | None

    @functools.cached_property
    def by_name(self) -> dict[str, Parameter]:
        return {p.name: p for p in self.parameters}

    @functools.cached_property
    def positional(self) -> list[str]:
        """The names of parameters that can be passed by position, without `self` and `cls`."""
        names = [p.name for p in self.parameters if p.kind in (POSITIONAL, PLAIN)]
        return names[1:] if names[:1] in (["self"], ["cls"]) else names

    @property
    def takes(self) -> set[str]:
        """Which of `*args` and `**kwargs` it has."""
        return {p.kind for p in self.parameters} & {ARGS, KWARGS}

    @property
    def opaque(self) -> bool:
        """Whether it is `(*args, **kwargs)`, which hides the accepted arguments."""
        rest = [p for p in self.parameters if p.name not in ("self", "cls")]
        return len(rest) == 2 and self.takes == {ARGS, KWARGS}


@dataclass(frozen=True, kw_only=True)
class InterfaceDifference:
    """One difference. `breaking`: the newer release refuses a call that the older one accepts, or
    binds its arguments differently; `minor`: it concerns no call and no default."""

    kind: str
    name: str | None = None
    old: str | None = None
    new: str | None = None
    breaking: bool = False
    why: str = ""
    minor: bool = False


@functools.cache
def parse(text: str) -> Signature | None:
    """Parse a signature; None if `text` is not one or cannot be split."""
    try:
        if not text.startswith("("):
            return None
        end = next(_outside(text), len(text))
        arrow, returns = text[end:].strip()[:2], text[end:].strip()[2:].strip()
        if arrow not in ("", "->") or (arrow and not returns):
            return None
        return Signature(parameters=tuple(_parameters(text[1 : end - 1])), returns=returns or None)
    except ValueError:
        return None


def _outside(text: str) -> Iterator[int]:
    """Yield the places of tokens in `text` outside of brackets and quotes.

    Raises:
        ValueError: a bracket or a quote is not closed, or a bracket is closed without being open.
    """
    waiting: list[str] = []
    for match in _TOKEN.finditer(text):
        token, place = match[0], match.start()
        if token in _CLOSING:
            waiting.append(_CLOSING[token])
        elif token in _CLOSING.values():
            if not waiting or waiting.pop() != token:
                raise ValueError(f"{token} at {place} has no opening bracket")
        elif token in ("'", '"'):
            break
        elif not waiting and token[0] not in "'\"":
            yield place
    else:
        if not waiting:
            return
    raise ValueError("a bracket or a quote is not closed")


def _parameters(text: str) -> Iterator[Parameter]:
    """Yield the parameters between the parentheses.

    Raises:
        ValueError: the text is not a list of parameters.
    """
    if not text.strip():
        return
    commas = [place for place in _outside(text) if text[place] == ","]
    pieces = [
        text[start:end].strip()
        for start, end in zip([0, *(c + 1 for c in commas)], [*commas, len(text)], strict=True)
    ]
    names: set[str] = set()
    kind = POSITIONAL if "/" in pieces else PLAIN
    for piece in pieces:
        if piece == "/":
            kind = PLAIN
        elif piece == "*":
            kind = KEYWORD
        else:
            parameter = _parameter(piece, kind)
            kind = KEYWORD if parameter.kind == ARGS else kind
            if parameter.name in names:
                raise ValueError(f"two parameters {parameter.name}")
            names.add(parameter.name)
            yield parameter


def _parameter(piece: str, kind: str) -> Parameter:
    """Parse `name: annotation = default`, possibly with stars before it."""
    match = _NAMED.fullmatch(piece)
    if match is None:
        raise ValueError(f"invalid parameter {piece!r}")
    stars, name, rest = match[1], match[2], match[3] or ""
    equals = next((place for place in _outside(rest) if rest[place] == "="), len(rest))
    return Parameter(
        name=name,
        kind={"*": ARGS, "**": KWARGS}.get(stars, kind),
        default=rest[equals + 1 :].strip() if equals < len(rest) else None,
        annotation=rest[1:equals].strip() or None,
    )


@functools.cache
def compare(old: str, new: str) -> tuple[InterfaceDifference, ...]:
    """Return the differences between two signatures of a function; empty if they mean the same."""
    if old == new:
        return ()
    before, after = parse(old), parse(new)
    if before is None or after is None:
        return (_as_text(old, new, before, after),)
    if before.opaque != after.opaque:
        kind = "signature hidden" if after.opaque else "signature shown"
        why = "(*args, **kwargs) hides the accepted arguments"
        return (InterfaceDifference(kind=kind, old=old, new=new, why=why),)
    return (*_removed(before, after), *_added(before, after), *_changed(before, after),
            *_order(before, after), *_annotations(before, after))  # fmt: skip


def _as_text(
    old: str, new: str, before: Signature | None, after: Signature | None
) -> InterfaceDifference:
    """Return the difference of two texts of which at least one cannot be parsed."""
    calls = [text.startswith("(") for text in (old, new)]
    tells_nothing = (before is None or before.opaque) and not all(calls)
    return InterfaceDifference(
        kind="text changed",
        old=old,
        new=new,
        breaking=not tells_nothing,
        why="has no signature to compare" if tells_nothing else "not known: it cannot be parsed",
        minor=tells_nothing,
    )


def _removed(before: Signature, after: Signature) -> Iterator[InterfaceDifference]:
    for p in before.parameters:
        if p.name in after.by_name:
            continue
        needed = {"by position": ARGS, "by keyword": KWARGS}
        lost = [way for way in sorted(WAYS[p.kind]) if needed.get(way) not in after.takes]
        places = before.positional
        if p.name in places and "by position" not in lost:
            # Its argument is bound to a parameter that came after it.
            behind = places[places.index(p.name) + 1 :]
            lost += ["by position"] if set(behind) & set(after.positional) else []
        why = "no longer accepted" if lost else "still accepted, by *args or **kwargs"
        if 0 < len(lost) < len(WAYS[p.kind]):
            why += f" {lost[0]}"
        yield InterfaceDifference(
            kind="parameter removed", name=p.shown, old=p.default, breaking=bool(lost), why=why
        )


def _added(before: Signature, after: Signature) -> Iterator[InterfaceDifference]:
    for p in after.parameters:
        if p.name not in before.by_name:
            required = p.default is None and p.kind not in (ARGS, KWARGS)
            why = "required" if required else ""
            yield InterfaceDifference(
                kind="parameter added", name=p.shown, new=p.default, breaking=required, why=why
            )


def _changed(before: Signature, after: Signature) -> Iterator[InterfaceDifference]:
    """Yield changes of kind and default, for parameters that both have."""
    for p in before.parameters:
        q = after.by_name.get(p.name)
        if q is None:
            continue
        if p.kind != q.kind:
            lost = ", ".join(sorted(WAYS[p.kind] - WAYS[q.kind]))
            yield InterfaceDifference(
                kind="kind changed", name=p.name, old=p.kind, new=q.kind, breaking=bool(lost),
                why=f"no longer accepted {lost}" if lost else "",
            )  # fmt: skip
        if not _same(p.default, q.default):
            required = q.default is None and q.kind not in (ARGS, KWARGS)
            kind = "removed" if q.default is None else "added" if p.default is None else "changed"
            why = "required" if required else ""
            yield InterfaceDifference(
                kind=f"default {kind}", name=p.name, old=p.default, new=q.default,
                breaking=required,
                why="calls without it get the new default" if kind == "changed" else why,
            )  # fmt: skip


def _same(old: str | None, new: str | None) -> bool:
    """Whether two defaults are the same, or the same number: `0` and `0.0`."""
    if old == new:
        return True
    try:
        return old is not None and new is not None and float(old) == float(new)
    except ValueError:
        return False


def _order(before: Signature, after: Signature) -> Iterator[InterfaceDifference]:
    """Yield one difference if arguments passed by position are bound to other parameters."""
    old, new = before.positional, after.positional
    kept = [name for name in old if name in new]
    moved = [i for i, name in enumerate(kept) if new[i] != name]
    if moved:
        name, beyond, now = kept[moved[0]], old.index(kept[moved[0]]), new[moved[0]]
    elif ARGS in before.takes and len(new) > len(kept):
        name, beyond, now = ARGS, len(old), new[len(kept)]
    else:
        return
    yield InterfaceDifference(
        kind="order changed",
        name=name,
        old=name,
        new=now,
        breaking=beyond < MOST_BY_POSITION,
        why=f"calls with more than {beyond} by position" if beyond else "any call by position",
    )


def _annotations(before: Signature, after: Signature) -> Iterator[InterfaceDifference]:
    pairs = [
        (p.name, p.annotation, after.by_name[p.name].annotation)
        for p in before.parameters
        if p.name in after.by_name
    ]
    for name, old, new in [*pairs, ("return", before.returns, after.returns)]:
        if canonical(old) != canonical(new):
            yield InterfaceDifference(
                kind="annotation changed", name=name, old=old, new=new, minor=True
            )


_BUILTIN = {"Dict", "FrozenSet", "List", "Set", "Tuple", "Type"}


@functools.cache
def canonical(text: str | None) -> str | None:
    """Return an annotation in one spelling, without modules of names; unchanged if it is not an
    expression. Releases of Python, and `from __future__ import annotations`, spell the same type
    differently (`Optional[x.A]`, `Union[A, None]`, `A | None`), which changes no interface."""
    if text is None:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in foreign text
            return ast.unparse(_Canonical().visit(ast.parse(text, mode="eval")))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return text


class _Canonical(ast.NodeTransformer):
    def visit_Name(self, node: ast.Name) -> ast.expr:
        return _named(node.id)

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        return _named(node.attr)

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if not isinstance(node.value, str):
            return node
        try:
            return self.visit(ast.parse(node.value, mode="eval").body)  # type: ignore[no-any-return]
        except (SyntaxError, ValueError):
            return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        self.generic_visit(node)
        name = node.value.id if isinstance(node.value, ast.Name) else ""
        inside = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if name == "Optional":
            return _union([*inside, ast.Constant(None)])
        return _union(inside) if name == "Union" else node

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        return _union([node.left, node.right]) if isinstance(node.op, ast.BitOr) else node


def _named(name: str) -> ast.expr:
    if name == "NoneType":
        return ast.Constant(None)
    return ast.Name(name.lower() if name in _BUILTIN else name)


def _union(parts: list[ast.expr]) -> ast.expr:
    """Return `Union[…]` of all parts, with nested unions flattened, each part once, sorted."""
    flat: dict[str, ast.expr] = {}
    for part in parts:
        nested = (
            isinstance(part, ast.Subscript)
            and isinstance(part.value, ast.Name)
            and part.value.id == "Union"
            and isinstance(part.slice, ast.Tuple)
        )
        for element in part.slice.elts if nested else [part]:  # type: ignore[attr-defined]
            flat[ast.unparse(element)] = element
    return ast.Subscript(ast.Name("Union"), ast.Tuple([flat[text] for text in sorted(flat)]))
