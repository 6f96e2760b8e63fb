"""Are the private names there that the packages take from one another?

Megatron writes checkpoints through private functions of torch, and both plug into Transformer
Engine below its public surface. Nobody promises that such names stay; their signatures go into
the evidence, so that two releases can be compared.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

from suite import requirements
from suite.check_interface import text
from suite.record import Record

pytestmark = pytest.mark.feature("install")

PLACES = (
    "megatron.core.dist_checkpointing",
    "megatron.core.extensions.transformer_engine",
    "modelopt.torch.opt.plugins",
    "modelopt.torch.quantization.plugins",
)
"""Modules, and packages with all their modules, that reach into other packages."""

OWNERS = ("torch", "transformer_engine", "megatron", "modelopt")


@pytest.mark.after("import-packages")
def check_private_names(record: Record) -> None:
    known = 0
    missing = []
    for place in PLACES:
        for module, name, by, guarded in taken(place):
            signature = found(module, name)
            record(f"{module}:{name}", {"by": by, "guarded": guarded, "is": signature})
            known += signature is not None
            if signature is None and not guarded:
                missing.append(f"{by} takes {name} from {module}, which does not have it")
    assert known, f"no private name is taken from another package by {', '.join(PLACES)}"
    assert not missing, "; ".join(sorted(missing))


def taken(place: str) -> Iterator[tuple[str, str, str, bool]]:
    """`(module, name, importing module, guarded)` of each private name taken from elsewhere."""
    for by, file in sorted(sources(place).items()):
        package = by if file.name == "__init__.py" else by.rpartition(".")[0]
        for one in requirements.imports(file.read_text(encoding="utf-8"), package):
            top = one.module.partition(".")[0]
            if top not in OWNERS or top == by.partition(".")[0]:
                continue
            hidden = any(private(part) for part in one.module.split("."))
            for name in one.names:
                if hidden or private(name):
                    yield one.module, name, by, one.guarded


def private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def sources(place: str) -> dict[str, Path]:
    """By dotted name: the file of a module, or those of a package; empty where there is none."""
    try:
        spec = importlib.util.find_spec(place)
    except ModuleNotFoundError:
        return {}
    if spec is None or spec.origin is None:
        return {}
    if not spec.submodule_search_locations:
        return {place: Path(spec.origin)}
    root = Path(spec.origin).parent
    return {
        ".".join([place, *file.relative_to(root).with_suffix("").parts]).removesuffix(
            ".__init__"
        ): file
        for file in root.rglob("*.py")
    }


def found(module: str, name: str) -> str | None:
    """The signature of `module.name`, its type where it is no function; None: it is not there."""
    try:
        there = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        return None
    try:
        return text(inspect.signature(there))
    except (TypeError, ValueError):
        return type(there).__name__
