"""Two models are compared module by module; only differences that the design wants are none."""

from __future__ import annotations

import copy
import enum
import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suite import parts, structure
from suite.parts import Part


class Mask(enum.Enum):
    causal = 1
    no_mask = 2


class Tensor:
    is_meta = False
    dtype = "float32"

    def __init__(self, *shape: int) -> None:
        self.shape = shape

    def numel(self) -> int:
        return functools.reduce(int.__mul__, self.shape, 1)

    def tolist(self) -> list[int]:
        return [0] * self.numel()


@dataclass
class Config:
    normalization: str = "RMSNorm"
    layernorm_epsilon: float = 1e-5
    layernorm_zero_centered_gamma: bool = False
    add_bias_linear: bool = True
    activation_func: Any = abs
    ffn_hidden_size: int = 8


class Module:
    """What a built model's modules look like: attributes, and modules by name."""

    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)

    def named_modules(self, path: str = "") -> Iterator[tuple[str, Any]]:
        yield path, self
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield from value.named_modules(f"{path}.{name}".strip("."))


def a(kind: str, **attributes: Any) -> Module:
    """A module whose class has the name `kind`."""
    made: Module = type(kind, (Module,), {})(**attributes)
    return made


def linear(kind: str, **attributes: Any) -> Module:
    given = {"weight": Tensor(8, 4), "bias": Tensor(8), "config": CONFIG, **attributes}
    return a(kind, **given)


def norm(kind: str = "RMSNorm", **attributes: Any) -> Module:
    return a(kind, **{"eps": 1e-5, "zero_centered_gamma": False, "weight": Tensor(4), **attributes})


def fused() -> Module:
    given = {"normalization": "RMSNorm", "eps": 1e-5, "zero_centered_gamma": False}
    return linear("TELayerNormColumnParallelLinear", layer_norm_weight=Tensor(4), **given)


CONFIG = Config()


def core(kind: str = "TEDotProductAttention", **attributes: Any) -> Module:
    inner = a("UnfusedDotProductAttention", softmax_scale=0.5)
    given = {"attn_mask_type": "causal", "attention_dropout": 0.1, "unfused_attention": inner}
    return a(kind, **{**given, "num_attention_heads": 4, **attributes})


def attention(qkv: Module, **attributes: Any) -> Module:
    given = {"core_attention": core(), "linear_qkv": qkv, "attn_mask_type": Mask.causal}
    return a("SelfAttention", **{**given, "q_layernorm": a("IdentityOp"), **attributes})


def default(**attributes: Any) -> Module:
    """A model of one layer with fused norms."""
    mlp = a("MLP", linear_fc1=fused(), activation_func=abs)
    layer = a(
        "TransformerLayer",
        input_layernorm=a("IdentityOp"),
        self_attention=attention(fused()),
        mlp=mlp,
        **attributes,
    )
    return a("GPTModel", layer=layer, config=CONFIG)


def modelopt() -> Module:
    """The same with norms and linears of their own."""
    mlp = a("MLP", linear_fc1=linear("ColumnParallelLinear"), activation_func=abs)
    layer = a(
        "TransformerLayer",
        input_layernorm=norm(),
        self_attention=attention(linear("ColumnParallelLinear")),
        pre_mlp_layernorm=norm(),
        mlp=mlp,
    )
    return a("GPTModel", layer=layer, config=CONFIG)


def problems(one: Module, two: Module) -> list[str]:
    return structure.compare(parts.of_model(one), parts.of_model(two)).problems


def holding(module: Module) -> Module:
    return a("Holder", it=module)


def test_a_fused_model_and_one_with_norms_of_their_own_are_alike() -> None:
    compared = structure.compare(parts.of_model(default()), parts.of_model(modelopt()))
    assert compared.problems == []
    assert (compared.places, compared.replaced) == (
        9,
        {"TELayerNormColumnParallelLinear -> ColumnParallelLinear": 2},
    )
    assert compared.facts > 20
    told = compared.described()["replaced, as wanted"]
    assert "ModelOpt quantizes" in next(iter(told.values()))[1]


