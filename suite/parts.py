"""Reduces a model, or a spec, to what stands at each place. Pure: it looks at attributes only.

A place is a dotted path. Both are brought to one form, that of the model with modules of its own
for all: the norm inside a fused linear stands where that model has it, the matrices of all
experts stand one by one, and what does nothing stands nowhere.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from suite import specs

NORM = "norm"
"""The kind of every norm: which class it is of is the design's business, its facts are not."""

ON_REQUEST = {"TEActivationOp": "is built where use_te_activation_func=True, else not at all"}
"""Classes in a default spec that may have no like in a ModelOpt spec, and why."""

LINEARS = frozenset(
    {
        "ColumnParallelLinear",
        "Linear",
        "RowParallelLinear",
        "TEColumnParallelGroupedLinear",
        "TEColumnParallelLinear",
        "TELayerNormColumnParallelLinear",
        "TELinear",
        "TERowParallelGroupedLinear",
        "TERowParallelLinear",
    }
)
CORES = frozenset({"TEDotProductAttention", "DotProductAttention"})
NORMS = {
    "LayerNorm": "LayerNorm",
    "FusedLayerNorm": "LayerNorm",
    "RMSNorm": "RMSNorm",
    "L2Norm": "L2Norm",
}
"""By a norm's class, in whichever package: what it computes."""

SPEC_NORMS = frozenset({*NORMS, "Norm", "TENorm", "WrappedTorchNorm"})
"""Classes that a spec has where a norm stands; what they build depends on the configuration."""

_HOLDERS = frozenset({"ModuleList", "ModuleDict", "Sequential"})
_LABELS = frozenset({"config", "name"})
"""Attributes that are compared apart, or that only count modules."""

_ELEMENTS = 256
"""Up to how many elements of a tensor that is no parameter are compared, not only its shape."""


@dataclass(frozen=True)
class Part:
    """What stands at one place.

    `facts` are the same whichever class stands there; `details`, all plain attributes, can only
    be compared between modules of one class, or where they are in both.
    """

    kind: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] | None = None


def of_model(model: Any) -> dict[str, Part]:
    """By place, the parts of a built model."""
    parts: dict[str, Part] = {}
    configs: dict[int, Mapping[str, Any]] = {}
    core = None
    for place, module in model.named_modules():
        name = type(module).__name__
        if core is not None and place.startswith(f"{core}."):
            continue  # how it computes; what it computes are facts of the core itself
        if specs.is_identity(module) or name in _HOLDERS:
            continue
        if name in CORES:
            core = place
        config = getattr(module, "config", None)
        if dataclasses.is_dataclass(config) and id(config) not in configs:
            configs[id(config)] = _settings(config)
        parts.update(_of_module(place, module, configs.get(id(config))))
    return parts


def _of_module(
    place: str, module: Any, config: Mapping[str, Any] | None
) -> Iterator[tuple[str, Part]]:
    name = type(module).__name__
    if name in NORMS:
        yield place, Part(NORM, norm_facts(module))
        return
    details = _details(module)
    experts = getattr(module, "num_gemms", None)
    if name in LINEARS and experts is not None:
        for expert in range(experts):
            yield expert_place(place, expert), Part(name, linear_facts(module, expert))
        return
    if name in LINEARS:
        yield place, Part(name, linear_facts(module), details, config)
        if hasattr(module, "layer_norm_weight"):
            yield norm_place(place), Part(NORM, fused_norm_facts(module))
        return
    yield place, Part(name, core_facts(module) if name in CORES else {}, details, config)
    if name == "TEGroupedMLP":
        for expert in range(module.num_local_experts):
            yield f"{place}.local_experts.{expert}", Part(name, {}, details, config)


def norm_place(linear: str) -> str:
    """Where the norm stands that a linear at this place has inside, if it stands alone."""
    for place, norm in specs.NORM_OF.items():
        if linear == place or linear.endswith(f".{place}"):
            return linear.removesuffix(place) + norm.rstrip(".")
    return f"{linear}.layer_norm"


def expert_place(linear: str, expert: int) -> str:
    """Where the linear of one expert stands, for a linear that holds the matrices of all."""
    parent, _, name = linear.rpartition(".")
    return f"{parent}.local_experts.{expert}.{name}"


def linear_facts(linear: Any, expert: int | None = None) -> dict[str, Any]:
    """What a linear computes, Transformer Engine's or Megatron's; of one expert, where it has
    the matrices of several."""
    suffix = "" if expert is None else str(expert)
    weight = getattr(linear, f"weight{suffix}")
    bias = getattr(linear, f"bias{suffix}", None)
    biased = bias is not None and bias.numel() > 0
    passed_on = getattr(linear, "te_return_bias", getattr(linear, "_return_bias", None))
    if passed_on is None:
        passed_on = bool(getattr(linear, "skip_bias_add", False)) and biased
    return {
        "shape": plain(weight.shape),
        "dtype": plain(weight.dtype),
        "bias": biased,
        "passes its bias on": passed_on,
        # Transformer Engine's linears gather nothing and always take what is split already.
        "gather_output": getattr(linear, "gather_output", False),
        "input_is_parallel": getattr(linear, "input_is_parallel", True),
        "sequence_parallel": getattr(linear, "sequence_parallel", False),
    }


