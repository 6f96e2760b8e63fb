"""Checkpoints that stand in for real ones: names and digests."""

from __future__ import annotations

from dataclasses import replace

from suite.compare import digest
from suite.exchange.kept import Manifest, Tensor

WEIGHT = "decoder.layers.0.self_attention.linear_qkv.weight"
NORM = "decoder.layers.0.self_attention.linear_qkv.layer_norm_weight"
OWN_NORM = "decoder.layers.0.input_layernorm.weight"
SENTINEL = digest(b"sentinel", (2,), "float32")
AXIS = {"enabled": True, "num_bits": [4, 3], "axis": None, "text": "fp8"}
OFF = {"enabled": False, "num_bits": 8, "axis": None, "text": "disabled"}
CELL = "compat-0.1-modelopt0.2"


def tensor(data: bytes, key: str | None) -> Tensor:
    one = digest(data, (2,), "float32")
    return Tensor(one.sha256, one.shape, one.dtype, key)


WHOLE = Manifest(
    family="gpt",
    kind="default",
    seed=1,
    versions={"megatron-core": "0.1.0"},
    configuration={"num_layers": 2},
    tensors={WEIGHT: tensor(b"w", WEIGHT), NORM: tensor(b"n", NORM)},
    extra_states=(),
    quantizers={},
    modes={},
)
QUANTIZED = replace(
    WHOLE,
    kind="quantized",
    tensors={WEIGHT: tensor(b"w", WEIGHT), OWN_NORM: tensor(b"n", NORM)},
    quantizers={"weight_quantizer": AXIS, "output_quantizer": OFF},
    modes={"0": "quantize"},
)
