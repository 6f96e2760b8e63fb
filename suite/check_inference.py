"""Does the restored ModelOpt-spec model compute what the default-spec model computes?

Without a GPU both checks are `needs-gpu`: Transformer Engine's norms, linears and attention
run as CUDA kernels only, and our stand-in runs none.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from suite import checkpoints, families, inference, noise
from suite.outcomes import NeedsGpu
from suite.plugin import Record

pytestmark = pytest.mark.feature("inference")

NO_KERNELS = "Transformer Engine's forward passes are CUDA kernels; they do not run on a CPU"

STEPS = ("whole", "prefill", "decode")


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
    noise.exact()
    tokens = inference.tokens()
    default, modelopt = pair(family, tmp_path)
    limit = noise.limits(default, inference.batch(), "float32", record, inference.forward)
    wanted = [inference.forward(default, tokens), *inference.prefill_and_decode(default, tokens)]
    actual = [inference.forward(modelopt, tokens), *inference.prefill_and_decode(modelopt, tokens)]
    for name, other in zip(STEPS, actual, strict=True):
        record(f"{name}: digest", checkpoints.of_tensor(other).sha256)
    found = differences(wanted, actual)
    record("differences", {name: one._asdict() for name, one in found.items()})
    problems = noise.beyond(found, limit)
    assert not problems, "; ".join(problems)


def differences(wanted: Sequence[Any], actual: Sequence[Any]) -> dict[str, noise.Distances]:
    """How far the logits of two models are apart, each without a cache, of prefill and of decode.

    Beside one model against the other, each is compared with itself: what it says with a cache
    against what without.
    """
    pairs = {
        f"{name}: modelopt against default": (one, other)
        for name, one, other in zip(STEPS, wanted, actual, strict=True)
    }
    for kind, (whole, first, last) in (("default", wanted), ("modelopt", actual)):
        pairs[f"prefill: {kind} with a cache against without"] = (whole[:, -2], first[:, -1])
        pairs[f"decode: {kind} with a cache against without"] = (whole[:, -1], last[:, -1])
    return {
        name: noise.apart(noise.rows(one), noise.rows(other))
        for name, (one, other) in pairs.items()
    }


def pair(family: str, folder: Path) -> tuple[Any, Any]:
    """The default-spec model, and the ModelOpt-spec model restored from it, on the GPU."""
    default = checkpoints.model(family, "default", folder)
    checkpoints.distinct(default)
    checkpoints.save(default, folder / "checkpoint", quick=True)
    modelopt = checkpoints.model(family, "modelopt", folder, seed=99)
    checkpoints.load_somehow(modelopt, folder / "checkpoint")
    return default.cuda().eval(), modelopt.cuda().eval()
