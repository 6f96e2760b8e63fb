"""Are a quantized model's scales those of the tensors they are for, and its weights near their own?

What each layer is given is looked at before anything is quantized, so a scale is compared with the
tensor itself, not with what the release says of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from suite import noise
from suite.gpu import tolerances

ARGUMENTS: Mapping[str, tuple[int, str]] = {
    "input_quantizer": (0, "input"),
    "q_bmm_quantizer": (0, "query"),
    "k_bmm_quantizer": (1, "key"),
    "v_bmm_quantizer": (2, "value"),
}
"""By a quantizer's name in its layer: which of the layer's arguments it quantizes, by place and by
keyword."""

WEIGHT = "weight_quantizer"

EXPERTS = ".local_experts."


class Seen:
    """What layers were given while it was watching, and their weights: by layer and quantizer, the
    largest magnitudes, of a tensor or of each of its last channels."""

    def __init__(self) -> None:
        self.tensors: dict[str, list[Any]] = {}
        self.weights: dict[str, Any] = {}

    def names(self, layer: str) -> list[str]:
        """The names of a layer's own quantizer and of its siblings', for experts: releases give
        all experts of a layer the largest scale of any, so that they may be fused."""
        if EXPERTS not in layer:
            return [layer]
        before, _, after = layer.partition(EXPERTS)
        rest = after.partition(".")[2]
        return [
            name
            for name in {*self.tensors, *self.weights}
            if name.startswith(before + EXPERTS) and name.partition(EXPERTS)[2].endswith(rest)
        ]


@contextlib.contextmanager
def watched(model: Any) -> Iterator[Seen]:
    """Look at what every layer is given meanwhile, and at its weight."""
    seen = Seen()
    hooks = []
    for layer, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if weight is not None and weight.dim() > 1:
            seen.weights[f"{layer}.{WEIGHT}"] = weight.detach().clone()
        hooks.append(module.register_forward_pre_hook(looks(seen, layer), with_kwargs=True))
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def looks(seen: Seen, layer: str) -> Callable[[Any, Any, Any], None]:
    """A hook that keeps the magnitudes of each tensor that the layer is given."""

    def look(module: Any, given: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        for name, (place, keyword) in ARGUMENTS.items():
            tensor = given[place] if place < len(given) else keywords.get(keyword)
            if getattr(tensor, "is_floating_point", bool)():
                kept = seen.tensors.setdefault(f"{layer}.{name}", [])
                kept.append(tensor.detach().abs().clone())

    return look


def wrong_scales(found: Mapping[str, Any], seen: Seen, dtype: str) -> tuple[int, list[str]]:
    """How many static scales were compared, and in words which are not that of their tensor.

    `found` are the enabled quantizers by name. A scale may be off by a few roundings of the dtype:
    other kernels may have calibrated it.
    """
    compared, problems = 0, []
    for name, quantizer in sorted(found.items()):
        amax = getattr(quantizer, "_amax", None)
        if amax is None or getattr(quantizer, "_use_constant_amax", False):
            continue
        wanted = [
            one for own in seen.names(name) if (one := expected(own, quantizer, seen)) is not None
        ]
        if not wanted:
            if name.rpartition(".")[2] in (WEIGHT, *ARGUMENTS):
                problems.append(f"{name} has a scale, and its layer was given nothing")
            continue
        compared += 1
        own = expected(name, quantizer, seen)
        largest = max_of(wanted)
        may = [one for one in (own, largest) if one is not None]
        off = min(apart(one, amax) for one in may)
        if not off <= noise.FLOOR * noise.ROUNDOFF[dtype]:
            problems.append(f"{name}: the scale is off by {off:.3g} of what its tensor needs")
    return compared, problems


def max_of(values: list[Any]) -> Any:
    """The elementwise largest; of the first alone where they differ in shape."""
    import torch

    return torch.stack([one for one in values if one.shape == values[0].shape]).amax(0)


def expected(name: str, quantizer: Any, seen: Seen) -> Any:
    """What the quantizer's scale is to be for the tensor of that name: one number, or one for each
    place along its axis; None where there was no tensor."""
    tensors = [seen.weights[name].abs()] if name in seen.weights else seen.tensors.get(name)
    if not tensors:
        return None
    axis = getattr(quantizer, "axis", None)
    if axis is None or getattr(quantizer, "block_sizes", None) is not None:
        return max_of([one.amax() for one in tensors]).reshape(1)
    kept = {place % tensors[0].dim() for place in (axis if isinstance(axis, tuple) else (axis,))}
    others = [place for place in range(tensors[0].dim()) if place not in kept]
    return max_of([one.amax(dim=others) for one in tensors]).flatten()


def apart(wanted: Any, amax: Any) -> float:
    """The largest difference of two scales, relative to the one wanted: of one number, the largest
    of all is taken."""
    flat = amax.detach().float().flatten()
    flat = flat.amax().reshape(1) if wanted.numel() == 1 else flat
    if flat.shape != wanted.shape:
        return float("inf")
    wanted = wanted.float()
    return float(((flat - wanted).abs() / wanted.clamp_min(1e-30)).max())


def wrong_weights(model: Any, fmt: str, found: Mapping[str, Any], seen: Seen) -> list[str]:
    """In words, which weights their quantizer moves by more than half a step of the format, does
    not move at all, or makes nothing of."""
    problems = []
    for name, quantizer in sorted(found.items()):
        weight = seen.weights.get(name)
        if weight is None:
            continue
        made = quantizer(weight).detach().float()
        exact, magnitude = weight.float(), weight.float().abs()
        blocks = magnitude.reshape(*magnitude.shape[:-1], -1, tolerances.BLOCK)
        of_block = blocks.amax(-1, keepdim=True).expand_as(blocks).reshape(magnitude.shape)
        largest = calibrated_to(quantizer, weight)
        most = tolerances.half_step(fmt, exact, largest, of_block)
        # The result is of the weight's own dtype: one more rounding, of at most its own unit.
        dtype = str(weight.dtype).removeprefix("torch.")
        most = most + 2 * noise.ROUNDOFF[dtype] * (magnitude + most)
        over = float(((made - exact).abs() / most).max())
        if not over <= 1:
            problems.append(f"{name} moves a weight by {over:.3g} times what {fmt} may")
        if not made.any():
            problems.append(f"{name} makes every weight zero")
    return problems


def calibrated_to(quantizer: Any, weight: Any) -> Any:
    """The largest magnitude that the quantizer's scale is for, so that it goes with the weight."""
    amax = getattr(quantizer, "_amax", None)
    if amax is None:
        return weight.float().abs().amax()
    amax = amax.detach().float()
    if amax.numel() == 1:
        return amax.reshape(())
    return amax if amax.dim() == weight.dim() else amax.reshape(-1, *[1] * (weight.dim() - 1))


