"""The GPU tier as far as it can be tested without one: its comparing functions refuse what they are
to refuse, and on a host nothing of it runs.

The formats here are a few lines of numpy; `tests/real/test_gpu_plumbing.py` asks real models.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from suite import noise
from suite.gpu import check_quantized, models, tolerances
from suite.outcomes import NeedsGpu, Unsupported

from .conftest import ROOT

WIDTH = 128
Array = np.ndarray[Any, np.dtype[np.float64]]
Round = Callable[[Array], Array]


def to_bits(bits: int) -> Round:
    """Rounding to a significand of so many bits."""

    def rounded(values: Array) -> Array:
        fraction, exponent = np.frexp(values)
        return np.asarray(np.ldexp(np.round(np.ldexp(fraction, bits)), exponent - bits))

    return rounded


def to_int8(values: Array) -> Array:
    scale = np.abs(values).max() / 127
    return np.asarray(np.round(values / scale) * scale)


def to_nvfp4(values: Array) -> Array:
    """Blocks of 16 of E2M1, each with a scale of its own in E4M3."""
    grid = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    blocks = values.reshape(-1, 16)
    scale = to_bits(4)(np.abs(blocks).max(axis=1, keepdims=True) / 6)
    near = np.abs(np.abs(blocks / scale)[..., None] - grid).argmin(axis=-1)
    return np.asarray((np.sign(blocks) * grid[near] * scale).reshape(values.shape))


WEIGHTS = np.random.default_rng(3).normal(size=(64, WIDTH))
QUANTIZED: dict[str, Round] = {"int8": to_int8, "fp8": to_bits(4), "nvfp4": to_nvfp4}


@pytest.mark.parametrize("fmt", sorted(tolerances.FORMATS))
def test_the_error_of_one_tensor_is_not_above_what_is_taken_for_it(fmt: str) -> None:
    error = np.linalg.norm(QUANTIZED[fmt](WEIGHTS) - WEIGHTS) / np.linalg.norm(WEIGHTS)
    assert error <= tolerances.FORMATS[fmt]


@pytest.mark.parametrize("fmt", sorted(tolerances.FORMATS))
def test_quantization_moves_no_element_by_more_than_half_a_step(fmt: str) -> None:
    blocks = np.abs(WEIGHTS).reshape(-1, tolerances.BLOCK).max(axis=1, keepdims=True)
    of_block = np.broadcast_to(blocks, (blocks.size, tolerances.BLOCK)).reshape(WEIGHTS.shape)
    most: Any = tolerances.half_step(fmt, WEIGHTS, np.abs(WEIGHTS).max(), of_block)  # type: ignore[arg-type]
    moved = np.abs(QUANTIZED[fmt](WEIGHTS) - WEIGHTS) / most
    assert 0.5 < moved.max() <= 1.0001
    # A weight of the next one's scale, of nothing, or of twice its own is seen.
    for wrong in (np.roll(WEIGHTS, 1), np.zeros_like(WEIGHTS), 2 * WEIGHTS):
        assert (np.abs(wrong - WEIGHTS) / most).max() > 1


def test_a_format_that_is_not_known_has_no_half_step() -> None:
    with pytest.raises(KeyError, match="int3"):
        tolerances.half_step("int3", 1.0, 1.0, 1.0)


# How far logits are apart


LOGITS = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]


def test_one_wrong_position_is_not_diluted() -> None:
    off = noise.apart(LOGITS, [[1.0, 2.0], [3.0, 5.0], [5.0, 6.0]])
    assert off == noise.Distances(pytest.approx(1 / math.sqrt(91)), pytest.approx(0.2))
    assert noise.beyond({"x": off}, noise.Distances(0.11, 0.19)) == [
        "x: those of one position are apart by 0.2 of their length, more than 0.19"
    ]
    assert len(noise.beyond({"x": off}, noise.Distances(0.1, 0.19))) == 2
    assert noise.beyond({"x": off}, noise.Distances(0.11, 0.21)) == []


def test_a_bound_is_a_multiple_of_the_largest_noise_and_not_below_the_floor() -> None:
    noises = [noise.Distances(0.01, 0.02), noise.Distances(0.02, 0.015)]
    assert noise.bound(noises, 0.0) == noise.Distances(0.02 * noise.SPARE, 0.02 * noise.SPARE)
    assert noise.bound(noises, 0.5) == noise.Distances(0.5, 0.5)


@pytest.mark.parametrize("odd", [math.nan, math.inf])
def test_what_is_no_number_is_within_no_bound(odd: float) -> None:
    none = noise.Distances(math.inf, math.inf)
    for wanted, actual in (([[1.0, odd]], [[1.0, 2.0]]), ([[1.0, 2.0]], [[1.0, odd]])):
        assert len(noise.beyond({"x": noise.apart(wanted, actual)}, none)) == 2
    assert noise.beyond({"x": noise.apart([[0.0]], [[0.0]])}, none)
    spoiled = noise.bound([noise.Distances(math.nan, 0.1)], 0.0)
    assert noise.beyond({"x": noise.Distances(0.0, 0.0)}, spoiled)


def test_logits_of_another_number_cannot_be_compared() -> None:
    for actual in ([[1.0]], [[1.0, 2.0], [3.0, 4.0]]):
        with pytest.raises(ValueError, match="zip"):
            noise.apart([[1.0, 2.0]], actual)


@pytest.mark.parametrize(("topk", "problems"), [(2, 0), (1, 1)])
def test_a_token_that_goes_to_some_experts_only_cannot_be_compared(
    topk: int, problems: int
) -> None:
    config = SimpleNamespace(num_moe_experts=2, moe_router_topk=topk)
    assert len(models.routing(SimpleNamespace(config=config))) == problems
    assert models.routing(SimpleNamespace(config=SimpleNamespace(num_moe_experts=None))) == []


# The shapes of logits, gradients, quantizers


def logits(*shape: int) -> Any:
    return SimpleNamespace(shape=shape)


MODEL = SimpleNamespace(output_layer=SimpleNamespace(weight=logits(128, 64)))


@pytest.mark.parametrize(
    ("first", "last", "wrong"),
    [
        ((1, 7, 128), (1, 1, 128), 0),
        ((1, 1, 128), (1, 1, 128), 0),
        ((1, 7, 64), (1, 1, 128), 1),
        ((7, 1, 128), (1, 1, 128), 1),
        ((1, 7, 128), (1, 7, 128), 1),
    ],
)
def test_logits_of_another_shape_are_found(
    first: tuple[int, ...], last: tuple[int, ...], wrong: int
) -> None:
    assert len(models.shapes(MODEL, logits(*first), logits(*last), 8)) == wrong


@pytest.mark.parametrize(
    ("lengths", "told"),
    [
        ({}, "no parameter to train"),
        ({"a.weight": 1.0, "b.weight": None}, "1 without a gradient: b.weight"),
        ({"a.weight": math.nan, "b.weight": 1.0}, "no number: a.weight"),
        ({"a.weight": 0.0, "b.bias": 0.0}, "every gradient is zero"),
    ],
)
def test_a_gradient_that_does_not_flow_is_found(
    lengths: dict[str, float | None], told: str
) -> None:
    assert told in "; ".join(check_quantized.without_gradient(lengths))
    assert check_quantized.without_gradient({"a.weight": 1.0, "b.bias": 0.0}) == []


def quantizer(**values: Any) -> Any:
    return SimpleNamespace(**values)


def test_an_input_that_calibration_left_out_is_found() -> None:
    found = {
        "a.input_quantizer": quantizer(_amax=1.0),
        "b.input_quantizer": quantizer(_amax=None),
        "c.input_quantizer": quantizer(_dynamic=True),
        "e.input_quantizer": quantizer(_use_constant_amax=True),
        "d.weight_quantizer": quantizer(),
        "f.output_quantizer": quantizer(),
    }
    assert models.uncalibrated(found) == ["b.input_quantizer", "d.weight_quantizer"]


# What the hardware has, by what the release offers


@pytest.fixture
def release(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A stand-in for ModelOpt and torch, by module."""
    modules: dict[str, Any] = {
        "modelopt.torch.quantization": SimpleNamespace(NVFP4_DEFAULT_CFG={"quant_cfg": {}}),
        "modelopt.torch.quantization.tensor_quant": SimpleNamespace(),
        "modelopt.torch.quantization.extensions": SimpleNamespace(),
        "modelopt.torch.quantization.utils": SimpleNamespace(),
    }
    monkeypatch.setattr(models.importlib, "import_module", modules.__getitem__)
    cuda = SimpleNamespace(get_device_capability=lambda: (8, 0))
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    return modules


