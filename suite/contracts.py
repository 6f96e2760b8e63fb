"""What callers rely on of ModelOpt's spec functions, one contract for each release line.

A line is told from another by what a release has (`present`, `absent`), never by its version.
Pure, except for `applies` and `home`, which look.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

REQUIRED = inspect.Parameter.empty
"""As a default: the parameter has none."""

_MS = "megatron.core.inference.modelopt_support"
_PT = "megatron.core.post_training.modelopt"


@dataclass(frozen=True)
class Contract:
    """The parameters of `function` in `module` that callers pass, by keyword, with defaults.

    It holds for releases that have all of `present` and none of `absent`: dotted module paths,
    `module:attribute`, or `module:attribute(parameter)`.
    """

    module: str
    function: str
    parameters: Mapping[str, Any]
    present: tuple[str, ...] = field(default=())
    absent: tuple[str, ...] = field(default=())

    @property
    def path(self) -> str:
        return f"{self.module}.{self.function}"


_LAYER = {"remap_te_layernorm": False, "qk_layernorm": False}
_EXPERTS = {"num_experts": None, "moe_grouped_gemm": False}
_BLOCK = {
    "config": REQUIRED,
    "local_core_attention": False,
    "remap_te_layernorm": False,
    "real_quant_cfg": "None",
    "qk_l2_norm": False,
}
_STACK = {"local_core_attention": False, "remap_te_layernorm": False}
_DECODER = "megatron.core.models.gpt.gpt_layer_specs:get_gpt_decoder_block_spec"
_PATTERN = "megatron.core.models.mamba.mamba_model:MambaModel(hybrid_layer_pattern)"
_LAYER_SPEC, _STACK_SPEC = "get_gpt_layer_modelopt_spec", "get_mamba_stack_modelopt_spec"

GPT = (
    Contract(f"{_MS}.gpt.model_specs", _LAYER_SPEC, _LAYER, absent=(_DECODER,)),
    Contract(
        f"{_MS}.gpt.model_specs",
        _LAYER_SPEC,
        {**_LAYER, **_EXPERTS},
        present=(_DECODER,),
        absent=(f"{_MS}.mamba",),
    ),
    Contract(
        f"{_MS}.gpt.model_specs",
        _LAYER_SPEC,
        {**_LAYER, **_EXPERTS, "local_core_attention": False},
        present=(_DECODER, f"{_MS}.mamba"),
    ),
    Contract(f"{_PT}.gpt.model_specs", "get_gpt_modelopt_spec", _BLOCK, present=(_MS,)),
    Contract(
        f"{_PT}.gpt.model_specs",
        "get_gpt_modelopt_spec",
        {**_BLOCK, "use_arbitrary_attention_mask": False},
        absent=(_MS,),
    ),
)

STACK = (
    Contract(f"{_MS}.mamba.model_specs", _STACK_SPEC, _STACK),
    Contract(f"{_PT}.mamba.model_specs", _STACK_SPEC, _STACK, absent=(_PATTERN,)),
    Contract(
        f"{_PT}.mamba.model_specs",
        _STACK_SPEC,
        {**_STACK, "use_default_te_spec": False},
        present=(_PATTERN,),
    ),
    Contract(
        f"{_PT}.hybrid.model_specs",
        "get_hybrid_stack_modelopt_spec",
        {**_STACK, "use_default_te_spec": False, "moe_grouped_gemm": True},
    ),
)


def compare(signature: inspect.Signature, parameters: Mapping[str, Any]) -> list[str]:
    """In words, every way in which `signature` breaks the contract; empty where it holds.

    A parameter must be there, must be one that can be given by keyword, and must have the
    default; what a signature has beyond that is fine as long as it has a default.
    """
    found = []
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    for name, default in parameters.items():
        there = signature.parameters.get(name)
        if there is None:
            found.append(f"parameter {name} is not there")
            continue
        if there.kind not in named:
            found.append(f"parameter {name} is {there.kind.description}")
        if not same_default(there.default, default):
            found.append(
                f"parameter {name} {default_text(there.default)},"
                f" where the contract says that it {default_text(default)}"
            )
    for name in extras(signature, parameters):
        if signature.parameters[name].default is REQUIRED:
            found.append(f"parameter {name} is new and has no default")
    return found


def extras(signature: inspect.Signature, parameters: Mapping[str, Any]) -> list[str]:
    """Names of the parameters beyond the contract, without `*args` and `**kwargs`."""
    open_ended = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [
        name
        for name, parameter in signature.parameters.items()
        if name not in parameters and parameter.kind not in open_ended
    ]


def same_default(first: Any, second: Any) -> bool:
    """Equality that keeps `False` and `0` apart."""
    return first is second or (type(first) is type(second) and bool(first == second))


def default_text(default: Any) -> str:
    return "has no default" if default is REQUIRED else f"defaults to {default!r}"


def applies(contract: Contract) -> bool:
    """Whether this release is of the contract's line; the module need not have the function."""
    return (
        has(contract.module)
        and all(has(what) for what in contract.present)
        and not any(has(what) for what in contract.absent)
    )


def has(what: str) -> bool:
    """Whether the release has a module, `module:attribute` or `module:attribute(parameter)`."""
    path, _, rest = what.partition(":")
    if not rest:
        return home(path)
    attribute, _, parameter = rest.rstrip(")").partition("(")
    if not home(path):
        return False
    found = getattr(importlib.import_module(path), attribute, None)
    if found is None or not parameter:
        return found is not None
    return parameter in inspect.signature(found).parameters


def home(path: str) -> bool:
    """Whether a module of this dotted path can be found; it is not itself imported."""
    try:
        return importlib.util.find_spec(path) is not None
    except ModuleNotFoundError:  # a parent is not there
        return False


def function_of(contract: Contract) -> Any:
    """The function that the contract is about, None where its module does not have it."""
    module: ModuleType = importlib.import_module(contract.module)
    return getattr(module, contract.function, None)
