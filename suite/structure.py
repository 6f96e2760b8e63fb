"""Reduces a model, or a spec, to what stands at each place, and compares two. Pure: no torch.

A place is a dotted path. Before they are compared, both sides are brought to one form, that of
the model with modules of its own for all: the norm inside a fused linear stands where that model
has it, the matrices of all experts stand one by one, and what does nothing stands nowhere.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from suite import specs
from suite.compare import SHOWN

NORM = "norm"
"""The kind of every norm: which class it is of is the design's business, its facts are not."""


@dataclass(frozen=True)
class Replaced:
    """A difference that the design wants: the class in the default, the one in the ModelOpt.

    `settings` may then differ as well in what the two are configured with. `only`: last names of
    the places where it is wanted; everywhere where there are none.
    """

    default: str
    modelopt: str
    why: str
    settings: tuple[str, ...] = ()
    only: tuple[str, ...] = ()


_NATIVE = "ModelOpt quantizes Megatron's own linears"
_ALONE = "ModelOpt quantizes Megatron's own linears; the norm inside stands before it"
_EXPERTS = "ModelOpt quantizes each expert by itself"
_WHOLE = "what it gives is gathered where it is split, so each rank may as well have all of it"
_DOWN = ("linear_q_down_proj", "linear_kv_down_proj")
_SIZES = ("ffn_hidden_size",)  # experts by themselves get theirs there; weights' shapes tell
_LOCAL = "what local_core_attention=True asks for"
_PLAIN = "the same layer; its class only skips what is not there, or splits it for CUDA graphs"

REPLACED = (
    Replaced("TELayerNormColumnParallelLinear", "ColumnParallelLinear", _ALONE),
    Replaced("TEColumnParallelLinear", "ColumnParallelLinear", _NATIVE),
    Replaced("TERowParallelLinear", "RowParallelLinear", _NATIVE),
    Replaced("TELinear", "Linear", _NATIVE),
    Replaced("TEColumnParallelLinear", "Linear", _WHOLE, only=_DOWN),
    Replaced("TEColumnParallelGroupedLinear", "ColumnParallelLinear", _EXPERTS),
    Replaced("TERowParallelGroupedLinear", "RowParallelLinear", _EXPERTS),
    Replaced("TEGroupedMLP", "SequentialMLP", _EXPERTS, _SIZES),
    Replaced("TEGroupedMLP", "MLP", _EXPERTS, _SIZES),
    Replaced("TEDotProductAttention", "DotProductAttention", _LOCAL),
    Replaced("MLPLayer", "TransformerLayer", _PLAIN),
    Replaced("MoETransformerLayer", "TransformerLayer", _PLAIN),
)
"""All that may differ between a default model and a ModelOpt model, apart from norms' classes."""

ON_REQUEST = {"TEActivationOp": "is built where use_te_activation_func=True, else not at all"}
"""Classes in a default spec that may have no like in a ModelOpt spec, and why."""