def changed(place: str, **attributes: Any) -> list[str]:
    """What is told when the module at `place` of the ModelOpt model has other attributes."""
    model = modelopt()
    found = dict(model.named_modules())[place]
    vars(found).update(attributes)
    return problems(default(), model)


@pytest.mark.parametrize(
    ("place", "attributes", "words"),
    [
        ("layer.self_attention", {"attn_mask_type": Mask.no_mask}, "causal -> no_mask"),
        ("layer.self_attention", {"q_layernorm": norm()}, "additional norm"),
        ("layer.self_attention", {"linear_qkv": linear("RowParallelLinear")}, "-> RowParallel"),
        ("layer.self_attention.core_attention", {"attn_mask_type": "no_mask"}, "-> no_mask"),
        ("layer.self_attention.core_attention", {"num_attention_heads": 2}, "heads 4 -> 2"),
        (
            "layer.self_attention.core_attention.unfused_attention",
            {"softmax_scale": 1.0},
            "softmax_scale 0.5 -> 1.0",
        ),
        ("layer.input_layernorm", {"eps": 1e-2}, "eps 1e-05 -> 0.01"),
        ("layer.input_layernorm", {"zero_centered_gamma": True}, "False -> True"),
        ("layer.input_layernorm", {"weight": Tensor(5)}, "size 4 -> 5"),
        ("layer", {"input_layernorm": norm("LayerNorm")}, "norm RMSNorm -> LayerNorm"),
        ("layer", {"input_layernorm": a("IdentityOp")}, "missing norm at layer.input_layernorm"),
        ("layer", {"cross_attention": attention(fused())}, "additional SelfAttention"),
        ("layer.mlp", {"activation_func": max}, "activation_func builtins.abs -> builtins.max"),
        ("layer.mlp.linear_fc1", {"bias": None}, "bias True -> False"),
        ("layer.mlp.linear_fc1", {"weight": Tensor(8, 5)}, "shape [8, 4] -> [8, 5]"),
        ("layer.mlp.linear_fc1", {"skip_bias_add": True}, "passes its bias on"),
        ("layer.mlp.linear_fc1", {"gather_output": True}, "gather_output False -> True"),
        ("layer.mlp", {"more": 1}, "more (nothing) -> 1"),
        ("", {"config": Config(ffn_hidden_size=9)}, "config.ffn_hidden_size 8 -> 9"),
        ("", {"layer": a("MLP")}, "missing"),
    ],
)
def test_a_difference_is_told(place: str, attributes: dict[str, Any], words: str) -> None:
    assert words in "; ".join(changed(place, **attributes))


def test_a_missing_layer_is_told_once_not_with_all_that_it_holds() -> None:
    one = default()
    vars(one)["other"] = copy.deepcopy(one.layer)  # type: ignore[attr-defined]
    assert problems(one, modelopt()) == ["missing TransformerLayer at other"]


def test_a_difference_in_many_layers_is_told_once() -> None:
    one = {f"layers.{i}": Part("norm", {"eps": 1}) for i in range(9)}
    two = {place: Part("norm", {"eps": 2}) for place in one}
    told = structure.compare(one, two).problems
    assert told == [
        "eps 1 -> 2 at layers.0, layers.1, layers.2, layers.3, layers.4, layers.5 and 3 more"
    ]


def test_a_local_core_of_attention_is_compared_with_transformer_engines() -> None:
    plain = a("DotProductAttention", attn_mask_type=Mask.causal, softmax_scale=0.5)
    vars(plain).update(attention_dropout=a("Dropout", p=0.1), num_attention_heads_per_partition=4)
    assert problems(holding(core()), holding(plain)) == []
    vars(plain).update(softmax_scale=0.25)
    told = problems(holding(core()), holding(plain))
    assert told == ["softmax_scale 0.5 -> 0.25 at it"]
    del plain.softmax_scale  # type: ignore[attr-defined]
    vars(plain).update(norm_factor=2.0)
    assert problems(holding(core()), holding(plain)) == []


