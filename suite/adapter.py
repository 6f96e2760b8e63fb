"""Finds, by looking, where a Megatron release keeps its specs and how they are called.

The one module of the suite that knows that releases differ; it never asks for a version.
Whether a release has something is read from its source files, so that a module that cannot
be imported is not taken for one that is not there.
"""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suite import families
from suite.outcomes import Unsupported

_MS = "megatron.core.inference.modelopt_support"
_PT = "megatron.core.post_training.modelopt"
_GPT_SPECS = "megatron.core.models.gpt.gpt_layer_specs"

GPT_MODELOPT = (
    (f"{_PT}.gpt.model_specs", "get_gpt_modelopt_spec"),
    (f"{_PT}.gpt.model_specs", "get_gpt_layer_modelopt_spec"),
    (f"{_MS}.gpt.model_specs", "get_gpt_layer_modelopt_spec"),
)
STACK_MODELOPT = (
    (f"{_PT}.hybrid.model_specs", "get_hybrid_stack_modelopt_spec"),
    (f"{_PT}.mamba.model_specs", "get_mamba_stack_modelopt_spec"),
    (f"{_MS}.mamba.model_specs", "get_mamba_stack_modelopt_spec"),
)
GPT_BLOCK = ((_GPT_SPECS, "get_gpt_decoder_block_spec"),)
GPT_LAYER = ((_GPT_SPECS, "get_gpt_layer_with_transformer_engine_spec"),)
STACK_DEFAULT = (
    ("megatron.core.models.hybrid.hybrid_layer_specs", "hybrid_stack_spec"),
    ("megatron.core.models.mamba.mamba_layer_specs", "mamba_stack_spec"),
)
STACK_MODEL = (
    ("megatron.core.models.hybrid.hybrid_model", "HybridModel"),
    ("megatron.core.models.mamba.mamba_model", "MambaModel"),
)
GPT_MODEL = (("megatron.core.models.gpt.gpt_model", "GPTModel"),)
PRE_HOOK = (
    (f"{_PT}.gpt.state_dict_hooks", "mcore_gpt_load_te_state_dict_pre_hook"),
    (f"{_MS}.gpt.state_dict_hooks", "mcore_gpt_load_te_state_dict_pre_hook"),
)

Places = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Found:
    """What was found: its dotted path, and itself."""

    path: str
    object: Any


def place(places: Places) -> tuple[str, str] | None:
    """The first `(module, name)` whose module's source binds the name; nothing is called."""
    for module, name in places:
        tree = _source(module)
        if tree is not None and any(name in _bound(node) for node in tree.body):
            return module, name
    return None


def find(places: Places) -> Found | None:
    """The first of `places` that the release has; raises what importing its module raises."""
    there = place(places)
    if there is None:
        return None
    module, name = there
    return Found(f"{module}.{name}", getattr(importlib.import_module(module), name))


def has_module(module: str) -> bool:
    """Whether the release has the module, by its source files; nothing is imported."""
    return _source(module) is not None


@functools.cache
def _source(module: str) -> ast.Module | None:
    """The syntax tree of a module's file, None where the release has no such module."""
    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        base = Path(folder, *rest)
        for file in (base.with_suffix(".py"), base / "__init__.py"):
            if file.is_file():
                return ast.parse(file.read_text(encoding="utf-8"))
    return None


def _bound(node: ast.stmt) -> set[str]:
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return {node.name}
    if isinstance(node, ast.Assign):
        return {target.id for target in node.targets if isinstance(target, ast.Name)}
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return {node.target.id}
    return set()


def parameters_of(places: Places) -> tuple[str, ...]:
    """The parameters, as written in its source, of the first function found."""
    there = place(places)
    tree = _source(there[0]) if there else None
    for node in tree.body if tree else ():
        if isinstance(node, ast.FunctionDef) and there and node.name == there[1]:
            return tuple(argument.arg for argument in node.args.args + node.args.kwonlyargs)
    return ()


def has_family(name: str) -> str | None:
    """None where the release has the family, else, in words, what was not found."""
    if name == "hybrid-mamba":
        if place(STACK_MODELOPT) is None:
            return f"no ModelOpt spec for hybrid stacks in {_MS} or {_PT}"
        return None
    there = place(GPT_MODELOPT)
    if there is None:
        return f"no ModelOpt spec for GPT in {_MS} or {_PT}"
    takes = parameters_of(GPT_MODELOPT)
    function = ".".join(there)
    if name == "mla-moe" and "config" not in takes:
        return f"{function} takes no config, so it cannot be asked for latent attention"
    if name == "llama4-moe" and not {"config", "num_experts"} & set(takes):
        return f"{function} takes no number of experts"
    if name == "llama4-moe" and "qk_l2_norm" not in takes:
        return f"{function} takes no qk_l2_norm"
    return None


def need_experts() -> None:
    """End the check where a stack spec has no layer with experts.

    Raises:
        Unsupported: the default spec has none.
        AssertionError: the default spec has one, and the ModelOpt spec has none.
    """
    if not _has_experts(stack_default_spec()):
        raise Unsupported("the default spec of hybrid stacks has no moe_layer")
    assert _has_experts(stack_modelopt_spec()), (
        "the ModelOpt spec of hybrid stacks has no moe_layer, which the default spec has"
    )