LINEARS = frozenset(
    name for one in REPLACED for name in (one.default, one.modelopt) if name.endswith("Linear")
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
        if not name.startswith("_") and name != "config":
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


@dataclass
class Comparison:
    """What was compared, and in words what is wrong."""

    places: int = 0
    facts: int = 0
    replaced: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def described(self) -> dict[str, Any]:
        why = {f"{one.default} -> {one.modelopt}": one.why for one in REPLACED}
        wanted = {pair: [count, why.get(pair)] for pair, count in sorted(self.replaced.items())}
        return {"places": self.places, "facts": self.facts, "replaced, as wanted": wanted}


def replaced(place: str, default: str, modelopt: str) -> Replaced | None:
    """The difference that the design wants at `place` between parts of these kinds."""
    name = place.rpartition(".")[2]
    for one in REPLACED:
        if (one.default, one.modelopt) == (default, modelopt) and name in (one.only or (name,)):
            return one
    return None


def compare(
    default: Mapping[str, Part],
    modelopt: Mapping[str, Part],
    also: tuple[tuple[str, str], ...] = (),
) -> Comparison:
    """Compare the parts of the default side with those of the ModelOpt side.

    `also` are further pairs of classes that may replace each other.
    """
    result = Comparison()
    result.problems += _only_in(default, modelopt, "missing")
    result.problems += _only_in(modelopt, default, "additional")
    found: dict[str, list[str]] = {}
    for place in (place for place in default if place in modelopt):
        mine, other = default[place], modelopt[place]
        result.places += 1
        pair = f"{mine.kind} -> {other.kind}"
        if mine.kind != other.kind:
            if replaced(place, mine.kind, other.kind) is None and (
                (mine.kind, other.kind) not in also
            ):
                found.setdefault(pair, []).append(place)
                continue
            result.replaced[pair] = result.replaced.get(pair, 0) + 1
        for fact, before, after in _pairs(mine, other):
            result.facts += 1
            if before != after:
                found.setdefault(f"{fact} {before} -> {after}", []).append(place)
    settings = _configs(default, modelopt)
    result.facts += len(settings)
    differing = [*found.items(), *settings.items()]
    result.problems += [f"{what} at {_places(places)}" for what, places in differing if places]
    return result


_NOTHING = "(nothing)"


def _pairs(mine: Part, other: Part) -> Iterator[tuple[str, Any, Any]]:
    """`(name, here, there)` of each fact that two parts at one place must share."""
    for name in dict.fromkeys((*mine.facts, *other.facts)):
        yield name, mine.facts.get(name, _NOTHING), other.facts.get(name, _NOTHING)
    same = mine.kind == other.kind
    if same or not mine.facts:
        for name in dict.fromkeys((*mine.details, *other.details)):
            if same or (name in mine.details and name in other.details):
                yield name, mine.details.get(name, _NOTHING), other.details.get(name, _NOTHING)


def _configs(default: Mapping[str, Part], modelopt: Mapping[str, Part]) -> dict[str, list[str]]:
    """By difference between the configurations that modules were built with: where; settings
    without a difference have no places."""
    found: dict[str, list[str]] = {}
    seen: dict[tuple[int, int], dict[str, str]] = {}
    for place, mine in default.items():
        other = modelopt.get(place, mine)
        one, two = mine.config, other.config
        if one is None or two is None:
            continue
        if (id(one), id(two)) not in seen:
            names = dict.fromkeys((*one, *two))
            pairs = {name: (one.get(name, _NOTHING), two.get(name, _NOTHING)) for name in names}
            found.update({f"config.{n}": [] for n, (a, b) in pairs.items() if a == b})
            seen[id(one), id(two)] = {n: f"{a} -> {b}" for n, (a, b) in pairs.items() if a != b}
        wanted = replaced(place, mine.kind, other.kind)
        free = wanted.settings if wanted else ()
        for name, change in seen[id(one), id(two)].items():
            if name not in free:
                found.setdefault(f"config.{name} {change}", []).append(place)
    return found


def _only_in(here: Mapping[str, Part], there: Mapping[str, Part], what: str) -> list[str]:
    """In words, the places that only one side has; of a part and what it holds, the part."""
    alone = [place for place in here if place not in there]
    tops = [p for p in alone if not any(p.startswith(f"{other}.") for other in alone if other != p)]
    by_kind: dict[str, list[str]] = {}
    for place in tops:
        by_kind.setdefault(here[place].kind, []).append(place)
    return [f"{what} {kind} at {_places(places)}" for kind, places in by_kind.items()]


def _places(places: list[str]) -> str:
    shown = ", ".join(place or "the root" for place in places[:SHOWN])
    return shown + (f" and {len(places) - SHOWN} more" if len(places) > SHOWN else "")


def unlike_config(parts: Mapping[str, Part], config: Any, *, qk_norm: str | None) -> list[str]:
    """In words, where a model is not what its configuration says.

    What both specs get wrong alike no comparison of the two can show. `qk_norm`: what must stand
    after the queries' and the keys' linears of an attention; None: nothing is known of it.
    """
    found: dict[str, list[str]] = {}
    for place, part in parts.items():
        for name, wanted in _configured(place, part, config).items():
            there = part.facts if name in part.facts else part.details
            actual = there.get(name, _NOTHING)
            if actual not in (plain(wanted), _NOTHING):
                found.setdefault(f"{name} is {actual}, configured {plain(wanted)}", []).append(
                    place
                )
        if part.kind == "SelfAttention" and qk_norm is not None:
            for norm in ("q_layernorm", "k_layernorm"):
                there = parts.get(f"{place}.{norm}", Part(NORM, {"norm": "nothing"}))
                if there.facts.get("norm") != qk_norm:
                    what = f"{norm} is {there.facts.get('norm')}, configured {qk_norm}"
                    found.setdefault(what, []).append(place)
    return [f"{what} at {_places(places)}" for what, places in found.items()]


def _configured(place: str, part: Part, config: Any) -> dict[str, Any]:
    """What the configuration says of a part, by the name of the fact."""
    name = place.rpartition(".")[2]
    if part.kind == NORM:
        wanted = {"eps": config.layernorm_epsilon}
        if part.facts["norm"] != "L2Norm":
            wanted["norm"] = config.normalization
            wanted["zero_centered_gamma"] = config.layernorm_zero_centered_gamma
        return wanted
    if part.kind in LINEARS and name in ("linear_fc1", "linear_fc2", "linear_proj"):
        return {"bias": config.add_bias_linear}
    if part.kind.endswith("MLP"):
        return {"activation_func": config.activation_func}
    if part.kind.endswith("SelfAttention"):
        return {"attn_mask_type": "causal"}
    return {}
