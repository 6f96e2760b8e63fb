"""What the GPU tier's checks make of what models say: negative controls. What they ask of the
packages stands in; no model is here."""

from __future__ import annotations

import contextlib
import importlib.machinery
import importlib.util
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from suite import noise
from suite.gpu import check_device, check_quantized, conftest, models, scales
from suite.outcomes import NeedsGpu, Unsupported

CONFIG = SimpleNamespace(num_layers=2, hidden_size=128)


def recorder() -> tuple[dict[str, Any], Callable[[str, Any], None]]:
    recorded: dict[str, Any] = {}
    return recorded, recorded.__setitem__


def quantizer(**values: Any) -> Any:
    return SimpleNamespace(**values)


class Logits:
    """Logits of so many places, [1, places, 2], as the checks look at them."""

    def __init__(self, *places: float) -> None:
        self.values = [(value, -value) for value in places]
        self.shape = (1, len(places), 2)

    def __getitem__(self, key: tuple[Any, int]) -> Logits:
        return Logits(self.values[key[1]][0])


def stand_in(monkeypatch: pytest.MonkeyPatch, **values: Any) -> None:
    """Stand-ins for what `models` asks of the packages."""
    usual = {
        "rows": lambda logits: logits.values,
        "limits": lambda *_: noise.Distances(0.01, 0.01),
        "scattered": lambda *_: [noise.Distances(0.01, 0.01)],
        "sequences": lambda: [None],
        "compiled": lambda ask: ask(),
        "shapes": lambda *_: [],
        "configuration": lambda fmt, record: {},
    }
    for name, value in {**usual, **values}.items():
        monkeypatch.setattr(models, name, value)


def asked_of_keys_and_values(
    monkeypatch: pytest.MonkeyPatch,
    found: dict[str, Any],
    after: Logits,
    wrong: Sequence[str] = (),
) -> dict[str, Any]:
    """What the check of keys and values records; `after` is what the quantized model says."""
    # Before quantization, of the one sequence that calibration sees, and after.
    said = iter([Logits(1.0, 2.0), Logits(1.0, 2.0), after])
    monkeypatch.setattr(scales, "watched", lambda model: contextlib.nullcontext())
    monkeypatch.setattr(scales, "wrong_scales", lambda *_: (len(found), wrong))
    stand_in(
        monkeypatch,
        restored=lambda *_: SimpleNamespace(config=CONFIG),
        whole=lambda *_: next(said),
        calibrated=lambda model, *_: model,
        quantizers=lambda model: found,
        in_steps=lambda *_: (after[:, 0], after[:, -1]),
    )
    recorded, record = recorder()
    check_quantized.check_quantized_kv("gpt", record, Path())  # type: ignore[arg-type]
    return recorded


def keys_and_values(**values: Any) -> dict[str, Any]:
    return {f"core_attention.{one}_bmm_quantizer": quantizer(**values) for one in "kv"}


NEAR = Logits(1.001, 2.002)


@pytest.mark.parametrize(
    "scale", [{"_amax": 1.0}, {"_dynamic": True}, {"_amax": None, "_use_constant_amax": True}]
)
def test_keys_and_values_that_are_quantized_work(
    scale: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = asked_of_keys_and_values(monkeypatch, keys_and_values(**scale), NEAR)
    assert 0 < recorded["distance"]["whole"] < recorded["bound of the format"]["whole"]


def test_keys_and_values_whose_quantizers_were_never_called_are_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(AssertionError, match=r"2 without a scale: core_attention\.k_bmm"):
        asked_of_keys_and_values(monkeypatch, keys_and_values(_amax=None), NEAR)


def test_a_scale_of_keys_that_is_not_theirs_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AssertionError, match="the scale is off"):
        asked_of_keys_and_values(
            monkeypatch, keys_and_values(_amax=1.0), NEAR, ["k: the scale is off by 1"]
        )


