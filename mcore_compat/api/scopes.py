"""Finds the names of a scope that are imports, and their origin, in an `ast`. Pure."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from mcore_compat.api.resolution import Target

Scoped = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

_TARGETS = {"target", "targets", "optional_vars"}
"""The fields of statements that bind names."""

Imported = Callable[[ast.ImportFrom, str], tuple[Target, ...]]
"""Resolves `from … import name`; empty if it is not from the packages."""


@dataclass
class Scope:
    """The names that a scope binds: `imports` with their possible targets, and `others`."""

    of_class: bool = False
    imports: dict[str, list[Target]] = field(default_factory=dict)
    others: set[str] = field(default_factory=set)


def scope_of(node: Scoped, imported: Imported) -> Scope:
    """The scope of a module, class or function."""
    scope = Scope(of_class=isinstance(node, ast.ClassDef))
    if isinstance(node, (*FUNCTIONS, ast.Lambda)):
        a = node.args
        every = [*a.posonlyargs, *a.args, *a.kwonlyargs, a.vararg, a.kwarg]
        scope.others |= {arg.arg for arg in every if arg is not None}
    for statement in [] if isinstance(node, ast.Lambda) else node.body:
        _bind(statement, scope, imported, fallback=False)
    return scope


def _bind(node: ast.AST, scope: Scope, imported: Imported, *, fallback: bool) -> None:
    """Add the names that a node binds; `fallback`: in the handler of a failed import."""
    if isinstance(node, ast.Import):
        _bind_import(node, scope)
    elif isinstance(node, ast.ImportFrom):
        for alias in node.names:
            targets = imported(node, alias.name)
            name = alias.asname or alias.name
            if targets:
                scope.imports.setdefault(name, []).extend(targets)
            elif not fallback:
                scope.others.add(name)
    elif isinstance(node, ast.Assign) and _is_none(node.value):
        return  # a placeholder or fallback
    elif isinstance(node, (*FUNCTIONS, ast.ClassDef)):
        if not fallback:
            scope.others.add(node.name)
    elif isinstance(node, ast.Global | ast.Nonlocal):
        scope.others |= set(node.names)
    else:
        _bind_below(node, scope, imported, fallback=fallback)


def _bind_below(node: ast.AST, scope: Scope, imported: Imported, *, fallback: bool) -> None:
    name = _bound_name(node)
    if name and not fallback:
        scope.others.add(name)
    for what, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.expr):
                if not fallback:
                    scope.others |= _stored(child, whole=what in _TARGETS)
            elif isinstance(child, ast.AST):
                stands_in = fallback or isinstance(child, ast.ExceptHandler)
                _bind(child, scope, imported, fallback=stands_in)


def _stored(node: ast.expr, *, whole: bool) -> set[str]:
    """The names that an expression binds: as an assignment target (`whole`), or by `:=`."""
    if isinstance(node, ast.Constant) or (isinstance(node, ast.Name) and not whole):
        return set()
    found = set()
    for part in ast.walk(node):
        if isinstance(part, ast.NamedExpr):
            found.add(part.target.id)
        elif whole and isinstance(part, ast.Name) and not isinstance(part.ctx, ast.Load):
            found.add(part.id)
    return found


def _is_none(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value is None


def _bound_name(node: ast.AST) -> str | None:
    if isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar):
        return node.name
    return node.rest if isinstance(node, ast.MatchMapping) else None


def _bind_import(node: ast.Import, scope: Scope) -> None:
    for alias in node.names:
        if alias.asname:
            scope.imports.setdefault(alias.asname, []).append(Target(module=alias.name))
        else:
            top = alias.name.partition(".")[0]
            scope.imports.setdefault(top, []).append(Target(module=top))


def lookup(scopes: Iterable[Scope], name: str) -> tuple[Target, ...]:
    """The possible targets of a name; `scopes`: the innermost first. Empty if it is not an import,
    or may be something else."""
    innermost = True
    for scope in scopes:
        if scope.of_class and not innermost:
            continue
        innermost = False
        if name in scope.others:
            return ()
        if name in scope.imports:
            return tuple(dict.fromkeys(scope.imports[name]))
    return ()
