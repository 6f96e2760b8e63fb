"""Does a quantized ModelOpt-spec model survive its checkpoint: quantizers, scales, weights?

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

from suite import checkpoints, compare
from suite.outcomes import Unsupported
from suite.plugin import Record

pytestmark = pytest.mark.feature("quantize")

CONSTANTS = {
    "int8": "INT8_DEFAULT_CFG",
    "fp8": "FP8_DEFAULT_CFG",
    "nvfp4": "NVFP4_DEFAULT_CFG",
    "int4": "INT4_BLOCKWISE_WEIGHT_ONLY_CFG",
}
"""By format: the release's own configuration that asks for it."""

PLUGIN = "modelopt.torch.opt.plugins.mcore_dist_checkpointing"


@pytest.mark.kind("modelopt-state-{fmt}")
@pytest.mark.after("build-modelopt")
@pytest.mark.parametrize("fmt", sorted(CONSTANTS))
def check_modelopt_state(fmt: str, family: str, record: Record, tmp_path: Path) -> None:
    survives(family, "modelopt", fmt, record, tmp_path)


def survives(
    family: str, spec: str, fmt: str, record: Record, folder: Path, **changed: Any
) -> None:
    """Quantize a model of `spec`, save it, restore it into a fresh one, compare.

    `changed` are values of the family's configuration.
    """
    quantization = importlib.import_module("modelopt.torch.quantization")
    constant = getattr(quantization, CONSTANTS[fmt], None)
    if constant is None:
        raise Unsupported(f"modelopt.torch.quantization has no {CONSTANTS[fmt]}")
    if importlib.util.find_spec(PLUGIN) is None:
        raise Unsupported(f"the release has no {PLUGIN}")
    plugin = importlib.import_module(PLUGIN)
    saved = checkpoints.model(family, spec, folder, **changed)
    checkpoints.distinct(saved)
    saved = quantization.quantize(saved, constant, forward_loop=None)
    scaled = scale(saved)
    quantizers = described(saved)
    record("quantizers", len(quantizers))
    record("enabled", sum(enabled for enabled, _ in quantizers.values()))
    record("input scales set", scaled)
    checkpoint = folder / "checkpoint"
    checkpoints.save(saved, checkpoint, quick=True)
    plugin.save_sharded_modelopt_state([saved], str(checkpoint))
    assert (checkpoint / "modelopt_state").is_dir(), "no modelopt_state was written"

    fresh = checkpoints.model(family, spec, folder, seed=99, **changed)
    assert not described(fresh), "a model that was never quantized has quantizers"
    sentinels = checkpoints.forget(fresh)
    restored, problems = restore(plugin, fresh, checkpoint)
    told = checkpoints.load(restored, checkpoint)
    tensors = checkpoints.parameters(restored)
    record("tensors", len(tensors))
    record("digest", compare.total(tensors))
    problems += inserted(quantizers, tensors)
    problems += compare.keys(told.missing_keys, told.unexpected_keys)
    problems += compare.differing(quantizers, described(restored), "quantizers")
    problems += compare.untouched(sentinels, tensors)
    problems += compare.tensors(checkpoints.parameters(saved), tensors)
    problems += compare.differing(modes(saved), modes(restored), "modelopt modes")
    assert not problems, "; ".join(problems)


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


def quantizers_of(model: Any) -> dict[str, Any]:
    """ModelOpt's quantizers in a model, by name."""
    nn = importlib.import_module("modelopt.torch.quantization.nn")
    return {n: m for n, m in model.named_modules() if isinstance(m, nn.TensorQuantizer)}


def described(model: Any) -> dict[str, tuple[bool, str]]:
    """Of each quantizer whether it is enabled, and what it says of its own settings."""
    found = {}
    for name, quantizer in quantizers_of(model).items():
        found[name] = (not getattr(quantizer, "_disabled", False), quantizer.extra_repr())
    return found


def scale(model: Any) -> int:
    """Set a scale of its own for each enabled quantizer without one; how many."""
    import torch

    count = 0
    for name, quantizer in quantizers_of(model).items():
        idle = getattr(quantizer, "_disabled", False) or getattr(quantizer, "_dynamic", False)
        if idle or getattr(quantizer, "_amax", None) is not None or "output" in name:
            continue
        count += 1
        quantizer.amax = torch.tensor(1.0 + count / 64)
    return count


def inserted(
    quantizers: dict[str, tuple[bool, str]], tensors: dict[str, compare.Digest]
) -> list[str]:
    """What shows that the model was not really quantized."""
    problems = []
    if not any(enabled for enabled, _ in quantizers.values()):
        problems.append(f"none of {len(quantizers)} quantizers is enabled")
    if not any(name.endswith("weight_quantizer._amax") for name in tensors):
        problems.append("no weight quantizer has a scale in the checkpoint")
    return problems


def modes(model: Any) -> dict[str, str]:
    """ModelOpt's record of what was done to a model, by the order of it."""
    opt = importlib.import_module("modelopt.torch.opt")
    state = opt.modelopt_state(model)
    return {str(place): mode for place, (mode, _) in enumerate(state["modelopt_state_dict"])}