def grouped() -> Module:
    given = {"weight0": Tensor(8, 4), "weight1": Tensor(8, 4), "num_gemms": 2}
    kept = {"activation_func": abs, "num_local_experts": 2, "config": CONFIG}
    return a("TEGroupedMLP", linear_fc1=a("TEColumnParallelGroupedLinear", **given), **kept)


def sequential(shape: tuple[int, int] = (8, 4), function: Any = abs) -> Module:
    one = linear("ColumnParallelLinear", weight=Tensor(*shape), bias=None)
    inner = Config(ffn_hidden_size=4)
    mlps = {
        str(i): a("MLP", linear_fc1=one, activation_func=function, config=inner) for i in (0, 1)
    }
    kept = {"num_local_experts": 2, "config": inner}
    return a("SequentialMLP", local_experts=a("ModuleList", **mlps), **kept)


def test_the_matrices_of_all_experts_are_compared_one_by_one() -> None:
    all_of_them = parts.of_model(holding(grouped()))
    compared = structure.compare(all_of_them, parts.of_model(holding(sequential())))
    assert compared.problems == []
    assert compared.replaced["TEColumnParallelGroupedLinear -> ColumnParallelLinear"] == 2
    assert (
        "shape [8, 4] -> [8, 5]"
        in problems(holding(grouped()), holding(sequential(shape=(8, 5))))[0]
    )
    assert "activation_func" in problems(holding(grouped()), holding(sequential(function=max)))[0]


def test_a_whole_linear_for_a_split_one_is_wanted_in_down_projections_only() -> None:
    split, whole = Part("TEColumnParallelLinear"), Part("Linear")
    for place, wrong in (("a.linear_q_down_proj", False), ("a.linear_fc1", True)):
        assert bool(structure.compare({place: split}, {place: whole}).problems) is wrong


def test_a_linear_of_transformer_engine_must_not_be_left_in_the_modelopt_model() -> None:
    assert problems(default(), default()) == [
        "TELayerNormColumnParallelLinear is not replaced at"
        " layer.self_attention.linear_qkv, layer.mlp.linear_fc1"
    ]


def test_a_detail_is_compared_that_has_the_name_of_a_fact() -> None:
    one, two = (
        {"a": Part("MLP", {"bias": True}, {"bias": b})} for b in ([4, "half"], [4, "float"])
    )
    assert structure.compare(one, two).problems == [
        "bias [4, 'half'] -> [4, 'float'] at a",
    ]


def test_every_wanted_difference_has_a_reason_and_is_of_a_kind_that_is_known() -> None:
    for one in structure.REPLACED:
        assert one.why
        assert (one.default in parts.LINEARS) == (one.modelopt in parts.LINEARS)


kinds = st.sampled_from(["MLP", "norm", "ColumnParallelLinear", "SelfAttention"])
facts = st.dictionaries(st.sampled_from("abc"), st.integers(0, 3), max_size=3)
some = st.dictionaries(
    st.sampled_from(["x", "x.y", "z"]), st.builds(Part, kinds, facts, facts), max_size=3
)


@given(some, some)
def test_parts_are_alike_only_where_they_are_equal(
    one: dict[str, Part], two: dict[str, Part]
) -> None:
    assert structure.compare(one, one).problems == []
    assert (structure.compare(one, two).problems == []) == (one == two)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists))
def test_plain_data_stays_equal_to_itself(value: Any) -> None:
    assert parts.plain(value) == parts.plain(copy.deepcopy(value))


def test_what_is_no_data_is_not_compared() -> None:
    assert parts.plain(object()) is NotImplemented
    assert parts.plain([object()]) is NotImplemented
    assert parts.plain(Mask.causal) == "causal"
    assert parts.plain(abs) == "builtins.abs"
    assert parts.plain(functools.partial(abs)) == "partial(builtins.abs)"


def test_what_counts_modules_or_is_private_is_not_compared() -> None:
    one, two = a("Router", name="Layer_1", _cache=1), a("Router", name="Layer_7", _cache=2)
    assert problems(one, two) == []


