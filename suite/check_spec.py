"""Does the ModelOpt spec hold what quantization needs, and map keys as the default spec fuses?"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from suite import adapter, contracts, families, parallel, parts, sabotage, specs, structure
from suite.outcomes import Unsupported
from suite.record import Record

pytestmark = pytest.mark.feature("interface")

LAYERS = "megatron.core.post_training.modelopt.layers"
FEATURES = ("gdn_layer", "dsa_layer", "mtp_block_spec")
"""Layers that upstream's local hybrid spec gained later."""

MARKS = ("tensor_model_parallel", "allreduce", "sequence_parallel")
REFUSED: dict[str, dict[str, Any]] = {
    "parallel_mode='column'": {"parallel_mode": "column"},
    "parallel_mode='row'": {"parallel_mode": "row"},
    "a group for a duplicated linear": {"parallel_mode": "duplicated", "tp_group": object()},
}
"""What a linear that every rank has whole must not take."""

ABSORBED = (("AbsorbedMLASelfAttention", "MLASelfAttention"),)
"""The same parameters; that they compute in another way is what `structure-stack` tells."""


def native(thing: Any) -> bool:
    """Whether ModelOpt quantizes `thing`: a native parallel linear, or torch's own."""
    import torch

    parallel = importlib.import_module("megatron.core.tensor_parallel.layers")
    wanted = (parallel.ColumnParallelLinear, parallel.RowParallelLinear, torch.nn.Linear)
    return isinstance(thing, type) and issubclass(thing, wanted)


@pytest.mark.after("import-modules")
def check_spec_modules(family: str, record: Record, tmp_path: Path) -> None:
    parallel.start(tmp_path, families.SEED)  # a block's spec depends on the pipeline rank
    spec = adapter.modelopt_spec(family, families.config(family))
    problems = []
    standing: dict[str, Any] = {}
    linears = 0
    for name, layer in specs.layers(spec).items():
        there = specs.places(layer)
        standing[name] = {place: specs.name_of(thing) for place, thing in there.items()}
        linears += sum(specs.is_linear(place) for place in there)
        problems += [f"{name}: {problem}" for problem in specs.stray(there, native)]
    record("modules", standing)
    assert linears, "no linear was found in the ModelOpt spec"
    assert not problems, "; ".join(problems)


@pytest.mark.after("import-modules")
def check_spec_key_map(family: str, record: Record, tmp_path: Path) -> None:
    parallel.start(tmp_path, families.SEED)
    config = families.config(family)
    pairs = paired(
        specs.layers(adapter.default_spec(family, config)),
        specs.layers(sabotage.spec(adapter.modelopt_spec(family, config, remap_te_layernorm=True))),
    )
    problems = []
    fusions = 0
    maps: dict[str, Any] = {}
    for name, (default, modelopt) in pairs.items():
        wanted, actual = specs.wanted_map(default), specs.key_map(modelopt)
        fusions += len(wanted)
        unknown = [place for place in specs.fused(default) if place not in specs.NORM_OF]
        maps[name] = {"wanted": wanted, "actual": actual, "unknown": unknown}
        found = specs.compare_maps(wanted, actual, specs.places(modelopt))
        problems += [f"{name}: {problem}" for problem in found]
    record("key_maps", maps)
    assert fusions, "no linear with a fused norm was found in the default spec"
    assert not problems, "; ".join(problems)


