"""How far two models' logits may be apart: bounds measured on the model that is asked about.

What rounding does to a model depends on its weights and on the kernels, so nothing is assumed of
either: how far one product of a dtype is off is measured here, each weight is then changed by as
much at random, and what that does to the logits is the model's own noise.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

ROUNDOFF = {"float32": 2.0**-24, "bfloat16": 2.0**-8}
"""By dtype: the unit roundoff `u`, half of the distance from 1 to the next number."""

SPARE = 4.0
"""How many times its own noise two implementations of one model may be apart.

The noise is of one rounding for each weight. Of the values that flow a layer rounds about eight
for four weights (its products, two norms, two sums with the residual), in each of the two models:
four times the variance, twice the length. Twice that again, since noise of two seeds is a sample of
two, and one of a position that of few numbers.
"""

FLOOR = 4
"""No bound is below so many unit roundoffs: the last product alone is off by about one."""

SEEDS = (1, 2)

WIDTH = 256
"""Of the product that is measured."""


class Distances(NamedTuple):
    """How far logits are from others, relative to the others' length: all of them, and those of
    the position where it is most. One wrong position among many shows in the second."""

    whole: float
    position: float


Rows = Sequence[Sequence[float]]
"""Logits by position: [positions][vocabulary]."""


def distance(wanted: Iterable[float], actual: Iterable[float]) -> float:
    """The length of the difference relative to that of `wanted`. Not a number where either has
    one that is not, or where nothing is wanted.

    Raises:
        ValueError: they are not of one length.
    """
    pairs = list(zip(wanted, actual, strict=True))
    of = math.hypot(*(one for one, _ in pairs))
    off = math.hypot(*(one - other for one, other in pairs))
    return off / of if of > 0 and math.isfinite(of) and math.isfinite(off) else math.nan


def apart(wanted: Rows, actual: Rows) -> Distances:
    """How far `actual` is from `wanted`.

    Raises:
        ValueError: they are not of one shape.
    """
    places = [distance(one, other) for one, other in zip(wanted, actual, strict=True)]
    whole = distance((v for row in wanted for v in row), (v for row in actual for v in row))
    return Distances(whole, math.nan if math.isnan(whole) else max(places, key=_odd_first))


def _odd_first(value: float) -> float:
    return math.inf if math.isnan(value) else value


def bound(noises: Iterable[Distances], floor: float, spare: float = SPARE) -> Distances:
    """`spare` times the largest of the noises, and not below `floor`; not a number, and so above
    nothing, where one of them is none."""
    found = list(noises)
    whole, position = (max((one[i] for one in found), key=_odd_first) for i in (0, 1))
    return Distances(*(max(floor, spare * one, key=_odd_first) for one in (whole, position)))


def beyond(found: Mapping[str, Distances], limit: Distances) -> list[str]:
    """In words, which distances are above the limit, or no number."""
    measures = ("the logits are apart by", "those of one position are apart by")
    # Not `> most`: what is not a number is no small distance.
    return [
        f"{name}: {measure} {off:.3g} of their length, more than {most:.3g}"
        for name, distances in found.items()
        for measure, off, most in zip(measures, distances, limit, strict=True)
        if not off <= most
    ]


def exact() -> None:
    """Turn TF32 off in this process, which must not have started CUDA: libraries that multiply
    float32 read the variable then (NVIDIA's cuBLAS and cuDNN documentation)."""
    os.environ["NVIDIA_TF32_OVERRIDE"] = "0"
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def products(dtype: str, device: Any) -> dict[str, float]:
    """How far one product of the dtype is off, by what multiplies: the root-mean-square error
    relative to the product in float64.

    Transformer Engine multiplies for the default spec, torch for the ModelOpt spec.
    """
    import torch

    linear = importlib.import_module("transformer_engine.pytorch").Linear
    generator = torch.Generator().manual_seed(SEEDS[0])
    kind = getattr(torch, dtype)
    given, weight = (
        torch.randn(WIDTH, WIDTH, generator=generator).to(device=device, dtype=kind)
        for _ in range(2)
    )
    layer = linear(WIDTH, WIDTH, bias=False, params_dtype=kind, device=device)
    with torch.no_grad():
        layer.weight.copy_(weight)
        exactly = given.double() @ weight.double().t()
        found = {
            "Transformer Engine": layer(given),
            "torch": torch.nn.functional.linear(given, weight),
        }
    return {
        name: float((one.double() - exactly).norm() / exactly.norm()) for name, one in found.items()
    }


@contextlib.contextmanager
def perturbed(weights: Iterable[Any], error: float, seed: int) -> Iterator[None]:
    """Each floating weight times `1 + error * gaussian` meanwhile; put back afterwards."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    floating = [one for one in weights if one.is_floating_point()]
    kept = [one.detach().clone() for one in floating]
    try:
        with torch.no_grad():
            for one in floating:
                one.copy_(scattered(one.detach(), error, generator))
        yield
    finally:
        with torch.no_grad():
            for one, before in zip(floating, kept, strict=True):
                one.copy_(before)


def scattered(values: Any, error: float, generator: Any) -> Any:
    """The values, each times `1 + error * gaussian`, of their own dtype."""
    import torch

    factor = 1 + error * torch.randn(values.shape, generator=generator).to(values.device)
    return (values.float() * factor).to(values.dtype)


def rows(logits: Any) -> list[list[float]]:
    """Logits, [1, positions, vocabulary] or [1, vocabulary], by position as plain numbers."""
    found: list[list[float]] = logits.double().reshape(-1, logits.shape[-1]).tolist()
    return found


def own(
    model: Any, batch: Any, error: float, ask: Callable[[Any, Any], Any]
) -> dict[str, Distances]:
    """What rounding may do to a model's logits of one sequence, by what shows it: weights off by
    `error`, and the sequence as a row of a batch.

    `batch` is [several, positions], and its first row the sequence; `ask(model, tokens)` gives the
    logits, [rows, positions, vocabulary].
    """
    wanted = rows(ask(model, batch[:1]))
    found = {}
    for seed in SEEDS:
        with perturbed(model.parameters(), error, seed):
            found[f"weights, seed {seed}"] = apart(wanted, rows(ask(model, batch[:1])))
    found["in a batch"] = apart(wanted, rows(ask(model, batch)[:1]))
    return found


def limits(
    model: Any,
    batch: Any,
    dtype: str,
    record: Callable[[str, Any], None],
    ask: Callable[[Any, Any], Any],
) -> Distances:
    """How far another implementation's logits may be from the model's; recorded is what that
    follows from. Parameters as of `own`."""
    found = products(dtype, batch.device)
    # What is too exact here, a rounding of the dtype itself still moves.
    error = max(*found.values(), ROUNDOFF[dtype] / math.sqrt(3))
    noises = own(model, batch, error, ask)
    limit = bound(noises.values(), FLOOR * ROUNDOFF[dtype])
    record("error of one product", {**found, "taken": error})
    record("own noise", {name: one._asdict() for name, one in noises.items()})
    record("bound", limit._asdict())
    return limit
