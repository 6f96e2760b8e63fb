"""The formats of quantized numbers: their settings, and how far one may move a number.

Pure: needs no torch; works elementwise on tensors, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Format:
    """`constant`: the release's own configuration that asks for it; `bits`: of an element, an
    integer's or `(exponent, mantissa)`; `tight`: whether `half_step` is no more than is needed."""

    constant: str
    bits: int | tuple[int, int]
    blocks: bool
    tight: bool


FORMATS: Mapping[str, Format] = {
    "int8": Format("INT8_DEFAULT_CFG", 8, blocks=False, tight=True),
    "fp8": Format("FP8_DEFAULT_CFG", (4, 3), blocks=False, tight=True),
    "nvfp4": Format("NVFP4_DEFAULT_CFG", (2, 1), blocks=True, tight=False),
    "int4": Format("INT4_BLOCKWISE_WEIGHT_ONLY_CFG", 4, blocks=True, tight=True),
}

USED = 0.75
"""The part of the largest step that some element of a weight must use: of thousands of elements at
random some lie near the middle between two numbers of the format; with one bit more, steps are
half as long, and none would use that much."""


def half_step(fmt: str, magnitude: Any, largest: Any, of_block: Any) -> Any:
    """The most that quantization may move a number of this magnitude. `largest` is what the
    scale was calibrated to, `of_block` the largest magnitude in the number's block.

    INT8 and INT4: symmetric integers, half of a step of `largest / 127` and of `of_block / 7`
    (the scale of INT4 is the block's own). FP8 is E4M3, up to 448, with 3 explicit bits: half a
    place is 2^-4 of the number, and for subnormals 2^-10 of the scale `largest / 448` (Micikevicius
    et al., "FP8 Formats for Deep Learning", 2022). NVFP4: elements are E2M1, up to 6, with one
    explicit bit: 2^-2 of the number, or half the subnormals' step of 1/2 of the block's scale
    `of_block / 6`; that scale is itself E4M3, off by up to 2^-4 of it, or by half the subnormals'
    step of the tensor's scale `largest / (6 * 448)`, by which the block's largest may be cut off
    and each step be longer (OCP Microscaling Formats 1.0, 2023; NVIDIA, "Introducing NVFP4", 2025).

    Raises:
        KeyError: there is no such format.
    """
    if fmt == "int8":
        return largest / 127 / 2 + 0 * magnitude
    if fmt == "int4":
        return of_block / 7 / 2 + 0 * magnitude
    if fmt == "fp8":
        return 2.0**-4 * magnitude + 2.0**-10 * largest / 448
    if fmt == "nvfp4":
        scale = of_block / 6
        off = 2.0**-4 * scale + 2.0**-10 * largest / (6 * 448)
        return 2.0**-2 * magnitude + (scale + off) / 4 + 6 * off
    raise KeyError(fmt)