def recorder() -> tuple[dict[str, Any], Callable[[str, Any], None]]:
    recorded: dict[str, Any] = {}
    return recorded, recorded.__setitem__


def test_nvfp4_is_asked_where_the_release_offers_a_kernel(release: dict[str, Any]) -> None:
    kernel = SimpleNamespace(IS_AVAILABLE=True, fp4_fake_quant_block=print)
    release["modelopt.torch.quantization.tensor_quant"].triton_kernel = kernel
    assert models.four_bits() == "Triton kernel"
    recorded, record = recorder()
    assert models.configuration("nvfp4", record) == {"quant_cfg": {}}
    assert recorded == {"configuration": "NVFP4_DEFAULT_CFG", "implementation": "Triton kernel"}


def test_nvfp4_is_asked_where_the_release_s_extension_is_built(release: dict[str, Any]) -> None:
    release["modelopt.torch.quantization.extensions"].get_cuda_ext_mx = lambda: object()
    assert models.four_bits() == "CUDA extension"


def test_nvfp4_needs_a_gpu_where_the_release_offers_neither(release: dict[str, Any]) -> None:
    kernel = SimpleNamespace(IS_AVAILABLE=False)
    release["modelopt.torch.quantization.tensor_quant"].triton_kernel = kernel
    with pytest.raises(NeedsGpu, match=r"capability 8\.0"):
        models.configuration("nvfp4", recorder()[1])


