"""How far a format may move a number, by trying: the nearest number of each format."""

from __future__ import annotations

import itertools
import random

import pytest

from suite import formats

E4M3 = sorted(
    {
        sign * (mantissa / 8 + bool(exponent)) * 2.0 ** (max(exponent, 1) - 7)
        for sign, exponent, mantissa in itertools.product((-1, 1), range(16), range(8))
        if (exponent, mantissa) != (15, 7)
    }
)
E2M1 = (-6, -4, -3, -2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5, 2, 3, 4, 6)


def nearest(numbers: list[float] | tuple[float, ...], value: float) -> float:
    return min(numbers, key=lambda one: abs(one - value))


def quantized(fmt: str, value: float, largest: float, of_block: float) -> float:
    if fmt == "int8":
        return round(value / largest * 127) * largest / 127
    if fmt == "int4":
        return round(value / of_block * 7) * of_block / 7
    if fmt == "fp8":
        return nearest(E4M3, value * 448 / largest) * largest / 448
    tensor = largest / 6 / 448
    scale = nearest(E4M3, of_block / 6 / tensor) * tensor
    return nearest(E2M1, value / scale) * scale if scale else 0.0


@pytest.mark.parametrize("fmt", sorted(formats.FORMATS))
def test_no_number_is_moved_by_more_and_some_by_nearly_as_much(fmt: str) -> None:
    draw = random.Random(1234)
    largest = 0.13
    shares = []
    for _ in range(3000):
        of_block = largest * draw.uniform(0.3, 1)
        value = draw.choice((-1, 1)) * min(abs(draw.gauss(0, 0.03)), of_block)
        off = abs(quantized(fmt, value, largest, of_block) - value)
        shares.append(off / formats.half_step(fmt, abs(value), largest, of_block))
    assert max(shares) <= 1 + 1e-9
    if formats.FORMATS[fmt].tight:
        assert max(shares) > 0.9


@pytest.mark.parametrize(("bits", "steps"), [(8, 127), (4, 7)])
def test_with_one_bit_more_no_number_uses_what_a_step_must_use(bits: int, steps: int) -> None:
    assert steps / (2**bits - 1) < formats.USED


def test_there_is_no_other_format() -> None:
    with pytest.raises(KeyError):
        formats.half_step("int2", 1.0, 1.0, 1.0)
