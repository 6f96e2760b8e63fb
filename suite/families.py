"""The families' sizes: as small as each architecture allows, so that a check takes seconds."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

SEED = 1234
VOCABULARY = 128
SEQUENCE = 8
"""Tokens in a sequence, and the longest that a model takes."""

PATTERN = "M*-"
"""The hybrid's layers: Mamba, attention, MLP."""

_DENSE: dict[str, Any] = {
    "num_layers": 2,
    "hidden_size": 128,
    "num_attention_heads": 4,
    "ffn_hidden_size": 256,
    "use_cpu_initialization": True,
}
_EXPERTS: dict[str, Any] = {
    **_DENSE,
    "hidden_size": 256,
    "num_moe_experts": 2,
    "moe_layer_freq": [0, 1],
    "moe_ffn_hidden_size": 128,
    "moe_shared_expert_intermediate_size": 128,
    "add_bias_linear": False,
}
_LLAMA4: dict[str, Any] = {**_EXPERTS, "normalization": "RMSNorm"}
_LATENT: dict[str, Any] = {
    **_EXPERTS,
    "qk_layernorm": True,
    "q_lora_rank": 128,
    "kv_lora_rank": 128,
}
_HYBRID: dict[str, Any] = {
    "num_layers": 3,
    "hidden_size": 256,
    "num_attention_heads": 4,
    "normalization": "RMSNorm",
    "use_cpu_initialization": True,
}

VARIANTS: dict[str, dict[str, Any]] = {
    "qk-layernorm": {"qk_layernorm": True},
    "layernorm": {"normalization": "LayerNorm"},
    "experts": {
        "pattern": "M*E",
        "num_moe_experts": 2,
        "moe_ffn_hidden_size": 128,
        "moe_shared_expert_intermediate_size": 128,
        "add_bias_linear": False,
    },
}
"""By name: what a family's configuration is made into."""

TIED = {"share_embeddings_and_output_weights": True}
PADDED = {"vocab_size": VOCABULARY + 64}
"""More rows than there are words, as a model over more ranks has them."""

ROTARY = {"position_embedding_type": "rope", "rotary_base": 500_000}
"""As Llama has it, in place of learned positions."""

OF_MODEL = frozenset({"pattern", *TIED, *PADDED, *ROTARY})
"""What is no value of a configuration but an argument of the model; `pattern` is that of a hybrid's
layers."""

GROUPED = {"moe_grouped_gemm": True}
"""How large models with experts are trained: one matrix product for all experts."""


def split(changed: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Of what is changed: the values of a configuration, and the arguments of the model."""
    of_model = {name: value for name, value in changed.items() if name in OF_MODEL}
    return {n: value for n, value in changed.items() if n not in of_model}, of_model


CONFIG = "megatron.core.transformer.transformer_config"


def config(family: str, **changed: Any) -> Any:
    """The family's configuration object, with some of its values `changed`.

    Raises:
        TypeError: the release does not take it.
    """
    module = importlib.import_module(CONFIG)
    if family == "mla-moe":
        return module.MLATransformerConfig(**{**_LATENT, **changed})
    if family == "llama4-moe":
        given = {**_LLAMA4, **changed}
        if "qk_l2_norm" in inspect.signature(module.TransformerConfig).parameters:
            given["qk_l2_norm"] = True
        return module.TransformerConfig(**given)
    sizes = {"gpt": _DENSE, "hybrid-mamba": _HYBRID}[family]
    return module.TransformerConfig(**{**sizes, **changed})
