"""What the exchange asks of a model besides what `suite.checkpoints` does."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import importlib.util
from collections.abc import Iterator
from typing import Any

from suite import adapter, check_modelopt_state, compare, families, machine
from suite import quantizers as modelopt_quantizers
from suite.events import plain
from suite.outcomes import Unsupported

AXES = ("megatron-core", "nvidia-modelopt", "transformer-engine", "torch")
"""Whose versions a manifest names."""

FORMAT = "fp8"
"""How the quantized checkpoint is quantized."""

LATENT = ((families.CONFIG, "MLATransformerConfig"),)

WIDTHS = "moe_ffn_hidden_size is different from ffn_hidden_size"
"""How releases without such experts say so, which has them with grouped GEMM alone."""

DONE = (
    "num_bits",
    "axis",
    "block_sizes",
    "unsigned",
    "narrow_range",
    "fake_quant",
    "pre_quant_scale",
)
"""What a quantizer says of what it does, by the names of its attributes; not all releases have
all of them."""


def need(family: str, spec: str) -> None:
    """Raises Unsupported where the release cannot build the family with the spec `default` or
    `modelopt`; established by looking."""
    reason = adapter.has_family(family) if spec == "modelopt" else lacking(family)
    if reason is not None:
        raise Unsupported(reason)


def lacking(family: str) -> str | None:
    """None where the release has the family's default spec, else, in words, what was not found."""
    wanted = {
        "gpt": (adapter.GPT_MODEL, adapter.GPT_LAYER),
        "mla-moe": (adapter.GPT_MODEL, adapter.GPT_BLOCK, LATENT),
        "llama4-moe": (adapter.GPT_MODEL, adapter.GPT_BLOCK),
        "hybrid-mamba": (adapter.STACK_MODEL, adapter.STACK_DEFAULT),
    }[family]
    for places in wanted:
        if adapter.place(places) is None:
            return f"the release has none of {', '.join('.'.join(place) for place in places)}"
    if family == "llama4-moe" and "qk_l2_norm" not in adapter.parameters_of(adapter.GPT_BLOCK):
        return f"{'.'.join(adapter.GPT_BLOCK[0])} takes no qk_l2_norm"
    return None


@contextlib.contextmanager
def widths() -> Iterator[None]:
    """Raises Unsupported where the release says, while a model is built, that its experts must be
    as wide as its dense layers: those of the families are not."""
    try:
        yield
    except AssertionError as error:
        if WIDTHS not in " ".join(str(error).split()):
            raise
        raise Unsupported(f"the release says: {compare.last_line(error)}") from None


def versions() -> dict[str, str]:
    """The installed releases of the packages under test."""
    installed = machine.installed()
    return {name: installed[name] for name in AXES if name in installed}


def configuration(model: Any) -> dict[str, Any]:
    """The plain values of the model's configuration; what is code says nothing that lasts."""
    config = model.config
    found = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name, None)
        if _is_plain(value):
            found[field.name] = plain(value)
    return found


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))


def keys(model: Any) -> dict[str, str | None]:
    """By name of a parameter: the key under which a checkpoint has it."""
    return {
        name: getattr(value, "key", None) for name, value in adapter.sharded_state(model).items()
    }


def plugin() -> Any:
    """ModelOpt's plugin for distributed checkpoints; raises Unsupported where there is none."""
    name = check_modelopt_state.PLUGIN
    if importlib.util.find_spec(name) is None:
        raise Unsupported(f"the release has no {name}")
    return importlib.import_module(name)


def quantized(model: Any) -> Any:
    """The model with quantizers in it, each with a scale of its own."""
    quantization = importlib.import_module("modelopt.torch.quantization")
    name = check_modelopt_state.CONSTANTS[FORMAT]
    constant = getattr(quantization, name, None)
    if constant is None:
        raise Unsupported(f"modelopt.torch.quantization has no {name}")
    model = quantization.quantize(model, constant, forward_loop=None)
    check_modelopt_state.scale(model)
    return model


def quantizers(model: Any) -> dict[str, dict[str, Any]]:
    """By name: whether the quantizer is enabled, what it does, and its text, which releases word
    as they like."""
    found = {}
    for name, one in modelopt_quantizers.of(model).items():
        said = {key: _asked(one, key) for key in DONE}
        off = bool(getattr(one, "_disabled", False))
        found[name] = {"enabled": not off, "text": one.extra_repr(), **said}
    return found


def _asked(quantizer: Any, key: str) -> Any:
    """An attribute as plain data; None where the release has none, or none for this quantizer."""
    try:
        return plain(getattr(quantizer, key, None))
    except (AttributeError, AssertionError, KeyError, ValueError):
        return None
