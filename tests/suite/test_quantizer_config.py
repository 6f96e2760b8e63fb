"""What a ModelOpt configuration asks of a quantizer, in the old form and in the new."""

from __future__ import annotations

from typing import Any

import pytest

from suite import quantizer_config
from suite.quantizer_config import Asked

OLD = {
    "*weight_quantizer": {"num_bits": 8, "axis": 0},
    "*input_quantizer": {"num_bits": 8, "axis": None},
    "nn.BatchNorm1d": {"*": {"enable": False}},
    "*router*": {"enable": False},
    "*output_layer*": {"enable": False},
    "default": {"enable": False},
}
NEW = [
    {"quantizer_name": "*", "enable": False},
    {"quantizer_name": "*weight_quantizer", "cfg": {"num_bits": 8, "axis": 0}},
    {"quantizer_name": "*input_quantizer", "cfg": {"num_bits": 8, "axis": None}},
    {"quantizer_name": "*router*", "enable": False},
    {"quantizer_name": "*output_layer*", "enable": False},
    {"quantizer_name": "*", "parent_class": "nn.BatchNorm1d", "enable": False},
]


def ask(config: Any, name: str, kind: str = "") -> Asked:
    return quantizer_config.asked(quantizer_config.rules(config), name, lambda key: key == kind)


@pytest.mark.parametrize("config", [OLD, NEW])
def test_the_last_rule_that_matches_decides(config: Any) -> None:
    expert = "decoder.layers.1.mlp.experts.local_experts.0.linear_fc1"
    assert ask(config, f"{expert}.weight_quantizer") == Asked(True, {"num_bits": 8, "axis": 0})
    assert ask(config, f"{expert}.output_quantizer").enabled is False
    assert ask(config, "output_layer.weight_quantizer").enabled is False
    assert ask(config, "mlp.router.weight_quantizer").enabled is False


@pytest.mark.parametrize("config", [OLD, NEW])
def test_a_class_is_asked_of_the_module_that_has_the_quantizer(config: Any) -> None:
    assert ask(config, "norm.weight_quantizer", "nn.BatchNorm1d").enabled is False
    assert ask(config, "norm.weight_quantizer", "nn.Linear").enabled is True


@pytest.mark.parametrize("config", [OLD, NEW])
def test_a_quantizer_for_each_matrix_is_one_of_the_weight(config: Any) -> None:
    assert ask(config, "experts.linear_fc1.weight_quantizers.1").enabled is True


def test_turning_off_keeps_settings_in_a_list_and_resets_them_in_a_dict() -> None:
    assert ask(NEW, "output_layer.weight_quantizer").settings == {"num_bits": 8, "axis": 0}
    assert ask(OLD, "output_layer.weight_quantizer").settings == {}


def test_block_sizes_are_a_setting_and_no_class_of_modules() -> None:
    config = {"*weight_quantizer": {"block_sizes": {-1: 128, "type": "static"}}}
    assert ask(config, "a.weight_quantizer").settings == config["*weight_quantizer"]


def test_a_list_may_hold_pairs_of_the_old_form() -> None:
    config = [{"default": {"enable": False}}, {"*weight_quantizer": {"num_bits": 4}}]
    assert ask(config, "a.weight_quantizer") == Asked(True, {"num_bits": 4})
    assert ask(config, "a.input_quantizer") == Asked(False, {})


def test_of_what_no_rule_names_nothing_is_asked() -> None:
    assert ask([], "a.weight_quantizer") == Asked(None, {})


def test_an_entry_of_no_known_form_is_told() -> None:
    with pytest.raises(ValueError, match="no known form"):
        quantizer_config.rules([{"pattern": "*", "enable": True}])
