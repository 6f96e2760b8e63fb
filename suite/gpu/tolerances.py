"""What a format of quantized numbers does to a tensor. Pure: needs no torch.

Nothing here was measured on a GPU: it follows from the sources named below.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from suite import formats

CREST = 8.0
"""How many times its root mean square the largest element of a tensor is at most taken to be,
where one scale serves the whole tensor."""

UNRELATED = 0.9
"""A plain sanity cap, which follows from no format: logits of nothing are 1 from any others, those
of another model about 1.4. A quantized model's are to be nearer, whatever its own noise allows."""

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

BLOCK = 16
"""Elements along a row that share a scale in NVFP4 (NVIDIA, "Introducing NVFP4", 2025)."""


def half_step(fmt: str, value: float, largest: float, of_block: float) -> float:
    """The most that quantization may move `value`, where `largest` is what the format's scale was
    calibrated to and `of_block` the largest magnitude in the value's block, both at least as large:
    `formats.half_step`. Works elementwise on tensors, too.

    Raises:
        KeyError: there is no such format.
    """
    bound: float = formats.half_step(fmt, abs(value), largest, of_block)
    return bound
