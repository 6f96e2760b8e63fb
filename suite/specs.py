"""Walks a layer spec: which class stands where. Pure: it looks at attributes only.

Specs are nested `ModuleSpec`s with dataclasses of submodules; newer releases also put
`functools.partial` objects there, and lists of layers.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

NORM_OF = {
    "self_attention.linear_qkv": "input_layernorm.",
    "self_attention.in_proj": "input_layernorm.",
    "self_attention.linear_q_up_proj": "self_attention.q_layernorm.",
    "self_attention.linear_kv_up_proj": "self_attention.kv_layernorm.",
    "mlp.linear_fc1": "pre_mlp_layernorm.",
    "mixer.in_proj": "norm.",
}
"""By the place of a linear in a layer: the unfused norm whose output it takes."""

NORM_BEFORE = {
    "self_attention.": "input_layernorm",
    "mlp.": "pre_mlp_layernorm",
    "mixer.": "norm",
}
"""By the part of a layer: the norm that must stand before it where no linear has it inside."""

LINEARS = frozenset({"in_proj", "out_proj", "eh_proj"})
NORMS = frozenset({"norm", "layer_norm", "enorm", "hnorm", "out_norm", "k_norm"})


def is_linear(place: str) -> bool:
    """Whether a linear stands at `place`, going by the name of the last part."""
    name = place.rpartition(".")[2]
    return name.startswith("linear_") or name in LINEARS


def is_norm(place: str) -> bool:
    name = place.rpartition(".")[2]
    return name.endswith("layernorm") or name in NORMS


def name_of(thing: Any) -> str:
    """`module.qualname` of a class or function; of a value, that of its class."""
    if isinstance(thing, functools.partial):
        return f"partial({name_of(thing.func)})"
    if not hasattr(thing, "__qualname__"):
        thing = type(thing)
    return f"{thing.__module__}.{thing.__qualname__}"


def text(value: Any) -> Any:
    """`value` as it may be recorded: a class or function by its name."""
    return name_of(value) if hasattr(value, "__qualname__") else value


def layers(spec: Any) -> dict[str, Any]:
    """The layer specs in `spec` by name: of a block, of a stack, or `spec` itself as one layer."""
    block = getattr(spec, "layer_specs", None)
    if block is not None:
        return {f"layers.{index}": layer for index, layer in enumerate(block)}
    submodules = getattr(spec, "submodules", None)
    named = {
        name: value
        for name, value in _fields(submodules)
        if name.endswith("_layer") and hasattr(value, "submodules")
    }
    return named or {"layer": spec}


def stack_layers(spec: Any) -> dict[str, Any]:
    """All that a stack's spec has for a letter of its pattern, or beside it, by field."""
    return {
        name: value
        for name, value in _fields(spec.submodules)
        if hasattr(value, "submodules") and not is_identity(value)
    }


def places(spec: Any) -> dict[str, Any]:
    """What stands at each place of `spec`, by dotted path: classes and functions.

    The module of a spec with submodules stands at the spec's own path (`""` for the root).
    """
    return dict(_walk(spec, ""))


