"""Which megatron-core, ModelOpt, Transformer Engine and torch work together: host side."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mcore_compat.analysis.published import load

__version__ = "0.1.0"

__all__ = ["load"]


def __getattr__(name: str) -> object:
    # Sessions are listed within a second: what they do not need is not imported.
    if name == "load":
        from mcore_compat.analysis.published import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
