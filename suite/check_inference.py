"""Does the restored ModelOpt-spec model compute what the default-spec model computes?

Without a GPU both checks are `needs-gpu`: Transformer Engine's norms, linears and attention
run as CUDA kernels only, and our stand-in runs none.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from suite import checkpoints, families, inference
from suite.outcomes import NeedsGpu
from suite.plugin import Record

NO_KERNELS = "Transformer Engine's forward passes are CUDA kernels; they do not run on a CPU"

STEPS = ("whole", "prefill", "decode")

TOLERANCE = 5e-3
"""Largest difference of two logits, relative to the largest logit.

Transformer Engine may multiply float32 matrices as TF32, whose mantissa has 10 explicit bits
(NVIDIA's CUDA C++ Programming Guide, "Alternate Floating-Point"): a unit roundoff of 2**-11,
about 5e-4. Native linears use float32. The limit is ten such roundings, an estimate for models
of two or three layers that no GPU has confirmed yet; losing a norm or a weight is far above it.
"""


@pytest.mark.after("restore")
def check_inference_shapes(family: str, record: Record, on_host: bool, tmp_path: Path) -> None:
    if on_host:
        raise NeedsGpu(NO_KERNELS)
    problems = []
    tokens = inference.tokens()
    for kind, model in zip(("default", "modelopt"), pair(family, tmp_path), strict=True):
        first, last = inference.prefill_and_decode(model, tokens)
        record(kind, {"prefill": list(first.shape), "decode": list(last.shape)})
        width = inference.vocabulary(model)
        allowed = [(1, length, width) for length in (families.SEQUENCE - 1, 1)]
        if tuple(first.shape) not in allowed:
            problems.append(f"{kind}: prefill gives {tuple(first.shape)}, not one of {allowed}")
        if tuple(last.shape) != (1, 1, width):
            problems.append(f"{kind}: decode gives {tuple(last.shape)}, not {(1, 1, width)}")
    assert not problems, "; ".join(problems)


@pytest.mark.after("inference-shapes")
def check_inference_numbers(family: str, record: Record, on_host: bool, tmp_path: Path) -> None:
    if on_host:
        raise NeedsGpu(NO_KERNELS)
    tokens = inference.tokens()
    default, modelopt = pair(family, tmp_path)
    wanted = [inference.forward(default, tokens), *inference.prefill_and_decode(default, tokens)]
    actual = [inference.forward(modelopt, tokens), *inference.prefill_and_decode(modelopt, tokens)]
    record("tolerance", TOLERANCE)
    for name, other in zip(STEPS, actual, strict=True):
        record(f"{name}: digest", checkpoints.of_tensor(other).sha256)
    differences, problems = judged(wanted, actual)
    record("differences", differences)
    assert not problems, "; ".join(problems)


def judged(wanted: Sequence[Any], actual: Sequence[Any]) -> tuple[dict[str, float], list[str]]:
    """Compare the logits of two models, each without a cache, of prefill and of decode.

    Returns all differences, and those above `TOLERANCE` in words. Beside one model against the
    other, each is compared with itself: what it says with a cache against what without.
    """
    pairs = {
        f"{name}: modelopt against default": (one, other)
        for name, one, other in zip(STEPS, wanted, actual, strict=True)
    }
    for kind, (whole, first, last) in (("default", wanted), ("modelopt", actual)):
        pairs[f"prefill: {kind} with a cache against without"] = (whole[:, -2], first[:, -1])
        pairs[f"decode: {kind} with a cache against without"] = (whole[:, -1], last[:, -1])
    found = {name: difference(one, other) for name, (one, other) in pairs.items()}
    # Not `> TOLERANCE`: what is not a number is no small difference.
    return found, [
        f"{name}: logits differ by {off:.2g} of the largest"
        for name, off in found.items()
        if not off <= TOLERANCE
    ]


def pair(family: str, folder: Path) -> tuple[Any, Any]:
    """The default-spec model, and the ModelOpt-spec model restored from it, on the GPU."""
    default = checkpoints.model(family, "default", folder)
    checkpoints.distinct(default)
    checkpoints.save(default, folder / "checkpoint", quick=True)
    modelopt = checkpoints.model(family, "modelopt", folder, seed=99)
    checkpoints.forget(modelopt)
    checkpoints.load(modelopt, folder / "checkpoint")
    return default.cuda().eval(), modelopt.cuda().eval()


def difference(wanted: Any, actual: Any) -> float:
    """The largest difference of two tensors, relative to the largest of `wanted`; not a number
    where either holds one that is not."""
    wanted, actual = wanted.double(), actual.double()
    return float((wanted - actual).abs().max() / wanted.abs().max())