def _walk(spec: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(spec, (list, tuple)):
        for index, item in enumerate(spec):
            yield from _walk(item, _join(path, str(index)))
        return
    if isinstance(spec, functools.partial):
        yield path, spec.func
        submodules = spec.keywords.get("submodules")
    elif dataclasses.is_dataclass(spec) and not isinstance(spec, type) and hasattr(spec, "module"):
        yield path, spec.module
        submodules = getattr(spec, "submodules", None)
    elif dataclasses.is_dataclass(spec) and not isinstance(spec, type):
        submodules = spec
    else:
        yield path, spec
        return
    if isinstance(submodules, (list, tuple)):
        yield from _walk(submodules, path)
    for name, value in _fields(submodules):
        if value is not None and name != "sharded_state_dict_keys_map":
            yield from _walk(value, _join(path, name))


def parameters(spec: Any) -> dict[str, dict[str, Any]]:
    """The arguments that `spec` gives to what it builds, by the places that `places` has."""
    return {path: given for path, given in _given(spec, "") if given}


def _given(spec: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(spec, (list, tuple)):
        for index, item in enumerate(spec):
            yield from _given(item, _join(path, str(index)))
        return
    if isinstance(spec, functools.partial):
        given, submodules = spec.keywords, spec.keywords.get("submodules")
    elif dataclasses.is_dataclass(spec) and not isinstance(spec, type):
        whole = hasattr(spec, "module")
        given = getattr(spec, "params", None) or {} if whole else {}
        submodules = getattr(spec, "submodules", None) if whole else spec
    else:
        return
    yield path, {name: value for name, value in given.items() if name != "submodules"}
    if isinstance(submodules, (list, tuple)):
        yield from _given(submodules, path)
    for name, value in _fields(submodules):
        if value is not None and name != "sharded_state_dict_keys_map":
            yield from _given(value, _join(path, name))


def _fields(submodules: Any) -> list[tuple[str, Any]]:
    if not dataclasses.is_dataclass(submodules) or isinstance(submodules, type):
        return []
    return [
        (field.name, getattr(submodules, field.name)) for field in dataclasses.fields(submodules)
    ]


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def key_map(layer: Any) -> dict[str, str]:
    """The layer's `sharded_state_dict_keys_map`: key prefixes as saved, by those it has."""
    return dict(getattr(layer.submodules, "sharded_state_dict_keys_map", None) or {})


def is_fused(thing: Any) -> bool:
    """Whether it is a class of linears that have a norm inside."""
    return "LayerNorm" in name_of(thing) and "Linear" in name_of(thing)


def fused(layer: Any) -> list[str]:
    """Places of `layer` where a linear has its norm inside."""
    there = places(layer).items()
    return [place for place, thing in there if is_linear(place) and is_fused(thing)]


def wanted_map(layer: Any) -> dict[str, str]:
    """The key map that a layer of unfused modules needs for a checkpoint of `layer`; without
    fused linears at places that `NORM_OF` does not know."""
    return {NORM_OF[p]: f"{p}.layer_norm_" for p in fused(layer) if p in NORM_OF}


def compare_maps(
    wanted: dict[str, str], actual: dict[str, str], unfused: dict[str, Any]
) -> list[str]:
    """In words, where the ModelOpt layer's map does not fit the default layer's fusions.

    `unfused` is `places` of the ModelOpt layer. An entry for a norm that is not there maps
    nothing and is no fault.
    """
    found = []
    for norm, target in wanted.items():
        if norm not in actual:
            found.append(f"{norm} is not mapped to {target}")
        elif actual[norm] != target:
            found.append(f"{norm} is mapped to {actual[norm]}, not to {target}")
    for norm, target in actual.items():
        thing = unfused.get(norm.rstrip("."))
        if norm not in wanted and not is_identity(thing):
            found.append(f"{norm} is mapped to {target}, which the default spec does not have")
    return found


def stray(layer: dict[str, Any], native: Callable[[Any], bool]) -> list[str]:
    """In words, where the places of a ModelOpt layer hold what ModelOpt cannot quantize.

    `native` says whether a class is one of the parallel linears that it can.
    """
    found = []
    for place, thing in layer.items():
        if is_linear(place) and not is_identity(thing) and not native(thing):
            found.append(f"{place} is {name_of(thing)}, which is no native linear")
        if is_norm(place) and is_linear(name_of(thing)):
            found.append(f"{place} is {name_of(thing)}, which is no norm")
    for part, norm in NORM_BEFORE.items():
        linears = [p for p, thing in layer.items() if p.startswith(part) and is_linear(p)]
        if linears and is_identity(layer.get(norm)):
            found.append(f"{norm} is missing before {linears[0]}")
    return found


def is_identity(thing: Any) -> bool:
    """Whether nothing stands there."""
    return thing is None or "Identity" in name_of(thing)
