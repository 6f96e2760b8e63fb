"""Does the restored ModelOpt-spec model compute what the default-spec model computes?

Without a GPU both checks are `needs-gpu`: Transformer Engine's norms, linears and attention
run as CUDA kernels only, and our stand-in runs none.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from suite import checkpoints, families, inference
from suite.outcomes import NeedsGpu
from suite.plugin import Record

NO_KERNELS = "Transformer Engine's forward passes are CUDA kernels; they do not run on a CPU"

TOLERANCE = 5e-3
"""Largest difference of two logits, relative to the largest logit.

Transformer Engine multiplies float32 matrices as TF32 (10 bits of mantissa, unit roundoff
2**-11, about 5e-4), native linears as float32; through the ten or so products of these models
that adds up to about 1e-3 of the largest logit. Losing a norm or a weight changes it wholly.
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
    problems = []
    for name, one, other in zip(("whole", "prefill", "decode"), wanted, actual, strict=True):
        off = difference(one, other)
        record(name, {"difference": off, "digest": checkpoints.of_tensor(other).sha256})
        if not off <= TOLERANCE:
            problems.append(f"{name}: logits differ by {off:.2g} of the largest")
    for kind, (whole, first, last) in (("default", wanted), ("modelopt", actual)):
        cached = {"prefill": difference(whole[:, -2], first[:, -1])}
        cached["decode"] = difference(whole[:, -1], last[:, -1])
        record(f"{kind}: with a cache", cached)
        problems += [
            f"{kind}: {step} with a cache differs by {off:.2g} from without"
            for step, off in cached.items()
            if not off <= TOLERANCE
        ]
    record("tolerance", TOLERANCE)
    assert not problems, "; ".join(problems)


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
