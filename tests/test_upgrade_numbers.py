"""Numbers of two cells side by side. All results are made up."""

from __future__ import annotations

from typing import Any

from support import event
from upgrade_support import (
    FROM,
    TO,
    shows,
)

from mcore_compat.upgrade import numbers


def held(digest: str, tensors: int = 2) -> dict[str, Any]:
    return event("restore[gpt]", details={"digest": digest, "tensors": tensors})


def shaped(kind: str, **tensors: list[Any]) -> dict[str, Any]:
    return event(f"{kind}[gpt]", details={"tensors": tensors})


def compared(old: tuple[dict[str, Any], ...], new: tuple[dict[str, Any], ...]) -> numbers.Numbers:
    return numbers.numbers(shows(FROM, *old), shows(TO, *new))


def test_equal_digests_are_the_same_numbers() -> None:
    made = compared((held("a"),), (held("a"),))
    assert (made.same, made.differ) == (("restore[gpt]",), ())


def test_other_values_are_told_from_other_tensors() -> None:
    models = tuple(shaped(kind, w=["float32", 2]) for kind in numbers.MODELS)
    made = compared((held("a"), *models), (held("b"), *models))
    assert made.values == made.differ == ("restore[gpt]",)
    other = (models[0], shaped(numbers.MODELS[1], w=["float32", 3], v=["float32", 1]))
    made = compared((held("a"), *models), (held("b", 3), *other))
    assert made.values == ()
    assert made.counts == {"restore[gpt]": (2, 3)}
    (shape,) = made.shapes
    assert (shape.added, shape.removed, shape.changed) == (("v",), (), ("w",))


def test_what_failed_in_one_of_them_is_not_compared() -> None:
    bad = event("restore[gpt]", "broken", details={"digest": "a"})
    assert compared((held("a"),), (bad,)) == numbers.Numbers(counts={})


def test_logits_are_compared_step_by_step() -> None:
    def logits(decode: str, off: float) -> dict[str, Any]:
        details = {"whole: digest": "w", "decode: digest": decode, "differences": {"x": off}}
        return event("inference-numbers[gpt]", details=details)

    (one,) = compared((logits("a", 1e-6),), (logits("b", 2e-6),)).logits
    assert (one.family, one.same, one.differ) == ("gpt", ("whole",), ("decode",))
    assert one.off == (1e-6, 2e-6)
