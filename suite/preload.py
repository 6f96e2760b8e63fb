"""Imports the packages under test once, so that every check's forked child has them already."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

PACKAGES = (
    "torch",
    "transformer_engine.pytorch",
    "megatron.core",
    "megatron.core.parallel_state",
    "megatron.core.dist_checkpointing",
    "megatron.core.models.gpt",
    "modelopt.torch.quantization",
    "modelopt.torch.opt",
    "mamba_ssm",
)
"""In this order: later ones import earlier ones, and a failure should name the first."""

COMPILED = {"mamba-ssm": "selective_scan_cuda", "causal-conv1d": "causal_conv1d_cuda"}
"""By distribution: its compiled module, which a build without a CUDA toolkit leaves out."""

OUTCOMES: dict[str, str] = {}
"""By module: `ok`, or the exception's text, or how the process died on it."""

TRACEBACKS: dict[str, str] = {}
WARNINGS: list[dict[str, Any]] = []
"""Every warning given during the imports, also those that packages gave instead of an error."""


def load(
    names: Sequence[str],
    before: Callable[[str], None] = lambda name: None,
    *,
    host: bool = False,
) -> float:
    """Import `names` in order; seconds that it took. What fails is noted, never raised.

    `before` is told each name before its import, so that another process knows what a death
    or a hang is due to. `host`: there is no GPU, so Triton gets a driver that stands in.
    """
    started = time.monotonic()
    stand_in_for_compiled()
    if host:
        stand_in_for_driver()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for name in names:
            before(name)
            try:
                importlib.import_module(name)
                OUTCOMES[name] = "ok"
            except Exception as error:
                OUTCOMES[name] = f"{type(error).__name__}: {error}"
                TRACEBACKS[name] = traceback.format_exc()
    note(caught)
    return time.monotonic() - started


def stand_in_for_driver() -> bool:
    """Let Triton's kernels be defined without a GPU; a Triton that cannot be imported is noted."""
    from suite import stand_in

    try:
        return stand_in.install_triton()
    except Exception as error:
        TRACEBACKS["triton"] = traceback.format_exc()
        OUTCOMES["triton"] = f"{type(error).__name__}: {error}"
        return False


def stand_in_for_compiled() -> list[str]:
    """Put an empty module where an installed distribution was built without its compiled part.

    The rest of it, the Triton kernels that Megatron uses, then imports. Nothing stands in
    where the compiled module is there. Returns the modules that are stood in for.
    """
    missing = []
    for distribution, name in COMPILED.items():
        try:
            importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
        if name in sys.modules:
            there = sys.modules[name].__spec__ is not None
        else:
            there = importlib.util.find_spec(name) is not None
        if not there:
            sys.modules.setdefault(name, ModuleType(name, "Stands in for a compiled module."))
            missing.append(name)
    return missing


def stand_in_for_te() -> list[str]:
    """TE's torch extension, where one without kernels was installed in its place."""
    name = "transformer_engine_torch"
    return [name] if importlib.util.find_spec(f"_{name}_loader") else []


def note(caught: Sequence[warnings.WarningMessage]) -> None:
    """Add warnings to `WARNINGS`, each text once."""
    known = {(entry["category"], entry["message"]) for entry in WARNINGS}
    for warning in caught:
        entry = describe(warning)
        key = (entry["category"], entry["message"])
        if key not in known:
            known.add(key)
            WARNINGS.append(entry)


def describe(warning: warnings.WarningMessage) -> dict[str, Any]:
    """A warning as plain data; `file` relative to site-packages."""
    from suite.failures import relative

    return {
        "category": warning.category.__name__,
        "message": str(warning.message)[:4000],
        "file": relative(warning.filename),
        "line": warning.lineno,
    }


def loaded(package: str) -> bool:
    """Whether `package` was imported in this process, whole or in part."""
    return package in sys.modules
