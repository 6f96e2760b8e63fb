"""Is a ModelOpt-spec model that was restored from a default-spec checkpoint, and then quantized and
calibrated on the device, still nearly the same, and can it be trained further?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from suite import noise
from suite.gpu import models, scales, tolerances
from suite.outcomes import Unsupported
from suite.record import Record

pytestmark = [pytest.mark.bare, pytest.mark.feature("inference")]

FORMATS = tuple(sorted(tolerances.FORMATS))


@pytest.mark.kind("quantized-{fmt}")
@pytest.mark.after("device-logits-bfloat16")
@pytest.mark.limit(300)  # ModelOpt may compile an extension
@pytest.mark.parametrize("fmt", FORMATS)
def check_quantized(fmt: str, family: str, record: Record, tmp_path: Path) -> None:
    config = models.configuration(fmt, record)
    model = models.restored(family, "bfloat16", tmp_path)
    batches = models.sequences()
    wanted = models.rows(models.whole(model, batches[0]))
    with scales.watched(model) as seen:
        for batch in batches:
            models.whole(model, batch)
    model = models.calibrated(model, config, batches)
    found = models.quantizers(model)
    record("enabled quantizers", len(found))
    problems = [] if found else ["no quantizer is enabled"]
    problems += without_a_scale(models.uncalibrated(found))
    compared, wrong = scales.wrong_scales(found, seen, "bfloat16")
    record("scales compared", compared)
    problems += wrong if compared else ["no scale was compared with a tensor"]
    problems += models.compiled(lambda: scales.wrong_weights(model, fmt, found, seen))
    actual = models.rows(models.compiled(lambda: models.whole(model, batches[0])))
    noises = models.scattered(model, found, wanted, batches[0], tolerances.FORMATS[fmt])
    problems += judged(wanted, actual, noises, record)
    for step, logits in zip(
        ("prefill", "decode"), models.in_steps(model, batches[0], "eval"), strict=True
    ):
        if not all(math.isfinite(value) for row in models.rows(logits) for value in row):
            problems.append(f"{step} gives what is no number")
    assert not problems, "; ".join(problems)


@pytest.mark.after("device-decode-bfloat16-eval")
@pytest.mark.limit(300)
def check_quantized_kv(family: str, record: Record, tmp_path: Path) -> None:
    config = models.configuration("kv", record)
    model = models.restored(family, "bfloat16", tmp_path)
    batches = models.sequences()
    wanted = models.rows(models.whole(model, batches[0]))
    with scales.watched(model) as seen:
        for batch in batches:
            models.whole(model, batch)
    model = models.calibrated(model, config, batches)
    found = models.quantizers(model)
    record("enabled quantizers", sorted(found))
    kept = [n for n in found if n.endswith(("k_bmm_quantizer", "v_bmm_quantizer"))]
    if not kept:
        raise Unsupported("the release finds no keys or values to quantize in this attention")
    problems = without_a_scale([name for name in kept if not models.has_scale(found[name])])
    compared, wrong = scales.wrong_scales(found, seen, "bfloat16")
    record("scales compared", compared)
    problems += wrong
    whole = models.compiled(lambda: models.whole(model, batches[0]))
    noises = models.scattered(model, found, wanted, batches[0], tolerances.FORMATS["fp8"])
    problems += judged(wanted, models.rows(whole), noises, record)
    _, last = models.in_steps(model, batches[0], "eval")
    off = noise.apart(models.rows(whole[:, -1]), models.rows(last[:, -1]))
    record("decode with a cache against all at once", off._asdict())
    problems += noise.beyond({"decode": off}, models.limits(model, "bfloat16", record))
    assert not problems, "; ".join(problems)


@pytest.mark.kind("trained-{fmt}")
@pytest.mark.after("quantized-{fmt}")
@pytest.mark.limit(300)
@pytest.mark.parametrize("fmt", FORMATS)
def check_trained(fmt: str, family: str, record: Record, tmp_path: Path) -> None:
    # In float32: a step of a bfloat16 weight may be smaller than its last place.
    config = models.configuration(fmt, record)
    model = models.restored(family, "float32", tmp_path)
    batches = models.sequences()
    model = models.calibrated(model, config, batches)
    before, after, lengths = models.compiled(lambda: models.step(model, batches[0]))
    record("loss", {"before": before, "after": after})
    problems = without_gradient(lengths)
    if not after < before:
        problems.append(f"one step takes the loss from {before:.6g} to {after:.6g}")
    assert not problems, "; ".join(problems)


def without_gradient(lengths: dict[str, float | None]) -> list[str]:
    """In words, which parameters no gradient reaches, or one that is no number."""
    none = sorted(name for name, length in lengths.items() if length is None)
    odd = sorted(n for n, one in lengths.items() if one is not None and not math.isfinite(one))
    said = (("without a gradient", none), ("whose gradient is no number", odd))
    problems = [f"{len(names)} {what}: {', '.join(names[:6])}" for what, names in said if names]
    if lengths and not any(lengths.values()):
        problems.append("every gradient is zero")
    return problems if lengths else ["there is no parameter to train"]


def judged(
    wanted: noise.Rows, actual: noise.Rows, noises: Sequence[noise.Distances], record: Record
) -> list[str]:
    """Whether quantized logits are finite, others than those without quantization, and as near as
    `noises` of the format's size allow."""
    off, limit = noise.apart(wanted, actual), noise.bound(noises, 0.0)
    limit = noise.Distances(*(min(one, tolerances.UNRELATED) for one in limit))
    record("noise of the format", [one._asdict() for one in noises])
    record("bound of the format", limit._asdict())
    record("distance", off._asdict())
    problems = [] if off.whole != 0 else ["quantization changes nothing"]
    return problems + noise.beyond({"quantized against not": off}, limit)


def without_a_scale(names: Sequence[str]) -> list[str]:
    """In words, which quantizers have none."""
    return [f"{len(names)} without a scale: {', '.join(names[:4])}"] if names else []