@pytest.mark.parametrize("far", [1.5, math.nan])
def test_quantized_logits_beyond_the_noise_of_the_format_are_found(
    far: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(AssertionError, match="quantized against not: those of one position"):
        asked_of_keys_and_values(monkeypatch, keys_and_values(_amax=1.0), Logits(far, 2.0))


def test_quantized_keys_and_values_that_change_nothing_are_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(AssertionError, match="quantization changes nothing"):
        asked_of_keys_and_values(monkeypatch, keys_and_values(_amax=1.0), Logits(1.0, 2.0))


def test_a_model_without_quantizers_of_keys_and_values_is_unsupported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(Unsupported, match="no keys or values"):
        asked_of_keys_and_values(monkeypatch, {"a.input_quantizer": quantizer()}, NEAR)


def decoded(
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
    default: tuple[float, float],
    modelopt: tuple[float, float],
) -> dict[str, Any]:
    """What the check of decoding records of models that say 1 and 2 at once, and with a cache what
    is given of prefill and of decode."""
    steps = {"default": default, "modelopt": modelopt}
    made = [SimpleNamespace(spec=spec, config=CONFIG) for spec in steps]
    stand_in(
        monkeypatch,
        pair=lambda *_: made,
        whole=lambda *_: Logits(1.0, 2.0),
        in_steps=lambda model, *_: tuple(Logits(one) for one in steps[model.spec]),
    )
    monkeypatch.setattr(check_device.inference, "tokens", lambda: None)
    recorded, record = recorder()
    check_device.check_device_decode("float32", mode, "gpt", record, Path())  # type: ignore[arg-type]
    return recorded


@pytest.mark.parametrize("mode", models.MODES)
def test_steps_with_a_cache_that_say_the_same_work(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = decoded(monkeypatch, mode, (1.0, 2.0), (1.0, 2.0))
    assert len(recorded["differences"]) == 5


@pytest.mark.parametrize("mode", models.MODES)
@pytest.mark.parametrize(
    ("default", "modelopt", "told"),
    [
        ((1.0, 2.0), (1.5, 2.0), "modelopt, prefill with a cache against all at once"),
        ((1.5, 2.0), (1.0, 2.0), "default, prefill with a cache against all at once"),
        ((1.0, 2.0), (1.0, 2.5), "decode with a cache: modelopt against default"),
        ((1.0, 2.5), (1.0, 2.0), "decode with a cache: modelopt against default"),
        ((1.0, math.nan), (1.0, math.nan), "default, decode with a cache against all at once"),
    ],
)
def test_a_step_that_says_something_else_is_found_in_both_modes(
    mode: str,
    default: tuple[float, float],
    modelopt: tuple[float, float],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(AssertionError, match=told):
        decoded(monkeypatch, mode, default, modelopt)


def test_decoding_otherwise_than_at_once_is_wrong_unless_both_specs_train(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alike = ((1.0, 2.5), (1.0, 2.5))
    with pytest.raises(AssertionError, match="modelopt, decode with a cache against all at once"):
        decoded(monkeypatch, "eval", *alike)
    recorded = decoded(monkeypatch, "training", *alike)
    assert (
        recorded["differences"]["modelopt, decode with a cache against all at once"]["whole"] > 0.2
    )


# What a wheel was built without


def asked(source: str, monkeypatch: pytest.MonkeyPatch, module: ModuleType) -> BaseException:
    """What a check ends with that runs `source`, where `module` is the compiled part."""
    monkeypatch.setitem(sys.modules, "causal_conv1d_cuda", module)
    hook = conftest.pytest_runtest_call(None)  # type: ignore[arg-type]
    next(hook)
    try:
        exec(source)
    except Exception as error:
        try:
            hook.throw(error)
        except Exception as told:
            return told
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize(
    "source",
    ["import causal_conv1d_cuda as c; c.causal_conv1d_fwd()", "from causal_conv1d_cuda import x"],
)
def test_a_kernel_that_a_wheel_was_built_without_is_not_asked(
    source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = asked(source, monkeypatch, ModuleType("causal_conv1d_cuda"))
    assert isinstance(error, NeedsGpu)
    assert "the wheel of causal-conv1d was built without its CUDA part" in str(error)
    there = importlib.util.module_from_spec(
        importlib.machinery.ModuleSpec("causal_conv1d_cuda", None)
    )
    assert isinstance(asked(source, monkeypatch, there), (AttributeError, ImportError))


@pytest.mark.parametrize("source", ["import math; math.fwd()", "{}['x']", "from math import fwd"])
def test_what_else_a_check_ends_with_is_left_as_it_is(
    source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = asked(source, monkeypatch, ModuleType("causal_conv1d_cuda"))
    assert isinstance(error, (AttributeError, KeyError, ImportError))