def test_a_format_that_the_release_lacks_is_unsupported(release: dict[str, Any]) -> None:
    for fmt in ("fp8", "kv"):
        with pytest.raises(Unsupported, match="has none of"):
            models.configuration(fmt, recorder()[1])


def test_keys_and_values_alone_are_quantized(release: dict[str, Any]) -> None:
    given = {"quant_cfg": {"*[kv]_bmm_quantizer": {"num_bits": (4, 3)}}}
    release["modelopt.torch.quantization"].FP8_KV_CFG = given
    recorded, record = recorder()
    assert models.configuration("kv", record) == given
    assert recorded == {"configuration": "FP8_KV_CFG", "implementation": "plain PyTorch"}

    def add(config: dict[str, Any], part: Any) -> dict[str, Any]:
        return {**config, "quant_cfg": ["nothing else", part]}

    release["modelopt.torch.quantization.utils"].update_quant_cfg_with_kv_cache_quant = add
    config = models.configuration("kv", record)
    assert config == {"algorithm": "max", "quant_cfg": ["nothing else", given["quant_cfg"]]}


def test_an_extension_that_is_not_built_here_is_no_fault_of_the_release() -> None:
    def fails(text: str) -> Callable[[], None]:
        def ask() -> None:
            raise RuntimeError(text)

        return ask

    with pytest.raises(NeedsGpu, match="does not build"):
        models.compiled(fails("CUDA extension for FP8 quantization could not be built and loaded"))
    with pytest.raises(RuntimeError, match="illegal memory access"):
        models.compiled(fails("an illegal memory access was encountered"))


@pytest.mark.parametrize(("fmt", "getter"), models.EXTENSIONS.items())
def test_what_simulates_a_format_is_told(release: dict[str, Any], fmt: str, getter: str) -> None:
    assert models.implementation(fmt) == "plain PyTorch"
    setattr(release["modelopt.torch.quantization.extensions"], getter, lambda: object())
    assert models.implementation(fmt) == "CUDA extension"


def test_an_extension_that_is_called_and_was_not_built_is_no_fault_of_the_release(
    release: dict[str, Any],
) -> None:
    nothing: Any = None
    with pytest.raises(NeedsGpu, match="does not build"):
        models.compiled(lambda: nothing.fake_tensor_quant(1))
    with pytest.raises(AttributeError, match="shape"):
        models.compiled(lambda: nothing.shape)
    for getter in models.EXTENSIONS.values():
        setattr(release["modelopt.torch.quantization.extensions"], getter, lambda: object())
    with pytest.raises(AttributeError, match="fake_tensor_quant"):
        models.compiled(lambda: nothing.fake_tensor_quant(1))


# On a host


FUNCTION = "def get_gpt_modelopt_spec(config, qk_l2_norm=False): ...\n"


def run(tmp_path: Path, *arguments: str) -> tuple[int, str, list[dict[str, Any]]]:
    """The engine, with a stand-in for Megatron's source that is looked at, never imported."""
    place = tmp_path / "site" / "megatron" / "core" / "post_training" / "modelopt" / "gpt"
    place.mkdir(parents=True)
    (tmp_path / "site" / "megatron" / "__init__.py").write_text("raise SystemExit('imported')\n")
    (place / "model_specs.py").write_text(FUNCTION)
    events = tmp_path / "events.jsonl"
    argv = [sys.executable, str(ROOT / "suite" / "run.py"), "--events", str(events)]
    done = subprocess.run(
        [*argv, "--preload", "", "--tools", str(tmp_path / "site"), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )
    lines = events.read_text().splitlines() if events.exists() else []
    rows = [row for row in map(json.loads, lines) if row["event"] == "check"]
    return done.returncode, done.stdout + done.stderr, rows


KINDS = {
    *(f"device-{what}-{dtype}" for what in ("restore", "logits") for dtype in models.DTYPES),
    *(f"device-decode-{dtype}-{mode}" for dtype in models.DTYPES for mode in models.MODES),
    *(f"{what}-{fmt}" for what in ("quantized", "trained") for fmt in tolerances.FORMATS),
    "quantized-kv",
}


def test_on_a_host_each_check_needs_a_gpu_and_nothing_stands_in(tmp_path: Path) -> None:
    code, output, rows = run(tmp_path, "--checks", str(ROOT / "suite" / "gpu"), "--gpu", "never")
    assert code == 0, output
    asked = [row for row in rows if row["family"] != "hybrid-mamba"]
    assert {row["kind"] for row in asked if row["family"] == "gpt"} == KINDS
    assert {row["outcome"] for row in asked} == {"needs-gpu"}
    assert all("nothing stands in for it" in row["reason"] for row in asked)
    # What the release does not have, no GPU would give it.
    lacking = [row for row in rows if row["family"] == "hybrid-mamba"]
    assert {row["outcome"] for row in lacking} == {"unsupported"}


def test_the_main_suite_does_not_ask_the_gpu_tier(tmp_path: Path) -> None:
    code, output, _ = run(tmp_path, "--only", "quantized-kv")
    assert code == 2
    assert "no check matches 'quantized-kv'" in output
