"""Extracts the interface of a release from its sources with griffe; the code is never run.

Only `refresh` uses it: griffe is in the extra `refresh`.
"""

from __future__ import annotations

import ast
import contextlib
import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mcore_compat.api import definitions, packages
from mcore_compat.api.definitions import Names
from mcore_compat.base.errors import UsageError

TRANSPARENT = {
    # of Python
    "abstractmethod", "cache", "classmethod", "contextmanager", "deprecated", "final",
    "lru_cache", "override", "overload", "runtime_checkable", "staticmethod", "wraps",
    # of torch
    "allow_in_graph", "assume_constant_result", "compile", "custom_bwd", "custom_fwd", "disable",
    "enable_grad", "inference_mode", "no_grad", "once_differentiable", "script",
    # of the packages: each passes its arguments on unchanged
    "_disable_gc", "_requires_init", "atomic_print", "debug_time", "dynamo_disable",
    "dynamo_skip", "experimental_api", "experimental_cls", "experimental_fn", "internal_api",
    "jit_fuser", "no_modelopt_patches", "no_torch_dynamo", "nvtx_decorator",
    "overlap_state_check", "timed", "timeit", "trace_async_exceptions",
}  # fmt: skip
"""Decorators that do not change a signature. Calls of functions with others are not judged."""

PLAIN_BASES = frozenset({"object", "abc.ABC", "enum.Enum", "typing.Generic", "typing.Protocol"})
"""Bases that add nothing to the constructor of a data class."""

_NAMES_AT_RUN_TIME = re.compile(
    r"globals\(\)\s*(\[[^]]*\]\s*=[^=]|\.update)|setattr\(\s*sys\.modules"
)
"""Source text of modules that create names at run time."""


def available() -> bool:
    """Whether griffe is installed."""
    import importlib.util

    return importlib.util.find_spec("griffe") is not None


def extract(folder: Path, root: str) -> dict[str, Names]:
    """The interface of the module `root` below a folder: definitions by module and name.

    Raises:
        UsageError: griffe is not installed.
        OSError, SyntaxError, ValueError: sources that cannot be read.
    """
    if not available():
        raise UsageError("griffe is not installed; pip install 'mcore-compat[refresh]'")
    import griffe

    logging.getLogger("griffe").setLevel(logging.CRITICAL)  # unresolved names stay open
    try:
        found = _extract(folder, root)
    except griffe.GriffeError as error:
        raise ValueError(f"griffe: {error}") from error
    for path in _compiled(folder, root):
        found.setdefault(path, {"": definitions.OPEN_MODULE})
    return found


def _extract(folder: Path, root: str) -> dict[str, Names]:
    import griffe

    every = _every_definition(folder)
    loader = griffe.GriffeLoader(
        search_paths=[folder],
        extensions=griffe.load_extensions(every),
        allow_inspection=False,
        store_source=False,
    )
    top = loader.load(root.partition(".")[0], try_relative_path=False)
    found: dict[str, Names] = {}
    for module in _modules(top):
        if module.path == root or module.path.startswith(f"{root}."):
            found[module.path] = _names(module, every.by_path)
            if module.path in every.open:
                found[module.path][""] = definitions.OPEN_MODULE
    return found


def _every_definition(folder: Path) -> Any:
    """A griffe extension that keeps all definitions of a name (griffe itself keeps only one of two
    branches), and the modules that import all names of a missing module (`open`)."""
    import griffe

    class EveryDefinition(griffe.Extension):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.by_path: dict[str, list[Any]] = {}
            self.open: set[str] = set()

        def on_instance(self, *, node: Any, obj: Any, agent: Any, **kwargs: Any) -> None:
            # A method's assignments to `self` are not names of the class.
            if not obj.is_module and not agent.current.is_function:
                self.by_path.setdefault(obj.path, []).append(obj)

        def on_alias_instance(self, *, node: Any, alias: Any, agent: Any, **kwargs: Any) -> None:
            self.by_path.setdefault(alias.path, []).append(alias)

        def on_module_members(self, *, node: Any, mod: Any, agent: Any, **kwargs: Any) -> None:
            for name, member in list(mod.members.items()):
                if member.is_alias and member.wildcard:
                    source = folder.joinpath(*member.target_path.split("."))
                    if not source.is_dir() and not source.with_suffix(".py").is_file():
                        self.open.add(mod.path)
                        mod.del_member(name)

    return EveryDefinition()


def _modules(module: Any) -> Iterator[Any]:
    yield module
    for member in list(module.members.values()):
        if not member.is_alias and member.is_module:
            yield from _modules(member)


