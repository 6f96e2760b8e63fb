"""Transformer Engine's linears: those in a model, and those that a ModelOpt release knows.

What a release claims is read from its source: a class that it registers only where an import
succeeds is claimed all the same, so that a silent failure of that import is not taken for a
release without the feature.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import Any

PLUGINS = "modelopt.torch.quantization.plugins"
MEGATRON = f"{PLUGINS}.megatron"
TE = f"{PLUGINS}.transformer_engine"

LINEARS = ("Linear", "LayerNormLinear", "GroupedLinear", "LayerNormMLP")
"""TE's own, of which Megatron's are derived."""

TE_PACKAGE = "transformer_engine."


def registered_in(source: str) -> frozenset[str]:
    """The names, without what is before the last dot, of the classes that a module's text
    registers: the keys of the dicts given to a function `register`."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or getattr(node.func, "attr", "") != "register":
            continue
        for given in node.args:
            keys = given.keys if isinstance(given, ast.Dict) else []
            found |= {name for key in keys if (name := _last(key))}
    return frozenset(found)


def _last(node: ast.expr | None) -> str | None:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else None


@functools.cache
def claimed(plugin: str) -> frozenset[str]:
    """The classes that the release's `plugin` registers; none where it has no such plugin."""
    top, *rest = plugin.split(".")
    spec = importlib.util.find_spec(top)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        file = Path(folder, *rest).with_suffix(".py")
        if file.is_file():
            return registered_in(file.read_text(encoding="utf-8"))
    return frozenset()


def base_of(kind: type[Any]) -> type[Any] | None:
    """The linear of TE itself that a class is, or is derived from; None: it is no such."""
    for one in kind.__mro__:
        if one.__module__.startswith(TE_PACKAGE) and one.__name__ in LINEARS:
            return one
    return None


def linears(model: Any) -> dict[str, type[Any]]:
    """The classes of TE's linears in a model, by name of the module."""
    found = {name: type(module) for name, module in model.named_modules()}
    return {name: kind for name, kind in found.items() if base_of(kind) is not None}


def lacking(kinds: Iterable[type[Any]], registry: Any) -> list[str]:
    """The names of the classes that ModelOpt cannot quantize, though it may take part of them."""
    return sorted({kind.__name__ for kind in kinds if kind not in registry})
