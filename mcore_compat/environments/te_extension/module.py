"""Stand-in for an extension module such as Transformer Engine's for torch: its names, no kernels.

This file is installed as `transformer_engine_torch.py`, beside the real core library and TE's
Python code. `NAMES` is filled in from the release's C++ sources (`bindings.Bindings` as plain
data). Every function raises when it is called, except those that TE calls while it is imported or
a model is built: they return the versions of the installed libraries.
"""

from __future__ import annotations

import ctypes
import enum
import importlib
import types
from collections.abc import Callable
from typing import Any, NoReturn

NAMES: dict[str, Any] = {}

STAND_IN = True
"""Marks the stand-in: the real extension has no such name."""


class KernelReached(RuntimeError):  # noqa: N818 (a statement about the stand-in, not an error)
    """A function of the extension was called: the rest needs a GPU."""


def _raising(name: str) -> Callable[..., NoReturn]:
    def function(*args: Any, **kwargs: Any) -> NoReturn:
        raise KernelReached(
            f"reached a kernel of {__name__}: {name}; a stand-in without any takes its place"
        )

    function.__name__ = function.__qualname__ = name.rpartition(".")[2]
    function.__module__ = __name__
    return function


class _Enum(enum.Enum):
    """An enum as pybind11 defines it: it has a number, and is equal to its own kind only."""

    def __int__(self) -> int:
        return int(self.value)

    __index__ = __int__

    def __hash__(self) -> int:
        return hash(self.value)


class _Integral(_Enum):
    """An enum whose members are equal to their numbers."""

    def __eq__(self, other: object) -> bool:
        return int(self) == (int(other) if isinstance(other, _Enum) else other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = _Enum.__hash__


def _class(name: str, said: dict[str, Any]) -> type:
    made = _raising(f"{name}()")

    def initialize(self: object, *args: Any, **kwargs: Any) -> None:
        if args or kwargs or not said["plain"]:
            made()

    body: dict[str, Any] = {method: _raising(f"{name}.{method}") for method in said["methods"]}
    body.update(dict.fromkeys(said["attributes"]), __init__=initialize, __module__=__name__)
    return type(name, tuple(globals()[base] for base in said["bases"]), body)


def _cudnn_version() -> int:
    return int(importlib.import_module("torch").backends.cudnn.version())


def _cublaslt_version() -> int:
    version = ctypes.CDLL(None).cublasLtGetVersion  # TE or torch has loaded it globally
    version.restype = ctypes.c_size_t
    return int(version())


_ANSWERED = {"get_cudnn_version": _cudnn_version, "get_cublasLt_version": _cublaslt_version}


def _bound() -> dict[str, Any]:
    bound: dict[str, Any] = {name: _raising(name) for name in NAMES["functions"]}
    bound.update((name, function) for name, function in _ANSWERED.items() if name in bound)
    bound.update(NAMES["numbers"])
    for name, said in NAMES["enums"].items():
        kind: Any = _Integral if said["integral"] else _Enum
        bound[name] = kind(name, said["members"], module=__name__)
    for name, functions in NAMES["modules"].items():
        bound[name] = types.ModuleType(f"{__name__}.{name}")
        for function in functions:
            setattr(bound[name], function, _raising(f"{name}.{function}"))
    return bound


if NAMES:
    globals().update(_bound())
    for _name, _said in NAMES["classes"].items():  # in order: bases come first
        globals()[_name] = _class(_name, _said)
