"""The spec checks see what stands where, and what should not."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pytest

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


@dataclass
class Stack:
    mamba_layer: Any = IdentityOp
    dsa_layer: Any = IdentityOp
    mtp_block_spec: Any = None


def test_the_layers_of_a_stack_are_those_that_are_there() -> None:
    stack = ModuleSpec(Layer, Stack(mamba_layer=DEFAULT, mtp_block_spec=DEFAULT))
    assert list(specs.stack_layers(stack)) == ["mamba_layer", "mtp_block_spec"]
    assert list(check_spec.features(stack)) == ["mtp_block_spec"]


@dataclass
class Given(ModuleSpec):
    params: dict[str, Any] | None = None


def test_what_a_spec_gives_to_its_modules_is_found_by_place() -> None:
    attention = Given(object, Attention(), {"attn_mask_type": "causal"})
    mlp = functools.partial(MLP, submodules=MLPSubmodules(), is_expert=True)
    spec = ModuleSpec(Layer, Submodules(self_attention=attention, mlp=[mlp]))
    assert specs.parameters(spec) == {
        "self_attention": {"attn_mask_type": "causal"},
        "mlp.0": {"is_expert": True},
    }


def test_every_place_with_arguments_is_one_of_the_places() -> None:
    spec = ModuleSpec(Layer, Submodules(mlp=functools.partial(MLP, size=1)))
    assert set(specs.parameters(spec)) <= set(specs.places(spec))


class Linear:
    def __init__(self, size: int) -> None: ...


@pytest.fixture
def layers(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A stand-in for the module with ModelOpt's own norm and linear."""
    module = ModuleType(check_spec.LAYERS)
    module.Norm, module.Linear = Norm, Linear  # type: ignore[attr-defined]
    monkeypatch.setattr(check_spec.importlib, "import_module", lambda name: module)
    return module


def test_norms_of_another_kind_than_modelopts_are_found(layers: Any) -> None:
    there = {"out_norm": Norm, "q_layernorm": IdentityOp, "k_norm": MLP}
    assert check_spec.unlike_modelopt(there) == [
        f"k_norm is {__name__}.MLP, not {check_spec.LAYERS}.Norm"
    ]


def test_a_linear_that_cannot_be_told_to_be_whole_on_each_rank_is_found(layers: Any) -> None:
    assert check_spec.unlike_modelopt({"linear_wk": Linear}) == [
        f"linear_wk: {__name__}.Linear takes no parallel_mode"
    ]

    def init(self: Any, size: int, parallel_mode: str | None = None) -> None: ...

    Linear.__init__ = init  # type: ignore[method-assign]
    assert check_spec.unlike_modelopt({"linear_wk": Linear}) == []
