"""Annotations as text, one spelling for each: `Optional[x.A]`, `Union[A, None]`, `A | None`. Pure.

Releases of Python, and imports from the future, spell the same type differently; that is no change
of an interface.
"""

from __future__ import annotations

import ast
import functools
import warnings

_BUILTIN = {"Dict", "FrozenSet", "List", "Set", "Tuple", "Type"}


@functools.cache
def canonical(text: str | None) -> str | None:
    """The annotation in one spelling, without the modules of its names; as it is where it is no
    expression."""
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
        for one in part.slice.elts if nested else [part]:  # type: ignore[attr-defined]
            flat[ast.unparse(one)] = one
    elements = [flat[text] for text in sorted(flat)]
    return ast.Subscript(ast.Name("Union"), ast.Tuple(elements))