def _has_experts(found: Found | None) -> bool:
    spec = found.object if found else None
    spec = spec() if inspect.isfunction(spec) else spec
    layer = getattr(getattr(spec, "submodules", None), "moe_layer", None)
    return layer is not None and "Identity" not in str(getattr(layer, "module", layer))


def modules(family: str) -> tuple[str, ...]:
    """The modules that building, saving and restoring this family imports, as the release
    has them."""
    hybrid = family == "hybrid-mamba"
    searched = (
        (STACK_MODEL, STACK_DEFAULT, STACK_MODELOPT)
        if hybrid
        else (GPT_MODEL, GPT_LAYER, GPT_MODELOPT, PRE_HOOK)
    )
    there = [place(places) for places in searched]
    return (
        "megatron.core.parallel_state",
        "megatron.core.tensor_parallel",
        families.CONFIG,
        *(found[0] for found in there if found),
        "megatron.core.dist_checkpointing",
    )


def gpt_modelopt_spec() -> Found | None:
    """The function that gives a GPT's ModelOpt spec."""
    return find(GPT_MODELOPT)


def stack_modelopt_spec() -> Found | None:
    """The function that gives a hybrid stack's ModelOpt spec."""
    return find(STACK_MODELOPT)


def gpt_default_spec() -> Found | None:
    """The function that gives a GPT's Transformer Engine spec: of a block, or else of a layer."""
    return find(GPT_BLOCK) or find(GPT_LAYER)


def stack_default_spec() -> Found | None:
    """The hybrid stack's Transformer Engine spec; an object, not a function."""
    return find(STACK_DEFAULT)


def state_dict_pre_hook() -> Found | None:
    """The hook that renames a default-spec state dict for a ModelOpt-spec model."""
    return find(PRE_HOOK)


def call(function: Any, offered: dict[str, Any]) -> Any:
    """Call `function` by keyword with those of `offered` that it takes."""
    takes = inspect.signature(function).parameters
    return function(**{name: value for name, value in offered.items() if name in takes})


def default_spec(family: str, config: Any) -> Any:
    """The Transformer Engine spec to build the family's default model with."""
    if family == "hybrid-mamba":
        return _there(stack_default_spec(), STACK_DEFAULT)
    places = GPT_LAYER if config.num_moe_experts is None else GPT_BLOCK
    offered = {
        "config": config,
        "use_transformer_engine": True,
        "num_experts": config.num_moe_experts,
        "qk_layernorm": config.qk_layernorm,
        "qk_l2_norm": family == "llama4-moe",
    }
    return call(_there(find(places), places), offered)


def modelopt_spec(family: str, config: Any, **chosen: Any) -> Any:
    """The ModelOpt spec, with norms mapped to where a default checkpoint has them.

    `chosen` are further arguments for the spec function, which must take them.
    """
    places = modelopt_places(family)
    function = _there(find(places), places)
    offered = {
        "config": config,
        "num_experts": config.num_moe_experts,
        "qk_layernorm": config.qk_layernorm,
        "qk_l2_norm": family == "llama4-moe",
        "remap_te_layernorm": True,
    }
    takes = inspect.signature(function).parameters
    given = {name: value for name, value in offered.items() if name in takes}
    return function(**{**given, **chosen})


def modelopt_places(family: str) -> Places:
    """Where releases have the function that gives the family's ModelOpt spec."""
    return STACK_MODELOPT if family == "hybrid-mamba" else GPT_MODELOPT


def _there(found: Found | None, places: Places) -> Any:
    if found is None:
        raise AttributeError(f"the release has none of {', '.join('.'.join(p) for p in places)}")
    return found.object


def build_model(
    family: str, spec: Any, config: Any, pattern: str = families.PATTERN, **chosen: Any
) -> Any:
    """A model of `spec`, with random weights, for `families.SEQUENCE` tokens.

    `pattern` names the layers of a hybrid, one letter each; `chosen` are further arguments of the
    model's class, which must take them.
    """
    places = STACK_MODEL if family == "hybrid-mamba" else GPT_MODEL
    model = _there(find(places), places)
    takes = inspect.signature(model.__init__).parameters
    offered: dict[str, Any] = {
        "config": config,
        "vocab_size": families.VOCABULARY,
        "max_sequence_length": families.SEQUENCE,
        "transformer_layer_spec": spec,
        "hybrid_stack_spec": spec,
        "mamba_stack_spec": spec,
    }
    if family == "hybrid-mamba":
        name = "hybrid_layer_pattern"
        name = name if name in takes else "hybrid_override_pattern"
        offered[name] = pattern
    given = {name: value for name, value in offered.items() if name in takes}
    return model(**{**given, **chosen})


def sharded_state(model: Any) -> dict[str, Any]:
    """The model's sharded state dict, with the metadata that leaf modules may ask for."""
    state = importlib.import_module("megatron.core.parallel_state")
    group = state.get_data_parallel_group(with_context_parallel=True)
    sharded: dict[str, Any] = model.sharded_state_dict(metadata={"dp_cp_group": group})
    return sharded
