"""Finds imports, attributes and calls of the packages in source text, without running it."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from mcore_compat.api import guards, packages, scopes
from mcore_compat.api.calls import CallShape
from mcore_compat.api.guards import Guard
from mcore_compat.api.resolution import Target
from mcore_compat.api.scopes import Scope

IMPORT, ATTRIBUTE, CALL, PATCH = "import", "attribute", "call", "patch"

Origin = Callable[[ast.ImportFrom, str], tuple[Target, ...]]


@dataclass(frozen=True, kw_only=True)
class Use:
    """One use of a package in code. `targets`: what it may refer to, of which one must fit;
    `attempt`: the `try` that contains the import; `instead_of`: the `try` after whose failure it
    runs."""

    line: int
    column: int
    kind: str
    targets: tuple[Target, ...]
    guard: Guard = guards.NONE
    call: CallShape | None = None
    bound: bool = False
    attempt: int = 0
    instead_of: int = 0


def normal(target: Target) -> Target | None:
    """A target as a name of a package, below its root module if necessary; None if it does not
    belong to one."""
    if packages.owner(target.module):
        return target
    package = packages.owner(str(target))
    if package is None:
        return None
    names = str(target)[len(package.root) + 1 :]
    return Target(module=package.root, names=tuple(names.split(".")) if names else ())


def leads_to_one(path: str) -> bool:
    """Whether a module is a parent of a package's root: `megatron`."""
    return any(p.root.startswith(f"{path}.") for p in packages.PACKAGES)


def uses(module: ast.Module, origin: Origin) -> list[Use]:
    """All uses in a module; `origin` resolves its `from … import`."""
    reader = _Reader(module, origin)
    reader.block(module.body)
    return reader.found


