"""Does a quantized ModelOpt-spec model hold what its configuration asks for, and survive its
checkpoint: quantizers, scales, weights?

Weights are calibrated by their own maximum, which needs no forward pass. Scales of inputs,
for which calibration would need one, are set to numbers of their own, so that each can be told
from the others after the restore.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

import pytest

from suite import checkpoints, compare, formats, quantizer_config, quantizers, weight_scales
from suite.outcomes import Unsupported
from suite.plugin import Record

pytestmark = pytest.mark.feature("quantize")

CONSTANTS = {name: fmt.constant for name, fmt in formats.FORMATS.items()}
"""By format: the release's own configuration that asks for it."""

IDLE_BITS = 6
"""Set on a quantizer that is disabled; no default, and of no format here."""

PLUGIN = "modelopt.torch.opt.plugins.mcore_dist_checkpointing"


@pytest.mark.kind("modelopt-state-{fmt}")
@pytest.mark.after("build-modelopt", "import-modelopt-megatron-plugin")
@pytest.mark.parametrize("fmt", sorted(CONSTANTS))
def check_modelopt_state(
    fmt: str, family: str, record: Record, tmp_path: Path, on_host: bool
) -> None:
    constant, plugin = needed(fmt)
    model = checkpoints.model(family, "modelopt", tmp_path)
    saved = quantized(model, constant, fmt, record, on_host=on_host)
    fresh = checkpoints.model(family, "modelopt", tmp_path, seed=99)
    survives(saved, fresh, plugin, record, tmp_path / "checkpoint")


def needed(fmt: str) -> tuple[Any, Any]:
    """The release's configuration of the format, and its plugin for distributed checkpoints.

    Raises:
        Unsupported: it has not got one of them.
    """
    quantization = importlib.import_module("modelopt.torch.quantization")
    constant = getattr(quantization, CONSTANTS[fmt], None)
    if constant is None:
        raise Unsupported(f"modelopt.torch.quantization has no {CONSTANTS[fmt]}")
    if importlib.util.find_spec(PLUGIN) is None:
        raise Unsupported(f"the release has no {PLUGIN}")
    return constant, importlib.import_module(PLUGIN)


def quantized(model: Any, constant: Any, fmt: str, record: Record, *, on_host: bool) -> Any:
    """The model, quantized as `constant` says; what it then is, beside what was asked for.

    Raises:
        AssertionError: a linear without an enabled quantizer, other weights than before, a scale
            that its weight does not give, or a weight that is moved as the format may not.
    """
    checkpoints.distinct(model)
    before = checkpoints.parameters(model)
    linears = quantizers.linears(model)
    record("linears", len(linears))
    record("linears in a way of their own", quantizers.other_linears(model, linears))
    quantization = importlib.import_module("modelopt.torch.quantization")
    model = quantization.quantize(model, constant, forward_loop=None)
    record("quantizers", len(quantizers.of(model)))
    record("enabled", sum(map(quantizers.enabled, quantizers.of(model).values())))
    rules = quantizer_config.rules(constant["quant_cfg"])
    problems = quantizers.unlike(model, rules, linears)
    after = {name: one for name, one in checkpoints.parameters(model).items() if name in before}
    problems += [f"quantize() changes weights: {one}" for one in compare.tensors(before, after)]
    found = list(quantizers.weighed(model, rules))
    problems += other_bits(fmt, found)
    compared, wrong = weight_scales.wrong_scales(found)
    record("scales compared", compared)
    problems += wrong if compared else ["no scale of a weight was compared"]
    assert not problems, "; ".join(problems)
    looked, wrong, why_not = weight_scales.wrong_weights(fmt, found, on_host=on_host)
    record("fake-quantized weights", looked)
    if why_not:
        record("not fake-quantized here", why_not)
    assert not wrong, "; ".join(wrong)
    return model


def other_bits(fmt: str, found: list[quantizers.Weighed]) -> list[str]:
    """In words, where weights are not quantized to the format that was asked for."""
    wanted = formats.FORMATS[fmt]
    problems = []
    for one in found:
        bits = getattr(one.quantizer, "num_bits", None)
        blocks = bool(getattr(one.quantizer, "block_sizes", None))
        if bits != wanted.bits or blocks != wanted.blocks:
            problems.append(f"{one.name} (num_bits {bits})")
    if not found:
        return ["no quantizer of a weight is enabled"]
    return quantizers.listed(f"quantizers of weights not of the format {fmt}", problems)


def survives(saved: Any, fresh: Any, plugin: Any, record: Record, checkpoint: Path) -> None:
    """Save a quantized model, restore it into a fresh one that never was, compare."""
    record("input scales set", scale(saved))
    record.gpu_independent("settings and tensors are compared, as they are kept, on no device")
    record("disabled quantizer set", set_idle(saved))
    wanted = quantizers.described(saved)
    checkpoints.save(saved, checkpoint, quick=True)
    plugin.save_sharded_modelopt_state([saved], str(checkpoint))
    assert (checkpoint / "modelopt_state").is_dir(), "no modelopt_state was written"

    assert not quantizers.of(fresh), "a model that was never quantized has quantizers"
    sentinels = checkpoints.forget(fresh)
    restored, problems = restore(plugin, fresh, checkpoint)
    record("settings compared", len(wanted))
    given, modes = checkpoints.parameters(saved), quantizers.mode_states(saved)

    def judge(told: Any) -> list[str]:
        tensors = checkpoints.parameters(restored)
        record("tensors", len(tensors))
        record("digest", compare.total(tensors))
        return [
            *problems,
            *compare.keys(told.missing_keys, told.unexpected_keys),
            *compare.differing(wanted, quantizers.described(restored), "settings of quantizers"),
            *compare.untouched(sentinels, tensors),
            *compare.tensors(given, tensors),
            *compare.differing(modes, quantizers.mode_states(restored), "settings of modes"),
        ]

    # Scales that ModelOpt's own state has restored by now stay as they are.
    wrong = checkpoints.restore(restored, checkpoint, judge, record, names=sentinels)
    assert not wrong, "; ".join(wrong)


def restore(plugin: Any, model: Any, checkpoint: Path) -> tuple[Any, list[str]]:
    """The model with its modelopt state restored, and what is wrong with how it was given back.

    The plugin takes a list of one model, changes that model, and puts it back into the list.
    """
    models = [model]
    plugin.restore_sharded_modelopt_state(models, str(checkpoint))
    if models[0] is not None:
        return models[0], []
    # The model itself may be whole; callers who keep to the list have lost it.
    return model, ["restore_sharded_modelopt_state puts None in its list in place of the model"]


def scale(model: Any) -> int:
    """Set a scale of its own for each enabled quantizer without one; how many."""
    import torch

    count = 0
    for name, quantizer in quantizers.of(model).items():
        idle = not quantizers.enabled(quantizer) or getattr(quantizer, "_dynamic", False)
        if idle or getattr(quantizer, "_amax", None) is not None or "output" in name:
            continue
        count += 1
        quantizer.amax = torch.tensor(1.0 + count / 64)
    return count


def set_idle(model: Any) -> str | None:
    """Give one disabled quantizer settings that are no default, so that losing them is seen; its
    name, None where there is none. It is of a linear whose weight is quantized: an embedding, too,
    has quantizers in some releases, which keep no settings of theirs."""
    found = quantizers.of(model)
    for name, quantizer in found.items():
        weight = found.get(name.replace("output_quantizer", "weight_quantizer"), quantizer)
        if not quantizers.enabled(quantizer) and quantizers.enabled(weight):
            quantizer.num_bits = IDLE_BITS
            return name
    return None
