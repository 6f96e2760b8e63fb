"""Signatures as text: their parameters, and what differs between two of them. Pure.

The text is what `inspect.signature` gives, written on one line. Much of it is no Python: a
default reads `<factory>`, a type variable `~T`. So it is taken apart by brackets and quotes.
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
    ARGS: {"as one of many by position"},
    KWARGS: {"as one of many by keyword"},
}
"""By kind: how an argument is given."""

MOST_BY_POSITION = 8
"""No caller gives more arguments than these by position: what moves behind them breaks nobody."""

_CLOSING = {"(": ")", "[": "]", "{": "}", "<": ">"}
_TOKEN = re.compile(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|->|[^'"()\[\]{}<>,=-]+|.""", re.DOTALL)
"""A quoted text, an arrow, a run of what means nothing here, or one character."""
_NAMED = re.compile(r"(\*{0,2})([^\W\d]\w*)\s*([:=].*)?", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One parameter. `default` and `annotation` are texts; None where it has none."""

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
    """Parameters in their order, and the text after the arrow."""

    parameters: tuple[Parameter, ...]
    returns: str | None

    @functools.cached_property
    def by_name(self) -> dict[str, Parameter]:
        return {p.name: p for p in self.parameters}

    @functools.cached_property
    def positional(self) -> list[str]:
        """Names of what can be given by position, without the object or class itself."""
        names = [p.name for p in self.parameters if p.kind in (POSITIONAL, PLAIN)]
        return names[1:] if names[:1] in (["self"], ["cls"]) else names

    @property
    def takes(self) -> set[str]:
        """The open-ended kinds that it has."""
        return {p.kind for p in self.parameters} & {ARGS, KWARGS}

    @property
    def opaque(self) -> bool:
        """Whether it is `(*args, **kwargs)`, which does not say what is taken."""
        rest = [p for p in self.parameters if p.name not in ("self", "cls")]
        return len(rest) == 2 and self.takes == {ARGS, KWARGS}


@dataclass(frozen=True, kw_only=True)
class InterfaceDifference:
    """One thing that differs. `breaking`: what was right with the former is refused by the
    latter, or bound otherwise; `minor`: no call and no default is touched."""

    kind: str
    name: str | None = None
    old: str | None = None
    new: str | None = None
    breaking: bool = False
    why: str = ""
    minor: bool = False


@functools.cache
def parse(text: str) -> Signature | None:
    """The signature that `text` writes; None where it is none, or cannot be taken apart."""
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
    """The places in `text` where something begins outside brackets and quotes.

    Raises:
        ValueError: a bracket or a quote is left open, or closed without being open.
    """
    waiting: list[str] = []
    for match in _TOKEN.finditer(text):
        token, place = match[0], match.start()
        if token in _CLOSING:
            waiting.append(_CLOSING[token])
        elif token in _CLOSING.values():
            if not waiting or waiting.pop() != token:
                raise ValueError(f"{token} at {place} closes nothing")
        elif token in ("'", '"'):
            break
        elif not waiting and token[0] not in "'\"":
            yield place
    else:
        if not waiting:
            return
    raise ValueError("a bracket or a quote is left open")


def _parameters(text: str) -> Iterator[Parameter]:
    """The parameters between the parentheses.

    Raises:
        ValueError: this is no list of parameters.
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
                raise ValueError(f"{parameter.name} stands there twice")
            names.add(parameter.name)
            yield parameter


def _parameter(piece: str, kind: str) -> Parameter:
    """`name: annotation = default`, with stars before it where it is open-ended."""
    match = _NAMED.fullmatch(piece)
    if match is None:
        raise ValueError(f"{piece!r} is no parameter")
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
    """What differs between two texts of a function; empty where they say the same."""
    if old == new:
        return ()
    before, after = parse(old), parse(new)
    if before is None or after is None:
        return (_as_text(old, new, before, after),)
    if before.opaque != after.opaque:
        kind = "signature hidden" if after.opaque else "signature shown"
        why = "(*args, **kwargs) does not say what is taken"
        return (InterfaceDifference(kind=kind, old=old, new=new, why=why),)
    return (*_removed(before, after), *_added(before, after), *_changed(before, after),
            *_order(before, after), *_annotations(before, after))  # fmt: skip


def _as_text(
    old: str, new: str, before: Signature | None, after: Signature | None
) -> InterfaceDifference:
    """Two texts of which one is no signature that can be read."""
    calls = [text.startswith("(") for text in (old, new)]
    tells_nothing = (before is None or before.opaque) and not all(calls)
    return InterfaceDifference(
        kind="text changed",
        old=old,
        new=new,
        breaking=not tells_nothing,
        why="has no signature to compare" if tells_nothing else "not known: it cannot be read",
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
            # What it was given lands in the place of a parameter that came after it.
            behind = places[places.index(p.name) + 1 :]
            lost += ["by position"] if set(behind) & set(after.positional) else []
        why = "no longer taken" if lost else "still taken, as one of many"
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
    """Changes of kind and default of the parameters that both have."""
    for p in before.parameters:
        q = after.by_name.get(p.name)
        if q is None:
            continue
        if p.kind != q.kind:
            lost = ", ".join(sorted(WAYS[p.kind] - WAYS[q.kind]))
            yield InterfaceDifference(
                kind="kind changed", name=p.name, old=p.kind, new=q.kind, breaking=bool(lost),
                why=f"no longer taken {lost}" if lost else "",
            )  # fmt: skip
        if not _same(p.default, q.default):
            required = q.default is None and q.kind not in (ARGS, KWARGS)
            kind = "removed" if q.default is None else "added" if p.default is None else "changed"
            why = "required" if required else ""
            yield InterfaceDifference(
                kind=f"default {kind}", name=p.name, old=p.default, new=q.default,
                breaking=required,
                why="calls that leave it out get the new one" if kind == "changed" else why,
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
    """One difference where arguments given by position land elsewhere."""
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
    """An annotation in one spelling, without the modules of its names; as it is where it is no
    expression. Releases of Python, and imports from the future, spell the same type differently
    (`Optional[x.A]`, `Union[A, None]`, `A | None`); that is no change of an interface."""
    if text is None:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd escapes in foreign text
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
    """`Union[…]` of all parts, those of unions among them, each once and sorted."""
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
