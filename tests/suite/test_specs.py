"""The spec checks see what stands where, and what should not."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

from suite import check_spec, specs


class TELayerNormColumnParallelLinear: ...


class TEColumnParallelLinear: ...


class ColumnParallelLinear: ...


class Norm: ...


class IdentityOp: ...


class Layer: ...


class MLP: ...


@dataclass
class ModuleSpec:
    module: Any
    submodules: Any = None


@dataclass
class Submodules:
    input_layernorm: Any = IdentityOp
    self_attention: Any = IdentityOp
    pre_mlp_layernorm: Any = IdentityOp
    mlp: Any = IdentityOp
    sharded_state_dict_keys_map: dict[str, str] = field(default_factory=dict)


@dataclass
class Attention:
    linear_qkv: Any = None


@dataclass
class MLPSubmodules:
    linear_fc1: Any = None


@dataclass
class Block:
    layer_specs: list[Any]
    layer_norm: Any = None


def layer(linear: Any, norm: Any, keys: dict[str, str], mlp: Any = None) -> ModuleSpec:
    parts = MLPSubmodules(linear_fc1=linear)
    return ModuleSpec(
        Layer,
        Submodules(
            input_layernorm=norm,
            self_attention=ModuleSpec(object, Attention(linear_qkv=linear)),
            pre_mlp_layernorm=norm,
            mlp=mlp or functools.partial(MLP, submodules=parts),
            sharded_state_dict_keys_map=keys,
        ),
    )


MAP = {
    "input_layernorm.": "self_attention.linear_qkv.layer_norm_",
    "pre_mlp_layernorm.": "mlp.linear_fc1.layer_norm_",
}
DEFAULT = layer(TELayerNormColumnParallelLinear, IdentityOp, {})


def native(thing: Any) -> bool:
    return thing is ColumnParallelLinear


def compared(modelopt: ModuleSpec) -> list[str]:
    return specs.compare_maps(
        specs.wanted_map(DEFAULT), specs.key_map(modelopt), specs.places(modelopt)
    )


def test_places_are_found_through_specs_and_partials() -> None:
    places = specs.places(DEFAULT)
    assert places["self_attention.linear_qkv"] is TELayerNormColumnParallelLinear
    assert places["mlp"] is MLP
    assert places["mlp.linear_fc1"] is TELayerNormColumnParallelLinear


def test_layers_of_a_block_are_numbered() -> None:
    assert list(specs.layers(Block([DEFAULT, DEFAULT]))) == ["layers.0", "layers.1"]


def test_the_map_that_fits_the_fusions_is_found_good() -> None:
    assert compared(layer(ColumnParallelLinear, Norm, MAP)) == []


def test_a_dropped_entry_of_the_map_is_found() -> None:
    keys = {name: target for name, target in MAP.items() if name != "input_layernorm."}
    assert compared(layer(ColumnParallelLinear, Norm, keys)) == [
        "input_layernorm. is not mapped to self_attention.linear_qkv.layer_norm_"
    ]


def test_a_wrong_target_in_the_map_is_found() -> None:
    keys = {**MAP, "pre_mlp_layernorm.": "mlp.linear_fc2.layer_norm_"}
    assert "mlp.linear_fc2" in compared(layer(ColumnParallelLinear, Norm, keys))[0]


def test_an_entry_for_what_the_default_does_not_fuse_is_found() -> None:
    keys = {**MAP, "self_attention.linear_qkv.": "elsewhere."}
    assert "does not have" in compared(layer(ColumnParallelLinear, Norm, keys))[0]


def test_native_linears_behind_norms_are_found_good() -> None:
    there = specs.places(layer(ColumnParallelLinear, Norm, MAP))
    assert specs.stray(there, native) == []


def test_a_te_linear_in_the_modelopt_spec_is_found() -> None:
    there = specs.places(layer(TEColumnParallelLinear, Norm, MAP))
    assert "no native linear" in specs.stray(there, native)[0]


def test_a_missing_norm_in_the_modelopt_spec_is_found() -> None:
    there = specs.places(layer(ColumnParallelLinear, IdentityOp, MAP))
    assert [text for text in specs.stray(there, native) if "is missing before" in text]


def test_one_layer_stands_for_every_layer_of_a_block() -> None:
    block = specs.layers(Block([DEFAULT, DEFAULT]))
    pairs = check_spec.paired(specs.layers(DEFAULT), block)
    assert list(pairs) == ["layers.0", "layers.1"]