def test_small_tensors_are_compared_by_value_and_large_ones_by_shape() -> None:
    rotary = parts.of_model(a("Rotary", inv=Tensor(2), table=Tensor(64, 64)))[""]
    assert rotary.details == {"inv": [0, 0], "table": [[64, 64], "float32"]}


def test_a_model_that_is_what_its_configuration_says_is_found_good() -> None:
    found = structure.unlike_config(parts.of_model(default()), CONFIG, qk_norm="nothing")
    assert found == []


@pytest.mark.parametrize(
    ("setting", "qk_norm", "words"),
    [
        ({"layernorm_epsilon": 1e-2}, None, "eps is 1e-05, configured 0.01"),
        ({"normalization": "LayerNorm"}, None, "norm is RMSNorm, configured LayerNorm"),
        ({"layernorm_zero_centered_gamma": True}, None, "zero_centered_gamma is False"),
        ({"add_bias_linear": False}, None, "bias is True, configured False"),
        ({"activation_func": max}, None, "activation_func is builtins.abs"),
        ({}, "L2Norm", "q_layernorm is nothing, configured L2Norm"),
    ],
)
def test_what_both_specs_ignore_alike_is_told(
    setting: dict[str, Any], qk_norm: str | None, words: str
) -> None:
    told = structure.unlike_config(parts.of_model(default()), Config(**setting), qk_norm=qk_norm)
    assert words in "; ".join(told)


def test_a_mask_that_is_not_causal_is_told() -> None:
    model = default()
    vars(model.layer.self_attention)["attn_mask_type"] = Mask.no_mask  # type: ignore[attr-defined]
    told = structure.unlike_config(parts.of_model(model), CONFIG, qk_norm=None)
    assert told == ["attn_mask_type is no_mask, configured causal at layer.self_attention"]


@dataclass
class ModuleSpec:
    module: Any
    submodules: Any = None
    params: dict[str, Any] = field(default_factory=dict)


@dataclass
class Submodules:
    input_layernorm: Any = None
    self_attention: Any = None


@dataclass
class Inner:
    in_proj: Any = None
    out_norm: Any = None


def named(name: str) -> type:
    return type(name, (), {"__qualname__": name})


def spec(in_proj: str, norm: str | None, out_norm: str | None, mask: str = "causal") -> ModuleSpec:
    inner = Inner(named(in_proj), out_norm and named(out_norm))
    own = ModuleSpec(named("GatedDeltaNet"), inner, {"attn_mask_type": mask})
    return ModuleSpec(named("TransformerLayer"), Submodules(norm and named(norm), own))


FUSED = spec("TELayerNormColumnParallelLinear", None, "TENorm")


def of_specs(modelopt: ModuleSpec) -> list[str]:
    return structure.compare(parts.of_spec(FUSED), parts.of_spec(modelopt)).problems


def test_specs_are_compared_as_models_are() -> None:
    assert of_specs(spec("ColumnParallelLinear", "Norm", "Norm")) == []


@pytest.mark.parametrize(
    ("modelopt", "words"),
    [
        (spec("ColumnParallelLinear", "Norm", None), "missing norm at self_attention.out_norm"),
        (spec("ColumnParallelLinear", "Norm", "IdentityOp"), "missing norm"),
        (spec("ColumnParallelLinear", None, "Norm"), "missing norm at input_layernorm"),
        (spec("RowParallelLinear", "Norm", "Norm"), "-> RowParallelLinear"),
        (spec("ColumnParallelLinear", "Norm", "Norm", "none"), "attn_mask_type causal -> none"),
    ],
)
def test_a_difference_between_specs_is_told(modelopt: ModuleSpec, words: str) -> None:
    assert words in "; ".join(of_specs(modelopt))


def test_further_pairs_of_classes_may_be_allowed() -> None:
    one, two = {"x": Part("Absorbed")}, {"x": Part("Plain")}
    assert structure.compare(one, two).problems == ["Absorbed -> Plain at x"]
    assert structure.compare(one, two, also=(("Absorbed", "Plain"),)).problems == []
