"""Compares, in a cell's environment, the real extension with its stand-in, whose module is named as
the first argument: prints what differs, as JSON. Run with the cell's Python."""

from __future__ import annotations

import importlib.util
import json
import sys
import types
from typing import Any

import transformer_engine.pytorch  # noqa: F401 (it loads the extension)
import transformer_engine_torch as real

OWN = {"KernelReached", "NAMES", "STAND_IN"}


def public(module: Any) -> set[str]:
    return {name for name in dir(module) if not name.startswith("__")}


def said(value: Any) -> object:
    """What a name stands for, as far as both can have it."""
    if hasattr(value, "__members__"):
        first = next(iter(value.__members__.values()))
        numbers = {name: int(one) for name, one in value.__members__.items()}
        behaves = (str(first), repr(first), first == 0, hash(first), isinstance(first, int))
        return [value.__module__, numbers, behaves]
    if isinstance(value, type):
        order = [c.__name__ for c in value.__mro__ if "pybind" not in c.__name__]
        return [order, sorted(name for name in dir(value) if not name.startswith("_"))]
    if isinstance(value, types.ModuleType):
        return sorted(public(value))
    return "function" if callable(value) else value


def main() -> None:
    spec = importlib.util.spec_from_file_location("transformer_engine_torch", sys.argv[1])
    assert spec is not None
    assert spec.loader is not None
    stand_in = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(stand_in)
    bound = stand_in._bound().keys() | stand_in.NAMES["classes"].keys()
    both = sorted(public(real) & bound)
    versions = [name for name in ("get_cudnn_version", "get_cublasLt_version") if name in both]
    print(
        json.dumps(
            {
                "missing": sorted(public(real) - bound),
                "more": sorted(bound - public(real)),
                "other": [n for n in both if said(getattr(real, n)) != said(getattr(stand_in, n))],
                "versions": [n for n in versions if getattr(real, n)() != getattr(stand_in, n)()],
                "compared": len(both),
            }
        )
    )


if __name__ == "__main__":
    main()
