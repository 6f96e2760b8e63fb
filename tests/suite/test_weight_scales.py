"""Scales from weights, without torch: what decides, and what is said, of made-up quantizers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from suite import quantizers, weight_scales
from suite.quantizers import Weighed


def weighed(name: str, weights: int = 1, module: Any = None, **attributes: Any) -> Weighed:
    return Weighed(name, SimpleNamespace(**attributes), {}, [0.0] * weights, module)


def test_the_same_linear_of_all_experts_is_one_group() -> None:
    names = [f"mlp.experts.local_experts.{i}.{fc}.w" for i in (0, 1) for fc in ("fc1", "fc2")]
    groups = weight_scales.siblings(weighed(name) for name in [*names, "mlp.fc1.w"])
    assert sorted(len(group) for group in groups.values()) == [1, 2, 2]


def test_only_blocks_along_the_last_axis_are_known() -> None:
    assert weight_scales.block_size({"block_sizes": {-1: 128, "type": "static"}}) == 128
    assert weight_scales.block_size({"block_sizes": None}) is None
    with pytest.raises(ValueError, match="other axes"):
        weight_scales.block_size({"block_sizes": {-1: 128, -2: 128}})


def test_several_matrices_are_calibrated_where_the_release_can_list_them() -> None:
    def lists(count: int) -> Any:
        return SimpleNamespace(iter_weights_for_calibration=lambda: iter(range(count)))

    assert weight_scales.must_be_calibrated(weighed("a"))
    assert not weight_scales.must_be_calibrated(weighed("a", _dynamic=True))
    assert not weight_scales.must_be_calibrated(weighed("a", 2, object()))
    assert not weight_scales.must_be_calibrated(weighed("a", 2, lists(0)))
    assert weight_scales.must_be_calibrated(weighed("a", 2, lists(2)))


def test_an_enabled_quantizer_without_a_scale_is_told() -> None:
    compared, problems = weight_scales.wrong_scales([weighed("fc1.weight_quantizer")])
    assert compared == 0
    assert problems == [
        "1 enabled quantizers of weights without a scale: fc1.weight_quantizer",
    ]


def test_a_refused_extension_is_a_question_for_a_gpu() -> None:
    with pytest.raises(RuntimeError, match="CUDA is not available"):
        weight_scales.refuse("modelopt_cuda_ext")


def test_a_modes_state_is_compared_leaf_by_leaf_without_the_quantizers() -> None:
    state = {"config": {"algorithm": "max"}, "metadata": {"quantizer_state": {"a": 1}}}
    found = quantizers.leaves("0 quantize", state)
    assert found == {"0 quantize.config.algorithm": "max", "0 quantize.metadata": {}}
    assert quantizers.leaves("0 quantize", {**state, "metadata": {}}) == found


def test_a_quantizer_belongs_to_the_module_above_it_and_above_its_list() -> None:
    assert quantizers.layer_of("mlp.fc1.weight_quantizer") == "mlp.fc1"
    assert quantizers.layer_of("mlp.fc1.weight_quantizer.0") == "mlp.fc1"
