"""What callers rely on of ModelOpt's spec functions, one contract for each release line.

A line is told from another by what a release has (`present`, `absent`), never by its version.
Pure, except for `applies`, `has` and `home`, which look.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from suite import adapter

REQUIRED = inspect.Parameter.empty
"""As a default: the parameter has none."""

_MS = "megatron.core.inference.modelopt_support"
_PT = "megatron.core.post_training.modelopt"


@dataclass(frozen=True)
class Contract:
    """The parameters of `function` in `module` that callers pass, in their order, with defaults.

    It holds for releases that have all of `present` and none of `absent`: dotted module paths,
    `module:attribute`, or `module:attribute(parameter)`. `exact`: the line promises that there is
    no further parameter, not even one with a default.
    """

    module: str
    function: str
    parameters: Mapping[str, Any]
    present: tuple[str, ...] = field(default=())
    absent: tuple[str, ...] = field(default=())
    exact: bool = False

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
        {**_EXPERTS, **_LAYER},
        present=(_DECODER,),
        absent=(f"{_MS}.mamba",),
    ),
    Contract(
        f"{_MS}.gpt.model_specs",
        _LAYER_SPEC,
        {
            "num_experts": None,
            "local_core_attention": False,
            "moe_grouped_gemm": False,
            **_LAYER,
        },
        present=(_DECODER, f"{_MS}.mamba"),
        exact=True,
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
    Contract(f"{_MS}.mamba.model_specs", _STACK_SPEC, _STACK, exact=True),
    Contract(f"{_PT}.mamba.model_specs", _STACK_SPEC, _STACK, present=(_MS,), exact=True),
    Contract(f"{_PT}.mamba.model_specs", _STACK_SPEC, _STACK, absent=(_MS, _PATTERN)),
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


def compare(
    signature: inspect.Signature, parameters: Mapping[str, Any], *, exact: bool = False
) -> list[str]:
    """In words, every way in which `signature` breaks the contract; empty where it holds.

    Each parameter must be there, with its default, at its position, and must be one that can be
    given by position and by keyword. What a signature has after them is fine as long as it has a
    default; not where the contract is `exact`.
    """
    found = []
    for name, default in parameters.items():
        there = signature.parameters.get(name)
        if there is None:
            found.append(f"parameter {name} is not there")
            continue
        if there.kind is not inspect.Parameter.POSITIONAL_OR_KEYWORD:
            found.append(f"parameter {name} is {there.kind.description}")
        if not same_default(there.default, default):
            found.append(
                f"parameter {name} {default_text(there.default)},"
                f" where the contract says that it {default_text(default)}"
            )
    found += _out_of_order(list(signature.parameters), list(parameters))
    for name, parameter in signature.parameters.items():
        if name in parameters:
            continue
        if exact:
            found.append(f"parameter {name} is new, where the contract allows no other")
        elif parameter.default is REQUIRED and parameter.kind not in _OPEN_ENDED:
            found.append(f"parameter {name} is new and has no default")
    return found


_OPEN_ENDED = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _out_of_order(there: list[str], wanted: list[str]) -> list[str]:
    """In words, where the parameters that are there stand at other positions than `wanted`."""
    known = [name for name in wanted if name in there]
    if known != wanted or there[: len(wanted)] == wanted:
        return []  # one that is not there is told of already
    return [f"parameters are in the order {', '.join(there)}, not {', '.join(wanted)}"]


def extras(signature: inspect.Signature, parameters: Mapping[str, Any]) -> list[str]:
    """Names of the parameters beyond the contract, without `*args` and `**kwargs`."""
    return [
        name
        for name, parameter in signature.parameters.items()
        if name not in parameters and parameter.kind not in _OPEN_ENDED
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
    """Whether there is a module of this dotted path; it is not itself imported.

    Its parents are. Where one of them cannot be, for whatever reason, the sources tell.
    """
    try:
        return importlib.util.find_spec(path) is not None
    except Exception:
        return adapter.has_module(path)


def function_of(contract: Contract) -> Any:
    """The function that the contract is about, None where its module does not have it."""
    module: ModuleType = importlib.import_module(contract.module)
    return getattr(module, contract.function, None)
