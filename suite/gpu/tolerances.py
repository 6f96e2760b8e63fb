"""How much two models' logits may differ, and by how much they do. Pure: needs no torch.

Nothing here was measured on a GPU: the limits follow from the sources named below, and are
estimates until one has confirmed them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

ROUNDED = {"float32": 2.0**-11, "bfloat16": 2.0**-8}
"""By dtype: the unit roundoff of what a matrix product takes. Transformer Engine multiplies
float32 as TF32, with 10 explicit bits (NVIDIA's CUDA C++ Programming Guide, "Alternate
Floating-Point"); bfloat16 has 7."""

SUMMED = 2.0**-24
"""The unit roundoff of what it sums up in: float32."""

STEPS = 8
"""Operations of a layer that follow one another and round: four projections, two attention
products, two norms."""

ENDS = 2
"""The same outside the layers: the embedding, the output."""


def of_dtype(dtype: str, layers: int, width: int) -> float:
    """The largest difference of two logits that rounding explains, relative to the largest logit.

    A matrix product whose factors are rounded to a unit roundoff `u`, and which is summed over `n`
    terms in one of `v`, has a relative error of at most about `2 u + n v` (Blanchard, Higham,
    Lopez, Mary, Pranesh, "Mixed Precision Block Fused Multiply-Add", SIAM J. Sci. Comput. 42(3),
    2020, theorem 3.2, after Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed.,
    2002, section 3.1); errors of random sign replace `n` by `sqrt(n)` (Higham and Mary, "A New
    Approach to Probabilistic Rounding Error Analysis", SIAM J. Sci. Comput. 41(5), 2019). To
    first order the errors of operations that follow one another add up; both models make them,
    and norms between them keep an error from growing, which is what is assumed here.
    """
    return (STEPS * layers + ENDS) * (2 * ROUNDED[dtype] + math.sqrt(width) * SUMMED)


CREST = 8.0
"""How many times its root mean square the largest element of a tensor is at most taken to be,
where one scale serves the whole tensor."""

LINEARS = 5
"""Quantized products of a layer that follow one another: latent attention has most."""

SPARE = 1.5

UNRELATED = 0.9
"""No tolerance is above this: logits of nothing differ by 1, of another model by about 1.4."""

FORMATS: Mapping[str, float] = {
    "int8": CREST / 127 / math.sqrt(12),
    "fp8": 2.0**-4 / math.sqrt(3),
    "nvfp4": math.hypot(2.0**-2, 2.0**-4) / math.sqrt(3),
}
"""By format: the root mean square of a tensor's error, relative to its own.

A uniform quantizer of step `q` makes errors of `q / sqrt(12)`, one of floating point, whose half
step is at most `u` relative to the value, of at most `u / sqrt(3)` (Widrow and Kollar,
"Quantization Noise", 2008, chapters 5 and 12). INT8 has 127 steps up to the largest element; E4M3
has 3 explicit bits, E2M1 1, and its blocks' scales are E4M3 (Micikevicius et al., "FP8 Formats
for Deep Learning", 2022; OCP Microscaling Formats specification 1.0, 2023).
"""


def of_format(fmt: str, layers: int, *, factors: int = 2) -> float:
    """The distance of quantized logits from those without, relative to those without.

    Of a product the errors of its `factors` that are quantized are independent, as are those of
    products that follow one another: their squares add up. `SPARE` is for what is not so.
    """
    error = FORMATS[fmt] * math.sqrt(factors * LINEARS * layers)
    return min(SPARE * error, UNRELATED)


def difference(wanted: Sequence[float], actual: Sequence[float]) -> float:
    """The largest difference of two elements, relative to the largest of `wanted`.

    Not a number where either has one that is not, or where nothing is wanted.

    Raises:
        ValueError: they are not of one length.
    """
    largest = max(map(abs, wanted), default=math.nan)
    off = [abs(one - other) for one, other in zip(wanted, actual, strict=True)]
    return _ratio(max(off, default=math.nan, key=_nan_first), largest, (*wanted, *actual))


def distance(wanted: Sequence[float], actual: Sequence[float]) -> float:
    """The length of the difference, relative to that of `wanted`; otherwise as `difference`."""
    off = [one - other for one, other in zip(wanted, actual, strict=True)]
    return _ratio(_length(off), _length(wanted), (*wanted, *actual))


def _length(values: Sequence[float]) -> float:
    return math.sqrt(math.fsum(value * value for value in values if math.isfinite(value)))


def _nan_first(value: float) -> float:
    return math.inf if math.isnan(value) else value


def _ratio(off: float, of: float, values: Sequence[float]) -> float:
    return off / of if of > 0 and all(map(math.isfinite, values)) else math.nan


def above(found: Mapping[str, float], limit: float, measure: str) -> list[str]:
    """In words, which of what was found is above the limit, or no number."""
    # Not `> limit`: what is not a number is no small difference.
    return [
        f"{name}: {measure} {off:.3g}, more than {limit:.3g}"
        for name, off in found.items()
        if not off <= limit
    ]