class _Reader(ast.NodeVisitor):
    def __init__(self, module: ast.Module, origin: Origin) -> None:
        self.found: list[Use] = []
        self._origin = origin
        self._scopes: list[Scope] = [scopes.scope_of(module, origin)]
        self._bases: list[tuple[Target, ...]] = []
        self._flags = guards.flags_of(module, self._normal_targets)
        self._within = guards.NONE
        self._attempts = itertools.count(1)
        self._attempt = self._instead_of = 0
        self._lazy_annotations = any(
            isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in module.body
        )

    # What is found.

    def _add(
        self,
        node: ast.expr | ast.stmt | ast.alias,
        kind: str,
        targets: Sequence[Target],
        **more: object,
    ) -> None:
        own = tuple(t for t in map(normal, targets) if t is not None)
        if own and len(own) == len(targets):
            self.found.append(
                Use(
                    line=node.lineno,
                    column=node.col_offset + 1,
                    kind=kind,
                    targets=own,
                    guard=self._within,
                    **more,  # type: ignore[arg-type]
                )
            )

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            if packages.owner(alias.name):
                self._import(alias, Target(module=alias.name))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.level or not node.module:
            return  # of the code itself
        module = Target(module=node.module)
        if normal(module):
            self._import(node, module)
        for alias in node.names:
            target = module.below(alias.name)
            if alias.name != "*" and normal(target):
                self._import(alias, target)

    def _import(self, node: ast.stmt | ast.alias, target: Target) -> None:
        own = {"attempt": self._attempt, "instead_of": self._instead_of}
        self._add(node, IMPORT, [target], **own)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        targets = self._targets(node)
        if targets:
            kind = ATTRIBUTE if isinstance(node.ctx, ast.Load) else PATCH
            self._add(node, kind, targets)
        elif not isinstance(node.value, ast.Name):
            self.visit(node.value)

    def visit_Call(self, node: ast.Call) -> None:
        function, arguments = node.func, node.args
        if isinstance(function, ast.Attribute) and _is_super(function.value):
            base = self._bases[-1] if self._bases else ()
            targets = [target.below(function.attr) for target in base]
            self._add(node, CALL, targets, call=_shape(node, arguments), bound=True)
        elif targets_of_it := self._targets(function):
            self._add(node, CALL, targets_of_it, call=_shape(node, arguments))
        elif _is_partial(function) and arguments and (targets_of_it := self._targets(arguments[0])):
            shape = _shape(node, arguments[1:], partial=True)
            self._add(node, CALL, targets_of_it, call=shape)
        self.generic_visit(node)

    def _targets(self, node: ast.expr) -> tuple[Target, ...]:
        """The possible targets of a name or attribute."""
        names: list[str] = []
        while isinstance(node, ast.Attribute):
            names.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return ()
        known = scopes.lookup(reversed(self._scopes), node.id)
        return tuple(target.below(*reversed(names)) for target in known)

    # Where it is.

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._visit_all([*node.decorator_list, *node.bases, *node.keywords])
        of_base = self._targets(node.bases[0]) if len(node.bases) == 1 else ()
        self._bases.append(of_base)
        with self._scope(scopes.scope_of(node, self._origin)), self._guarded(self._of(node)):
            self.block(node.body)
        self._bases.pop()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._function(node)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        a = node.args
        self._visit_all([*node.decorator_list, *a.defaults, *filter(None, a.kw_defaults)])
        every = [*a.posonlyargs, *a.args, *a.kwonlyargs, *filter(None, (a.vararg, a.kwarg))]
        for annotation in [*(arg.annotation for arg in every), node.returns]:
            self._annotation(annotation)
        with self._scope(scopes.scope_of(node, self._origin)), self._guarded(self._of(node)):
            self.block(node.body)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self._annotation(node.annotation)
        self._visit_all([node.target, *filter(None, [node.value])])

    def _annotation(self, node: ast.expr | None) -> None:
        if node is not None and not self._lazy_annotations:
            self.visit(node)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._visit_all([*node.args.defaults, *filter(None, node.args.kw_defaults)])
        with self._scope(scopes.scope_of(node, self._origin)):
            self.visit(node.body)

    def _comprehension(
        self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp
    ) -> None:
        own = Scope()
        for part in node.generators:
            own.others |= {n.id for n in ast.walk(part.target) if isinstance(n, ast.Name)}
        with self._scope(own):
            self.generic_visit(node)

    def visit_ListComp(self, node: ast.ListComp) -> None:
        self._comprehension(node)

    def visit_SetComp(self, node: ast.SetComp) -> None:
        self._comprehension(node)

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> None:
        self._comprehension(node)

    def visit_DictComp(self, node: ast.DictComp) -> None:
        self._comprehension(node)

    @contextmanager
    def _scope(self, scope: Scope) -> Iterator[None]:
        self._scopes.append(scope)
        yield
        self._scopes.pop()

    # What guards it.

    def _of(self, node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> Guard:
        """The guard of decorators such as `skipif`."""
        every = [self._test(d) for d in node.decorator_list if isinstance(d, ast.Call)]
        labels = frozenset().union(*(g.labels for g in every)) if every else frozenset()
        return Guard(labels=labels)

    def _test(self, test: ast.expr) -> Guard:
        return guards.of_test(test, self._flags, self._normal_targets)

    def _normal_targets(self, node: ast.expr) -> tuple[Target, ...]:
        return tuple(t for t in map(normal, self._targets(node)) if t is not None)

    @contextmanager
    def _guarded(self, guard: Guard) -> Iterator[None]:
        before = self._within
        self._within = before | guard if guard else before
        yield
        self._within = before

    def _visit_all(self, nodes: Sequence[ast.AST]) -> None:
        for node in nodes:
            self.visit(node)

    def block(self, statements: Sequence[ast.stmt]) -> None:
        """Visit statements; `if not hasattr(…): return` guards those after it."""
        before = self._within
        for statement in statements:
            self.visit(statement)
            if isinstance(statement, ast.If) and guards.ends(statement.body):
                self._within |= self._test(statement.test).otherwise
        self._within = before

    def visit_If(self, node: ast.If) -> None:
        self.visit(node.test)
        guard = self._test(node.test)
        with self._guarded(guard):
            self.block(node.body)
        with self._guarded(guard.otherwise):
            self.block(node.orelse)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        guard = self._test(node.test)
        with self._guarded(guard):
            self._visit_all([node.test, node.body])
        with self._guarded(guard.otherwise):
            self.visit(node.orelse)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        with self._guarded(self._test(node.values[0])):
            self.generic_visit(node)

    def visit_With(self, node: ast.With) -> None:
        self._visit_all(node.items)
        guard = guards.NONE
        for item in node.items:
            guard |= guards.of_suppressed(item.context_expr)
        with self._guarded(guard):
            self.block(node.body)

    def visit_Try(self, node: ast.Try) -> None:
        self._try(node)

    def _try(self, node: ast.Try | ast.TryStar) -> None:
        guard = guards.of_handlers(node.handlers)
        before = self._attempt, self._instead_of
        attempt = next(self._attempts) if guards.TRY_IMPORT in guard.labels else 0
        self._attempt = attempt or self._attempt
        with self._guarded(guard):
            self.block(node.body)
        self._attempt = before[0]
        for handler in node.handlers:
            if handler.type is not None:
                self.visit(handler.type)
            self._instead_of = attempt or before[1]
            self.block(handler.body)
            self._instead_of = before[1]
        self.block(node.orelse)
        self.block(node.finalbody)

    def visit_TryStar(self, node: ast.TryStar) -> None:
        self._try(node)


def _is_super(node: ast.expr) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "super"
        and not node.args
    )


def _is_partial(node: ast.expr) -> bool:
    name = (
        node.id
        if isinstance(node, ast.Name)
        else node.attr
        if isinstance(node, ast.Attribute)
        else ""
    )
    return name == "partial"


def _shape(node: ast.Call, arguments: Sequence[ast.expr], *, partial: bool = False) -> CallShape:
    stars = [isinstance(a, ast.Starred) for a in arguments]
    return CallShape(
        positional=len(arguments) - sum(stars),
        keywords=tuple(k.arg for k in node.keywords if k.arg is not None),
        more=any(stars),
        more_keywords=any(k.arg is None for k in node.keywords),
        partial=partial,
    )