@contextlib.contextmanager
def silent(found: Mapping[str, Any]) -> Iterator[None]:
    """The quantizers do nothing meanwhile."""
    for one in found.values():
        one.disable()
    try:
        yield
    finally:
        for one in found.values():
            one.enable()


@contextlib.contextmanager
def scattered(model: Any, found: Mapping[str, Any], error: float, seed: int) -> Iterator[None]:
    """What the quantizers quantize is off by `error` at random meanwhile, in their place."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    layers = dict(model.named_modules())
    weights, hooks = [], []
    for name in sorted(found):
        layer, _, kind = name.rpartition(".")
        if kind == WEIGHT:
            weights.append(layers[layer].weight)
        elif kind in ARGUMENTS:
            hook = scatters(*ARGUMENTS[kind], error, generator)
            hooks.append(layers[layer].register_forward_pre_hook(hook, with_kwargs=True))
    try:
        with silent(found), noise.perturbed(weights, error, seed):
            yield
    finally:
        for hook in hooks:
            hook.remove()


def scatters(
    place: int, keyword: str, error: float, generator: Any
) -> Callable[[Any, Any, Any], Any]:
    """A hook that changes one argument at random, each element by `error` of itself."""

    def scatter(module: Any, given: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        if place < len(given):
            changed = noise.scattered(given[place], error, generator)
            return (*given[:place], changed, *given[place + 1 :]), keywords
        return given, {**keywords, keyword: noise.scattered(keywords[keyword], error, generator)}

    return scatter
