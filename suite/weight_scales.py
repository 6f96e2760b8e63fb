"""Are the scales of a quantized model's weights those that the weights give, and do quantizers do
to a weight what their format may? Computed here from the weights alone."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from suite import classify, formats
from suite.outcomes import NEEDS_GPU
from suite.quantizers import Weighed, listed

EXPERTS = ".local_experts."

EXTENSIONS = "modelopt.torch.utils.cpp_extension"
"""ModelOpt's module that compiles its CUDA extensions when they are first used."""

ENOUGH = 256
"""Elements that a weight must have for one to lie near the middle between two numbers."""


def block_size(settings: Mapping[str, Any]) -> int | None:
    """Elements along the last axis that share a scale; None where there are no blocks.

    Raises:
        ValueError: blocks along other axes, of which this suite does not know.
    """
    sizes = settings.get("block_sizes") or {}
    axes = {str(key): size for key, size in sizes.items() if str(key).lstrip("-").isdecimal()}
    if axes and set(axes) != {"-1"}:
        raise ValueError(f"blocks along other axes than the last: {sizes}")
    return int(axes["-1"]) if axes else None


def dynamic(settings: Mapping[str, Any]) -> bool:
    """Whether the scale of each block is computed anew; the tensor's own is kept then."""
    return (settings.get("block_sizes") or {}).get("type") == "dynamic"


def blocks(tensor: Any, size: int) -> Any:
    """`[..., n]` as `[..., blocks, size]`; a short block is filled with zeros at its beginning."""
    import torch

    short = -tensor.shape[-1] % size
    return torch.nn.functional.pad(tensor, (short, 0)).unflatten(-1, (-1, size))


def wanted_scale(weights: list[Any], settings: Mapping[str, Any]) -> Any:
    """The scale that weights need, flat: one number, one for each place along the axis, or one
    for each block. Of several weights that share a quantizer, the largest."""
    import torch

    size, axis = block_size(settings), settings.get("axis")
    found = []
    for weight in weights:
        magnitude = weight.detach().abs()
        if size and not dynamic(settings):
            found.append(blocks(magnitude, size).amax(-1).flatten())
        elif size or axis is None:
            found.append(magnitude.amax().reshape(1))
        else:
            kept = {one % magnitude.dim() for one in (axis if isinstance(axis, tuple) else (axis,))}
            others = [place for place in range(magnitude.dim()) if place not in kept]
            found.append(magnitude.amax(dim=others).flatten())
    return torch.stack(found).amax(0)


def siblings(found: Iterable[Weighed]) -> dict[str, list[Weighed]]:
    """The quantizers by linear: those of the same linear of all experts of a layer together."""
    groups: dict[str, list[Weighed]] = {}
    for one in found:
        before, expert, after = one.name.partition(EXPERTS)
        key = f"{before}{expert}*.{after.partition('.')[2]}" if expert else one.name
        groups.setdefault(key, []).append(one)
    return groups


def wrong_scales(found: list[Weighed]) -> tuple[int, list[str]]:
    """How many scales were compared, and in words which are not what the weight gives.

    Releases may give all experts of a layer the largest scale of any, so that they can be fused;
    then all of them must have it.
    """
    compared: list[str] = []
    none: list[str] = []
    wrong: list[str] = []
    for group in siblings(found).values():
        scaled = [one for one in group if getattr(one.quantizer, "_amax", None) is not None]
        none += [one.name for one in group if one not in scaled and must_be_calibrated(one)]
        if not scaled:
            continue
        compared += [one.name for one in scaled]
        own = {one.name: wanted_scale(one.weights, one.settings) for one in scaled}
        off = [one.name for one in scaled if not same(own[one.name], one.quantizer._amax)]
        if off and len(group) > 1:
            largest = _largest(list(own.values()))
            beside = [one.name for one in scaled if not same(largest, one.quantizer._amax)]
            off = beside if len(beside) < len(off) or not beside else off
        wrong += off
    problems = listed("enabled quantizers of weights without a scale", none)
    return len(compared), problems + listed("scales that are not what their weight gives", wrong)


