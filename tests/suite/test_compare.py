"""Negative controls of the comparing functions: each is given a break, and must name it."""

from __future__ import annotations

import pytest

from suite import compare
from suite.compare import Digest, digest

DEFAULT = {
    "decoder.layers.0.self_attention.linear_qkv.layer_norm_weight": digest(b"qkv", (3,), "float32"),
    "decoder.layers.0.self_attention.linear_qkv.weight": digest(b"w", (3, 3), "float32"),
    "decoder.layers.0.mlp.linear_fc1.layer_norm_weight": digest(b"fc1", (3,), "float32"),
}
MODELOPT = {
    "decoder.layers.0.input_layernorm.weight": digest(b"qkv", (3,), "float32"),
    "decoder.layers.0.self_attention.linear_qkv.weight": digest(b"w", (3, 3), "float32"),
    "decoder.layers.0.pre_mlp_layernorm.weight": digest(b"fc1", (3,), "float32"),
}
NORM = "decoder.layers.0.input_layernorm.weight"
OTHER_NORM = "decoder.layers.0.pre_mlp_layernorm.weight"


def saved() -> dict[str, Digest]:
    return compare.renamed(DEFAULT)


def test_a_whole_restore_is_without_fault() -> None:
    assert compare.tensors(saved(), MODELOPT) == []


def test_names_of_a_modelopt_model_stay_as_they_are() -> None:
    assert compare.renamed(MODELOPT) == MODELOPT


@pytest.mark.parametrize(
    ("fused", "own"),
    [
        ("a.self_attention.linear_qkv.layer_norm_bias", "a.input_layernorm.bias"),
        (
            "a.self_attention.linear_q_up_proj.layer_norm_weight",
            "a.self_attention.q_layernorm.weight",
        ),
        (
            "a.self_attention.linear_kv_up_proj.layer_norm_weight",
            "a.self_attention.kv_layernorm.weight",
        ),
        ("a.mlp.linear_fc1.layer_norm_weight", "a.pre_mlp_layernorm.weight"),
        ("a.mixer.in_proj.layer_norm_weight", "a.norm.weight"),
        ("a.mlp.linear_fc1.weight", "a.mlp.linear_fc1.weight"),
    ],
)
def test_a_fused_norm_has_the_name_of_the_norm_that_stands_for_it(fused: str, own: str) -> None:
    assert compare.unfused(fused) == own


def test_a_dropped_key_map_entry_is_seen_on_both_sides() -> None:
    given = compare.renamed(DEFAULT, lambda name: name)
    problems = compare.tensors(given, MODELOPT)
    assert any("not restored" in p and "linear_qkv.layer_norm_weight" in p for p in problems)
    assert any("not from the checkpoint" in p and NORM in p for p in problems)


def test_two_norms_swapped_by_a_wrong_map_are_seen() -> None:
    swapped = {**MODELOPT, NORM: MODELOPT[OTHER_NORM], OTHER_NORM: MODELOPT[NORM]}
    assert compare.tensors(saved(), swapped) == [f"2 of other values: {NORM}, {OTHER_NORM}"]


def test_one_changed_bit_is_seen() -> None:
    changed = {**MODELOPT, NORM: digest(b"qkw", (3,), "float32")}
    assert compare.tensors(saved(), changed) == [f"1 of other values: {NORM}"]


@pytest.mark.parametrize(
    ("other", "word"),
    [(digest(b"qkv", (3, 1), "float32"), "shape"), (digest(b"qkv", (3,), "bfloat16"), "dtype")],
)
def test_equal_bytes_of_another_shape_or_dtype_are_not_equal(other: Digest, word: str) -> None:
    (problem,) = compare.tensors(saved(), {**MODELOPT, NORM: other})
    assert f"of another {word}" in problem


def test_a_missing_tensor_is_seen() -> None:
    less = {name: one for name, one in MODELOPT.items() if name != NORM}
    assert compare.tensors(saved(), less) == [f"1 not restored, nothing has its name: {NORM}"]


def test_an_unexpected_tensor_is_seen() -> None:
    more = {**MODELOPT, "stray": digest(b"", (0,), "float32")}
    assert compare.tensors(saved(), more) == ["1 not from the checkpoint: stray"]


def test_nothing_to_compare_is_a_fault() -> None:
    assert compare.tensors({}, {}) == ["there is no tensor to compare"]


def test_a_tensor_that_kept_the_sentinel_is_seen() -> None:
    sentinel = digest(b"sentinel", (3,), "float32")
    before = dict.fromkeys(MODELOPT, sentinel)
    assert compare.untouched(before, MODELOPT) == []
    (problem,) = compare.untouched(before, {**MODELOPT, NORM: sentinel})
    assert NORM in problem


def test_a_strict_load_reports_either_side() -> None:
    (left,) = compare.keys({"decoder.weight"}, ())
    assert left == "1 in the checkpoint, but not asked for: decoder.weight"
    (asked,) = compare.keys((), {"decoder.bias"})
    assert asked == "1 asked for, but not in the checkpoint: decoder.bias"


def test_extra_states_are_no_tensors() -> None:
    assert compare.keys({"a._extra_state"}, {"b._extra_state/shard_0_1"}) == []


def test_names_that_would_collide_are_refused() -> None:
    both = {**DEFAULT, **MODELOPT}
    with pytest.raises(ValueError, match="two tensors would be named"):
        compare.renamed(both)


def test_the_total_depends_on_names_values_shapes_and_dtypes_but_not_on_order() -> None:
    backwards = dict(reversed(MODELOPT.items()))
    assert compare.total(backwards) == compare.total(MODELOPT)
    for other in (b"x", (3,), "float32"), (b"qkv", (1, 3), "float32"), (b"qkv", (3,), "float16"):
        assert compare.total({**MODELOPT, NORM: digest(*other)}) != compare.total(MODELOPT)
    moved = {f"x.{name}": one for name, one in MODELOPT.items()}
    assert compare.total(moved) != compare.total(MODELOPT)


def test_quantizers_that_differ_are_told_with_both_descriptions() -> None:
    wanted = {"a": "8 bits", "b": "4 bits", "c": "fp8"}
    problems = compare.differing(wanted, {"a": "8 bits", "b": "8 bits", "d": "fp8"}, "quantizers")
    assert problems == [
        "1 missing quantizers: c",
        "1 additional quantizers: d",
        "1 other quantizers: b (4 bits -> 8 bits)",
    ]
    assert compare.differing(wanted, wanted, "quantizers") == []


def test_many_names_are_counted_but_not_all_shown() -> None:
    many = {f"layer{n}": digest(b"", (0,), "float32") for n in range(20)}
    (problem,) = compare.tensors({**MODELOPT, **many}, MODELOPT)
    assert problem.startswith("20 not restored")
    assert problem.endswith("and 14 more")


def test_the_last_line_of_an_error_names_its_cause() -> None:
    assert compare.last_line(RuntimeError("in general\n\nMissing key: x\n")) == "Missing key: x"
    assert compare.last_line(RuntimeError()) == "no message"


def test_a_grouped_linears_matrices_stand_for_one_expert_each() -> None:
    name = "decoder.layers.1.mlp.experts.linear_fc1.weight12"
    own = "decoder.layers.1.mlp.experts.local_experts.12.linear_fc1.weight"
    assert compare.unfused(name) == own
    assert compare.unfused(own) == own
    assert compare.unfused("decoder.layers.1.mlp.shared_experts.linear_fc1.weight") != own
