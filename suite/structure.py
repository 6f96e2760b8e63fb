"""Compares the parts of a default model or spec with those of a ModelOpt one. Pure.

`REPLACED` names, with its reason, every difference that the design wants; all others are told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from suite.compare import SHOWN
from suite.parts import LINEARS, NORM, Part, plain


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


LEFT = frozenset(one.default for one in REPLACED if one.default in LINEARS)
"""Linears that ModelOpt does not quantize as Megatron's own: none may be left."""


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
        elif other.kind in LEFT:
            found.setdefault(f"{other.kind} is not replaced", []).append(place)
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
            if mine.facts.get(name) != other.facts.get(name):
                continue  # of that fact it is said already
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