def must_be_calibrated(one: Weighed) -> bool:
    """Whether a release is to calibrate the quantizer without data. Of a linear with several
    matrices it does so only where it can list them."""
    if getattr(one.quantizer, "_dynamic", False):
        return False
    if len(one.weights) < 2:
        return True
    return hasattr(one.module, "iter_weights_for_calibration") and _lists_them(one)


def _lists_them(one: Weighed) -> bool:
    try:
        return len(list(one.module.iter_weights_for_calibration())) == len(one.weights)
    except AttributeError:  # made for one weight, which such a linear does not have
        return False


def _largest(values: list[Any]) -> Any:
    import torch

    return torch.stack(values).amax(0)


def same(wanted: Any, amax: Any) -> bool:
    """Whether a scale has the very numbers; a scale of one number has no shape to compare."""
    import torch

    flat = amax.detach().flatten()
    return bool(flat.shape == wanted.shape and torch.equal(flat.to(wanted.dtype), wanted))


def wrong_weights(fmt: str, found: list[Weighed], *, on_host: bool) -> tuple[int, list[str], str]:
    """How many weights were quantized and looked at, in words which are moved as the format may
    not, and why others could not be quantized here (empty where all were)."""
    looked, problems = 0, []
    with no_extensions(on_host):
        for one in found:
            for weight in one.weights:
                try:
                    made = _quantized(one.quantizer, weight)
                except Exception as error:
                    outcome, why = classify.classify(error, host=on_host)
                    if outcome != NEEDS_GPU:
                        raise
                    return looked, problems, why
                looked += 1
                problems += moved(fmt, one, weight, made)
    return looked, problems, ""


def _quantized(quantizer: Any, weight: Any) -> Any:
    import torch

    with torch.no_grad():
        return quantizer(weight).detach()


@contextlib.contextmanager
def no_extensions(on_host: bool) -> Iterator[None]:
    """On a host no CUDA extension is compiled meanwhile: it would take minutes, and no kernel of
    it could run."""
    module = sys.modules.get(EXTENSIONS)
    if not on_host or module is None or not hasattr(module, "load"):
        yield
        return
    load = module.load
    module.load = refuse
    try:
        yield
    finally:
        module.load = load


def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
    raise RuntimeError(f"the extension {name} is of no use here: CUDA is not available")


def moved(fmt: str, one: Weighed, weight: Any, made: Any) -> list[str]:
    """In words, what is wrong with what a quantizer made of a weight: it must move it, by no more
    than half a step of the format, and by about as much somewhere, or it has other steps."""
    torch = importlib.import_module("torch")
    size = block_size(one.settings) or weight.shape[-1]
    exact, result = (blocks(tensor.detach().float(), size) for tensor in (weight, made))
    magnitude, off = exact.abs(), (result - exact).abs()
    largest, of_block = calibrated_to(one, magnitude), magnitude.amax(-1, keepdim=True)
    if one.settings.get("block_sizes") and not dynamic(one.settings):
        of_block = largest
    most = formats.half_step(fmt, magnitude, largest, of_block)
    # The result is of the weight's own dtype: one more rounding, and a few on the way.
    most = most + 4 * torch.finfo(weight.dtype).eps * (magnitude + most)
    share = float((off / most.clamp_min(torch.finfo(torch.float32).tiny)).max())
    if not off.any():
        return [f"{one.name} changes nothing of its weight"]
    if not share <= 1:
        return [f"{one.name} moves its weight by {share:.3g} times half a step of {fmt}"]
    if formats.FORMATS[fmt].tight and share < formats.USED and weight.numel() >= ENOUGH:
        return [f"{one.name} moves its weight by only {share:.3g} times half a step of {fmt}"]
    return []


def calibrated_to(one: Weighed, magnitude: Any) -> Any:
    """What the quantizer's scale was calibrated to, so that it goes with `magnitude`, which is
    `[..., blocks, size]`: one number, or one for each first place or block."""
    amax = getattr(one.quantizer, "_amax", None)
    if amax is None:
        return magnitude.amax()
    amax = amax.detach().float()
    if amax.numel() == 1:
        return amax.reshape(())
    if one.settings.get("block_sizes"):
        return amax.reshape(*magnitude.shape[:-1], 1)
    return amax.reshape(-1, *[1] * (magnitude.dim() - 1))
