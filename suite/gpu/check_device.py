"""Does a default-spec checkpoint restore on the device, and does the ModelOpt-spec model then
compute what the default-spec model computes: at once, with a cache, in both modes?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import pytest

from suite import checkpoints, compare, families, inference, noise
from suite.gpu import models
from suite.record import Record

# The engine's stand-in is for hosts, where nothing of this is asked.
pytestmark = [pytest.mark.bare, pytest.mark.feature("inference")]

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
@pytest.mark.limit(300)  # Triton compiles and times kernels where they are called first
@pytest.mark.parametrize("dtype", models.DTYPES)
def check_device_logits(dtype: str, family: str, record: Record, tmp_path: Path) -> None:
    default, modelopt = models.pair(family, dtype, tmp_path)
    tokens = inference.tokens()
    wanted, actual = (models.whole(one, tokens) for one in (default, modelopt))
    assert tuple(wanted.shape) == tuple(actual.shape), f"{wanted.shape} and {actual.shape}"
    problems = models.routing(modelopt)
    limit = models.limits(default, dtype, record)
    found = {"modelopt against default": noise.apart(models.rows(wanted), models.rows(actual))}
    record("differences", {name: one._asdict() for name, one in found.items()})
    record("digest", checkpoints.of_tensor(actual).sha256)
    problems += noise.beyond(found, limit)
    assert not problems, "; ".join(problems)


@pytest.mark.kind("device-decode-{dtype}-{mode}")
@pytest.mark.after("device-logits-{dtype}")
@pytest.mark.limit(300)
@pytest.mark.parametrize("mode", models.MODES)
@pytest.mark.parametrize("dtype", models.DTYPES)
def check_device_decode(dtype: str, mode: str, family: str, record: Record, tmp_path: Path) -> None:
    problems: list[str] = []
    found: dict[str, noise.Distances] = {}
    decoded: list[noise.Rows] = []
    tokens = inference.tokens()
    default, modelopt = models.pair(family, dtype, tmp_path)
    limit = models.limits(default, dtype, record)
    for spec, model in (("default", default), ("modelopt", modelopt)):
        at_once = models.whole(model, tokens)
        steps = models.in_steps(model, tokens, mode)
        record(f"{spec}: shapes", {n: list(s.shape) for n, s in zip(STEPS, steps, strict=True)})
        wrong = models.shapes(model, *steps, families.SEQUENCE)
        problems += [f"{spec}: {text}" for text in wrong]
        for name, place, step in zip(STEPS, (-2, -1), steps, strict=True):
            found[told(spec, name)] = noise.apart(
                models.rows(at_once[:, place]), models.rows(step[:, -1])
            )
        decoded.append(models.rows(steps[-1][:, -1]))
    found["decode with a cache: modelopt against default"] = noise.apart(*decoded)
    record("differences", {name: one._asdict() for name, one in found.items()})
    problems += judged(found, limit, mode)
    assert not problems, "; ".join(problems)


def told(spec: str, step: str) -> str:
    """What the difference is called of one step of a model from what it says without a cache."""
    return f"{spec}, {step} with a cache against all at once"


def judged(found: Mapping[str, noise.Distances], limit: noise.Distances, mode: str) -> list[str]:
    """In words, which differences are wrong.

    In training mode a release may decode otherwise than all at once, by design: state-space layers
    keep no cache then, and attention keeps its causal mask, for speculative decoding, so that one
    query sees the first key alone. Both specs must do the same, and prefill is as always; what
    decoding then gives is noted. What is no number is wrong in each mode.
    """
    noted = {told(spec, STEPS[-1]) for spec in ("default", "modelopt")} if mode != "eval" else {}
    any_number = noise.Distances(math.inf, math.inf)
    problems = []
    for name, off in found.items():
        problems += noise.beyond({name: off}, any_number if name in noted else limit)
    return problems
