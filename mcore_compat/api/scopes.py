"""Which names of a scope are imports, and of what: source text as `ast`, nothing is run. Pure."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from mcore_compat.api.resolution import Target

Scoped = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)

Imported = Callable[[ast.ImportFrom, str], tuple[Target, ...]]
"""What `from … import name` gives: nothing where it is none of the packages'."""


@dataclass
class Scope:
    """The names that a scope binds: `imports`, by what they may be; `others`, whatever else."""

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
    body = [node.body] if isinstance(node, ast.Lambda) else node.body
    for statement in body:
        _bind(statement, scope, imported, fallback=False)
    return scope


def _bind(node: ast.AST, scope: Scope, imported: Imported, *, fallback: bool) -> None:
    """Add what a node binds; `fallback`: where an import failed, a value stands in."""
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
        return  # a name that is nothing yet, or nothing here
    elif isinstance(node, (*FUNCTIONS, ast.ClassDef)):
        if not fallback:
            scope.others.add(node.name)
        for outside in _outside(node):
            _bind(outside, scope, imported, fallback=fallback)
    elif isinstance(node, ast.Lambda | ast.Global | ast.Nonlocal):
        if not isinstance(node, ast.Lambda):
            scope.others |= set(node.names)
    else:
        _bind_below(node, scope, imported, fallback=fallback)


def _bind_below(node: ast.AST, scope: Scope, imported: Imported, *, fallback: bool) -> None:
    name = _bound_name(node)
    if name and not fallback:
        scope.others.add(name)
    for child in ast.iter_child_nodes(node):
        # A comprehension's variables are its own.
        if isinstance(node, ast.comprehension) and child is node.target:
            continue
        stands_in = fallback or isinstance(child, ast.ExceptHandler)
        _bind(child, scope, imported, fallback=stands_in)


def _is_none(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value is None


def _bound_name(node: ast.AST) -> str | None:
    if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
        return node.id
    if isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar):
        return node.name
    return node.rest if isinstance(node, ast.MatchMapping) else None


def _outside(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> Iterator[ast.AST]:
    """What of a definition is in the scope around it."""
    yield from node.decorator_list
    if isinstance(node, ast.ClassDef):
        yield from node.bases
        yield from node.keywords
    else:
        yield from node.args.defaults
        yield from (default for default in node.args.kw_defaults if default is not None)


def _bind_import(node: ast.Import, scope: Scope) -> None:
    for alias in node.names:
        if alias.asname:
            scope.imports.setdefault(alias.asname, []).append(Target(module=alias.name))
        else:
            top = alias.name.partition(".")[0]
            scope.imports.setdefault(top, []).append(Target(module=top))


def lookup(scopes: Iterable[Scope], name: str) -> tuple[Target, ...]:
    """What a name may be where it is used; `scopes`, the innermost first. Empty where it is none
    of an import, or may be something else, too."""
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
