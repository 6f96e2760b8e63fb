"""Breaks one thing on purpose, so that tests can see each check say so in a real cell.

Only the environment variable `MCORE_COMPAT_SABOTAGE` turns it on; what was found while it is
on is no evidence, and the run says that it was.
"""

from __future__ import annotations

import ctypes
import os
import time
from typing import Any

VARIABLE = "MCORE_COMPAT_SABOTAGE"
KINDS = (
    "drop-key-map",
    "change-tensor",
    "hang-writer",
    "refuse-build",
    "rename-parameter",
    "segfault-restore",
    "swap-quantizers",
)


def active() -> str | None:
    """The kind of sabotage that is on; ValueError where the variable names none there is."""
    kind = os.environ.get(VARIABLE) or None
    if kind is not None and kind not in KINDS:
        raise ValueError(f"{VARIABLE}={kind}: there are {', '.join(KINDS)}")
    return kind


def spec(given: Any) -> Any:
    """`drop-key-map`: take the first entry out of a key map of a ModelOpt spec, in place.
    `refuse-build`: take what its first layer is made of."""
    if active() == "refuse-build":
        layers = getattr(given, "layer_specs", None) or _stack_layers(given) or [given]
        layers[0].submodules = None
    if active() == "drop-key-map":
        layers = getattr(given, "layer_specs", None) or _stack_layers(given) or [given]
        for layer in layers:
            keys = getattr(layer.submodules, "sharded_state_dict_keys_map", None)
            if keys:
                keys.pop(next(iter(keys)))
                return given
        raise ValueError("drop-key-map: the spec has no key map")
    return given


def _stack_layers(given: Any) -> list[Any]:
    parts = vars(given.submodules).values() if hasattr(given, "submodules") else ()
    return [part for part in parts if hasattr(part, "submodules") and hasattr(part, "module")]


def restored(model: Any) -> None:
    """`change-tensor`: move one element of a restored model by one unit in the last place."""
    if active() == "change-tensor":
        import torch

        weight = next(iter(model.parameters()))
        with torch.no_grad():
            first = weight.view(-1)[:1]
            first.copy_(torch.nextafter(first, torch.full_like(first, float("inf"))))


def parameters(names: dict[str, Any]) -> dict[str, Any]:
    """`rename-parameter`: the first entry of a state dict under another name."""
    if active() == "rename-parameter" and names:
        first = next(iter(names))
        return {(f"renamed.{name}" if name == first else name): v for name, v in names.items()}
    return names


def quantizers(module: Any) -> None:
    """`swap-quantizers`: a module's input is quantized as its weight, and the other way round."""
    if active() == "swap-quantizers":
        weight, inputs = module.weight_quantizer, module.input_quantizer
        module.weight_quantizer, module.input_quantizer = inputs, weight


def writing() -> None:
    """`hang-writer`: the process that writes the checkpoint never comes to an end."""
    while active() == "hang-writer":
        time.sleep(60)


def restoring() -> None:
    """`segfault-restore`: the process dies the hard way, as a faulty kernel would kill it."""
    if active() == "segfault-restore":
        ctypes.string_at(0)
