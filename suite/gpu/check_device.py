"""Does a default-spec checkpoint restore on the device, and does the ModelOpt-spec model then
compute what the default-spec model computes: at once, with a cache, in both modes?"""

from __future__ import annotations

from pathlib import Path

import pytest

from suite import checkpoints, compare, families, inference
from suite.gpu import models, tolerances
from suite.record import Record

# The engine's stand-in is for hosts, where nothing of this is asked.
pytestmark = pytest.mark.bare

STEPS = ("prefill", "decode")


@pytest.mark.kind("device-restore-{dtype}")
@pytest.mark.parametrize("dtype", models.DTYPES)
def check_device_restore(dtype: str, family: str, record: Record, tmp_path: Path) -> None:
    saved = models.model(family, "default", dtype, tmp_path)
    checkpoints.distinct(saved)
    given = compare.renamed(checkpoints.parameters(saved))
    checkpoints.save(saved, tmp_path / "checkpoint", quick=True)
    model = models.model(family, "modelopt", dtype, tmp_path, seed=99)
    sentinels = compare.renamed(checkpoints.forget(model))
    told = checkpoints.load(model, tmp_path / "checkpoint")
    there = compare.renamed(checkpoints.parameters(model))
    record("tensors", len(there))
    record("digest", compare.total(there))
    problems = compare.keys(told.missing_keys, told.unexpected_keys)
    problems += compare.untouched(sentinels, there) + compare.tensors(given, there)
    assert not problems, "; ".join(problems)


@pytest.mark.kind("device-logits-{dtype}")
@pytest.mark.after("device-restore-{dtype}")
@pytest.mark.parametrize("dtype", models.DTYPES)
def check_device_logits(dtype: str, family: str, record: Record, tmp_path: Path) -> None:
    default, modelopt = models.pair(family, dtype, tmp_path)
    tokens = inference.tokens()
    wanted, actual = (models.whole(one, tokens) for one in (default, modelopt))
    assert tuple(wanted.shape) == tuple(actual.shape), f"{wanted.shape} and {actual.shape}"
    limit = tolerances.of_dtype(dtype, modelopt.config.num_layers, modelopt.config.hidden_size)
    found = {
        "modelopt against default": tolerances.difference(
            models.numbers(wanted), models.numbers(actual)
        )
    }
    record("tolerance", limit)
    record("differences", found)
    record("digest", checkpoints.of_tensor(actual).sha256)
    problems = tolerances.above(found, limit, "the largest difference is")
    assert not problems, "; ".join(problems)


@pytest.mark.kind("device-decode-{dtype}-{mode}")
@pytest.mark.after("device-logits-{dtype}")
@pytest.mark.parametrize("mode", models.MODES)
@pytest.mark.parametrize("dtype", models.DTYPES)
def check_device_decode(dtype: str, mode: str, family: str, record: Record, tmp_path: Path) -> None:
    problems: list[str] = []
    found: dict[str, float] = {}
    tokens = inference.tokens()
    default, modelopt = models.pair(family, dtype, tmp_path)
    limit = tolerances.of_dtype(dtype, modelopt.config.num_layers, modelopt.config.hidden_size)
    for spec, model in (("default", default), ("modelopt", modelopt)):
        at_once = models.whole(model, tokens)
        steps = models.in_steps(model, tokens, mode)
        record(f"{spec}: shapes", {n: list(s.shape) for n, s in zip(STEPS, steps, strict=True)})
        wrong = models.shapes(model, *steps, families.SEQUENCE)
        problems += [f"{spec}: {text}" for text in wrong]
        for name, place, step in zip(STEPS, (-2, -1), steps, strict=True):
            found[f"{spec}, {name} with a cache against all at once"] = tolerances.difference(
                models.numbers(at_once[:, place]), models.numbers(step[:, -1])
            )
    record("tolerance", limit)
    record("differences", found)
    if mode == "eval":
        problems += tolerances.above(found, limit, "the largest difference is")
    else:
        # Releases may keep no cache for state-space layers while they train: what a cache then
        # gives is noted, not judged. What is no number is wrong in each mode.
        problems += tolerances.above(found, float("inf"), "the largest difference is")
    assert not problems, "; ".join(problems)