def _compiled(folder: Path, root: str) -> Iterator[str]:
    """Modules without sources."""
    for file in folder.joinpath(*root.split(".")).rglob("*.so"):
        inside = file.relative_to(folder)
        yield ".".join((*inside.parent.parts, inside.name.partition(".")[0]))


def _names(module: Any, every: Mapping[str, list[Any]]) -> Names:
    names: Names = {"": definitions.MODULE}
    for name, member in module.members.items():
        if name == "__getattr__" or (member.is_alias and member.wildcard):
            names[""] = definitions.OPEN_MODULE
        elif member.is_alias or not member.is_module:
            _add(names, name, member, every)
    if names[""] == definitions.MODULE and _names_at_run_time(module):
        names[""] = definitions.OPEN_MODULE
    return names


def _names_at_run_time(module: Any) -> bool:
    text = module.filepath.read_text(encoding="utf-8", errors="replace")
    own = rf"sys\.modules\[(__name__|[\"']{re.escape(module.path)}[\"'])\]\s*="
    return bool(_NAMES_AT_RUN_TIME.search(text) or re.search(own, text))


def _add(names: Names, name: str, member: Any, every: Mapping[str, list[Any]]) -> None:
    """Add a member of a module or a class, and those of a class below it."""
    kept = every.get(member.path, []) if not _is_property(member) else []
    alternatives = [_text(each) for each in (*kept, member)]
    # `X = None` beside a definition of X is the fallback if that is not available.
    real = [text for text in alternatives if text != definitions.VALUE] or alternatives[-1:]
    names[name] = definitions.either(real)
    for each in (*kept, member):
        if each.is_alias or not each.is_class:
            continue
        for below, inner in each.members.items():
            if inner.is_alias or not inner.is_attribute or inner.path in every:
                _add(names, f"{name}.{below}", inner, every)


def _is_property(member: Any) -> bool:
    return bool(not member.is_alias and member.is_attribute and "property" in member.labels)


def _text(member: Any) -> str:
    """The index's text of a definition."""
    if member.is_alias:
        return _another_name(member.target_path)
    if member.is_function:
        return _function(member)
    if member.is_class:
        bases = [_path_of(base) for base in member.bases]
        return definitions.class_(bases, opaque="metaclass" in member.keywords)
    if member.is_attribute and "property" in member.labels:
        return definitions.PROPERTY
    return _value(member)


def _value(member: Any) -> str:
    """An attribute: another name for something, or a value."""
    import griffe

    if member.is_attribute and isinstance(member.value, griffe.ExprName | griffe.ExprAttribute):
        path = _path_of(member.value)
        if path != "?" and "." in path:
            return _another_name(path)
    return definitions.VALUE


def _another_name(path: str) -> str:
    return definitions.alias(path) if packages.owner(path) else definitions.FOREIGN


def _path_of(expression: Any) -> str:
    """The origin of a name, as far as its module shows; `?` for other expressions."""
    import griffe

    while isinstance(expression, griffe.ExprSubscript):  # Generic[T]
        expression = expression.left
    if not isinstance(expression, griffe.ExprName | griffe.ExprAttribute):
        return "?"
    path = str(expression.canonical_path)
    return path if re.fullmatch(r"\w+(\.\w+)*", path) else "?"


def _function(function: Any) -> str:
    decorators = {str(d.callable_path).rpartition(".")[2] for d in function.decorators}
    opaque = bool(decorators - TRANSPARENT)
    kind = next((k for k in ("staticmethod", "classmethod") if k in function.labels), "def")
    synthetic = function.name == "__init__" and not function.lineno
    if synthetic and function.parent.is_class:
        opaque = opaque or not _bases_known(function.parent)
    if not synthetic and function.name == "__init__" and function.parent.is_class:
        opaque = opaque or "metaclass" in function.parent.keywords
    return definitions.function(kind, _parameters(function), opaque=opaque)


def _bases_known(cls: Any) -> bool:
    """Whether the fields of every base of a data class are known."""
    try:
        known = {base.path for base in cls.resolved_bases}
    except (AttributeError, KeyError, ValueError):
        return False
    return all(
        _path_of(base) in PLAIN_BASES or _path_of(base) in known for base in cls.bases
    ) or len(known) == len(cls.bases)


def _parameters(function: Any) -> list[definitions.FunctionParameter]:
    return [
        definitions.FunctionParameter(
            name=p.name.lstrip("*"),
            kind=definitions.KINDS[p.kind.value],
            default=None
            if p.default is None or p.kind.value.startswith("variadic")
            else _default(p.default),
        )
        for p in function.parameters
    ]


def _default(expression: Any) -> str:
    text = str(expression)
    with contextlib.suppress(SyntaxError, ValueError, RecursionError):  # else as it stands
        text = ast.unparse(ast.parse(text, mode="eval"))
    return definitions.short(text)
