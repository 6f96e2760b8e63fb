"""Lets Transformer Engine load the stand-in in the way that it loads its extension: as a shared
object.

TE looks for a file `transformer_engine_torch*.so` and passes its path to Python's loader of
compiled modules. This file is installed beside the stand-in and imported when Python starts. It
makes that loader read the stand-in's Python file instead, for this one name.
"""

from __future__ import annotations

import types
from importlib.machinery import ExtensionFileLoader, ModuleSpec, SourceFileLoader
from pathlib import Path

NAME = "transformer_engine_torch"
_SOURCE = str(Path(__file__).with_name(f"{NAME}.py"))
_CREATE, _EXECUTE = ExtensionFileLoader.create_module, ExtensionFileLoader.exec_module


def _create(self: ExtensionFileLoader, spec: ModuleSpec) -> types.ModuleType | None:
    return None if spec.name == NAME else _CREATE(self, spec)


def _execute(self: ExtensionFileLoader, module: types.ModuleType) -> None:
    if module.__name__ != NAME:
        return _EXECUTE(self, module)
    module.__file__ = _SOURCE
    SourceFileLoader(NAME, _SOURCE).exec_module(module)
    return None


def install() -> None:
    """Patch Python's loader; a second call changes nothing."""
    ExtensionFileLoader.create_module = _create  # type: ignore[assignment, method-assign]
    ExtensionFileLoader.exec_module = _execute  # type: ignore[method-assign]