def norm_facts(norm: Any) -> dict[str, Any]:
    weight = getattr(norm, "weight", None)
    return {
        "norm": NORMS[type(norm).__name__],
        "eps": norm.eps,
        "zero_centered_gamma": bool(getattr(norm, "zero_centered_gamma", False)),
        "size": norm.hidden_size if weight is None else weight.shape[-1],
        "bias": getattr(norm, "bias", None) is not None,
    }


def fused_norm_facts(linear: Any) -> dict[str, Any]:
    """`norm_facts` of the norm inside a linear."""
    return {
        "norm": linear.normalization,
        "eps": linear.eps,
        "zero_centered_gamma": bool(linear.zero_centered_gamma),
        "size": linear.layer_norm_weight.shape[-1],
        "bias": getattr(linear, "layer_norm_bias", None) is not None,
    }


def core_facts(core: Any) -> dict[str, Any]:
    """What the core of an attention computes, Transformer Engine's or Megatron's."""
    dropout = core.attention_dropout
    scale = getattr(getattr(core, "unfused_attention", core), "softmax_scale", None)
    if scale is None and hasattr(core, "norm_factor"):  # older ones divide
        scale = 1.0 / core.norm_factor
    heads = ("num_attention_heads", "num_attention_heads_per_partition")
    groups = ("num_gqa_groups_per_partition", "num_query_groups_per_partition")
    mask = core.attn_mask_type
    return {
        "attn_mask_type": mask.name if isinstance(mask, enum.Enum) else str(mask),
        "softmax_scale": None if scale is None else float(f"{scale:.9g}"),
        "dropout": getattr(dropout, "p", dropout),
        "heads": next((getattr(core, name) for name in heads if hasattr(core, name)), None),
        "groups": next((getattr(core, name) for name in groups if hasattr(core, name)), None),
    }


def _details(module: Any) -> dict[str, Any]:
    """All plain attributes of a module, and what is plain of its parameters and buffers."""
    found = {}
    for name, value in vars(module).items():
        if not name.startswith("_") and name not in _LABELS:
            if hasattr(value, "numel"):
                value = _tensor(value)
            if (data := plain(value)) is not NotImplemented:
                found[name] = data
    for name, value in getattr(module, "_parameters", {}).items():
        found[name] = None if value is None else plain((value.shape, value.dtype))
    for name, value in getattr(module, "_buffers", {}).items():
        found[name] = None if value is None else plain(_tensor(value))
    return found


def _tensor(tensor: Any) -> Any:
    """The values of a small tensor, else its shape; what has no storage has a shape only."""
    small = tensor.numel() <= _ELEMENTS and not getattr(tensor, "is_meta", False)
    return tensor.tolist() if small else (tensor.shape, tensor.dtype)


def _settings(config: Any) -> dict[str, Any]:
    values = {
        one.name: plain(getattr(config, one.name, None)) for one in dataclasses.fields(config)
    }
    return {name: value for name, value in values.items() if value is not NotImplemented}


def plain(value: Any) -> Any:
    """`value` as JSON data that is equal for equal meanings; NotImplemented where it has none."""
    if value is None or isinstance(value, (bool, int, str)):
        return value.name if isinstance(value, enum.Enum) else value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, (list, tuple)):
        items = [plain(item) for item in value]
        return NotImplemented if any(item is NotImplemented for item in items) else items
    if type(value).__name__ in ("dtype", "device"):
        return str(value)
    if callable(value) and (hasattr(value, "__qualname__") or hasattr(value, "func")):
        return specs.name_of(value)
    return NotImplemented


def of_spec(spec: Any) -> dict[str, Part]:
    """By place, the parts of a spec; the spec's own module stands at the empty path."""
    given = specs.parameters(spec)
    parts = {}
    for place, thing in specs.places(spec).items():
        name = specs.name_of(thing).rpartition(".")[2]
        facts = {key: plain(value) for key, value in given.get(place, {}).items()}
        facts = {key: value for key, value in facts.items() if value is not NotImplemented}
        if specs.is_identity(thing) or name in ON_REQUEST:
            continue
        parts[place] = Part(NORM if name in SPEC_NORMS else name, facts)
        if specs.is_fused(thing):
            parts[norm_place(place)] = Part(NORM)
    return parts