def paired(default: dict[str, Any], modelopt: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The layers of both specs that stand for each other, by name.

    A spec of one layer stands for every layer; in stacks, only layers that both have pair.
    """
    if set(default) == {"layer"}:
        return {name: (default["layer"], layer) for name, layer in modelopt.items()}
    if set(modelopt) == {"layer"}:
        return {name: (layer, modelopt["layer"]) for name, layer in default.items()}
    shared = [name for name in default if name in modelopt]
    numbered = any(name.startswith("layers.") for name in default)
    assert not numbered or len(default) == len(modelopt), (
        f"the default spec has {len(default)} layers, the ModelOpt spec {len(modelopt)}"
    )
    assert shared, "the default and the ModelOpt spec have no layer in common"
    return {name: (default[name], modelopt[name]) for name in shared}


@pytest.mark.families("hybrid-mamba")
@pytest.mark.after("import-modules")
def check_spec_default_switch(family: str, record: Record) -> None:
    function = stack_function("use_default_te_spec")
    default = adapter.stack_default_spec()
    assert default is not None, "there is a switch to the default spec, but no default spec"
    record("default", default.path)
    assert function(use_default_te_spec=True) is default.object, (
        f"use_default_te_spec=True returns something else than {default.path}"
    )
    if "moe_grouped_gemm" in inspect.signature(function).parameters:
        module = importlib.import_module(function.__module__)
        other = function(use_default_te_spec=True, moe_grouped_gemm=False)
        assert other is not default.object, "moe_grouped_gemm=False changes nothing"
        named = [name for name, value in vars(module).items() if value is other]
        record("without grouped GEMM", named)
        assert named, "moe_grouped_gemm=False returns no spec of its module"


@pytest.mark.families("hybrid-mamba")
@pytest.mark.after("import-modules")
def check_spec_local_features(family: str, record: Record) -> None:
    """Each feature of the default stack is in the local one: every module, every norm, every
    linear; norms are ModelOpt's, and linears that every rank has whole can be told so."""
    spec = stack_function("local_core_attention")()
    there = features(spec)
    record("features", sorted(there))
    if not there:
        raise Unsupported(f"the local stack spec has none of {', '.join(FEATURES)}")
    found = adapter.stack_default_spec()
    default = features(found.object) if found else {}
    record("features of the default", sorted(default))
    problems = [f"{name} is missing" for name in default if name not in there]
    for name, layer in there.items():
        standing = specs.places(layer)
        record(name, {place: specs.name_of(thing) for place, thing in standing.items()})
        if name in default:
            wanted, actual = parts.of_spec(default[name]), parts.of_spec(layer)
            compared = structure.compare(wanted, actual, also=ABSORBED)
            problems += [f"{name}: {problem}" for problem in compared.problems]
        problems += [f"{name}: {problem}" for problem in specs.stray(standing, native)]
        problems += [f"{name}: {problem}" for problem in unlike_modelopt(standing)]
        if not any(specs.is_linear(place) for place in standing):
            problems.append(f"{name}: has no linear")
    assert not problems, "; ".join(problems)


def features(spec: Any) -> dict[str, Any]:
    """The feature layers of a stack's spec, by field."""
    return {name: one for name, one in specs.stack_layers(spec).items() if name in FEATURES}


def unlike_modelopt(layer: dict[str, Any]) -> list[str]:
    """In words, which norms of a layer are not ModelOpt's, whose state dict has no extra state,
    and which of its own linears cannot be told that every rank has them whole."""
    layers = importlib.import_module(LAYERS)
    found = []
    for place, thing in layer.items():
        if specs.is_norm(place) and not specs.is_identity(thing) and thing is not layers.Norm:
            found.append(f"{place} is {specs.name_of(thing)}, not {LAYERS}.Norm")
        if thing is layers.Linear and "parallel_mode" not in inspect.signature(thing).parameters:
            found.append(f"{place}: {specs.name_of(thing)} takes no parallel_mode")
    return found


@pytest.mark.families("hybrid-mamba")
@pytest.mark.after("import-modules")
def check_spec_gdn_remap(family: str, record: Record) -> None:
    function = stack_function("remap_te_layernorm")
    layer = getattr(function(remap_te_layernorm=True).submodules, "gdn_layer", None)
    if specs.is_identity(layer):
        raise Unsupported("the local stack spec has no gdn_layer")
    record("key_map", specs.key_map(layer))
    wanted = {"input_layernorm.": "self_attention.in_proj.layer_norm_"}
    assert specs.key_map(layer) == wanted, f"the key map is {specs.key_map(layer)}, not {wanted}"
    plain = getattr(function(remap_te_layernorm=False).submodules, "gdn_layer", None)
    assert not specs.key_map(plain), "keys are mapped although remap_te_layernorm is False"


@pytest.mark.after("import-modules[gpt]")
def check_layers_linear_duplicated(record: Record, tmp_path: Path) -> None:
    if not contracts.has(f"{LAYERS}:Linear(parallel_mode)"):
        raise Unsupported(f"{LAYERS}.Linear takes no parallel_mode")
    parallel.start(tmp_path, families.SEED)  # where there are groups, it must have none
    config = families.config("gpt")
    linear = importlib.import_module(LAYERS).Linear
    build = {"config": config, "init_method": config.init_method}
    built = linear(8, 4, **build, parallel_mode="duplicated")
    marks = {name: getattr(built.weight, name, "(not set)") for name in MARKS}
    record("parallel_mode", built.parallel_mode)
    record("marks of the weight", marks)
    shape = tuple(built.weight.shape)
    assert shape == (4, 8), f"the weight is {shape}, not (4, 8)"
    assert built.parallel_mode == "duplicated", f"parallel_mode is {built.parallel_mode!r}"
    assert built.tp_group is None, "a linear that every rank has whole has a tensor-parallel group"
    assert marks["tensor_model_parallel"] is False, (
        f"the weight's tensor_model_parallel is {marks['tensor_model_parallel']}, not False"
    )
    plain = linear(8, 4, **build)
    assert plain.parallel_mode is None, f"by default, parallel_mode is {plain.parallel_mode!r}"
    for what, given in REFUSED.items():
        refusal = refused(partial(linear, 8, 4, **build, **given))
        record(what, refusal)
        assert refusal is not None, f"{what} is taken by a linear that every rank has whole"
        assert "tp_group" in given or "only supports parallel_mode" in refusal, (
            f"{what}: the error does not say what is supported: {refusal}"
        )


def refused(build: Callable[[], Any]) -> str | None:
    """The message of the ValueError that building raises, None where it raises none."""
    try:
        build()
    except ValueError as error:
        return str(error)
    return None


def stack_function(parameter: str) -> Any:
    """The release's ModelOpt stack spec function, where it takes `parameter`."""
    found = adapter.stack_modelopt_spec()
    if found is None:
        raise Unsupported("the release has no ModelOpt stack spec")
    if parameter not in inspect.signature(found.object).parameters:
        raise Unsupported(f"{found.path} takes no {parameter}")
    return found.object
