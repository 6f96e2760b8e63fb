"""Models of a dtype on the device, what they say with and without a cache, and quantized ones."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from suite import check_modelopt_state, checkpoints, families, inference, noise, preload
from suite import quantizers as modelopt_quantizers
from suite.gpu import scales
from suite.outcomes import NeedsGpu, Unsupported

DTYPES = ("bfloat16", "float32")

MODES = ("eval", "training")

KV = ("FP8_KV_CFG", "FP8_WA_FP8_KV_CFG")
"""What a release calls its configuration for 8-bit keys and values, newest first; the older one
quantizes weights and inputs, too."""

SHARE = 0.1
"""The part of the loss that a step would take away, were it linear."""

BATCHES = 4
"""How many sequences calibration sees."""


def changed(dtype: str) -> dict[str, Any]:
    """The configuration's values for a model of `dtype` that is made on the device. Without
    dropout: a model in training mode says the same each time."""
    import torch

    return {
        "use_cpu_initialization": False,
        "params_dtype": getattr(torch, dtype),
        "bf16": dtype == "bfloat16",
        "hidden_dropout": 0.0,
        "attention_dropout": 0.0,
    }


def model(family: str, spec: str, dtype: str, folder: Path, seed: int = families.SEED) -> Any:
    """The family's model of `spec`, made on the device."""
    import torch

    made = checkpoints.model(family, spec, folder, seed=seed, **changed(dtype))
    # As Megatron's own wrapper for half precision does: a position embedding is made in float32.
    return made.to(device="cuda", dtype=getattr(torch, dtype))


def pair(family: str, dtype: str, folder: Path) -> tuple[Any, Any]:
    """The default-spec model, and the ModelOpt-spec model restored from its checkpoint."""
    default = model(family, "default", dtype, folder)
    checkpoints.distinct(default)
    checkpoints.save(default, folder / "checkpoint", quick=True)
    modelopt = model(family, "modelopt", dtype, folder, seed=99)
    checkpoints.load_somehow(modelopt, folder / "checkpoint")
    return default, modelopt


def restored(family: str, dtype: str, folder: Path) -> Any:
    """The ModelOpt-spec model restored from a default-spec checkpoint."""
    return pair(family, dtype, folder)[1]


def whole(model: Any, tokens: Any) -> Any:
    """The logits of all tokens at once, without a cache, in eval mode."""
    model.eval()
    return inference.forward(model, tokens)


def rows(logits: Any) -> noise.Rows:
    """As plain numbers, by position."""
    return noise.rows(logits)


def limits(model: Any, dtype: str, record: Callable[[str, Any], None]) -> noise.Distances:
    """How far another implementation's logits may be from the model's; recorded is why."""
    return noise.limits(model, inference.batch(), dtype, record, whole)


def routing(model: Any) -> list[str]:
    """What is wrong where a token might go to other experts for a rounding: no bound is for that.
    The families' tokens go to all experts."""
    experts = getattr(model.config, "num_moe_experts", None)
    chosen = getattr(model.config, "moe_router_topk", None)
    if not experts or chosen >= experts:
        return []
    return [f"tokens go to {chosen} of {experts} experts: logits near a tie cannot be compared"]


def in_steps(model: Any, tokens: Any, mode: str) -> tuple[Any, Any]:
    """The logits of all tokens but the last, then of the last alone, with the release's context.

    In `training` mode, too: callers forget `eval()`, and the releases' own tests never call it.
    """
    if mode == "eval":
        return inference.prefill_and_decode(model, tokens)
    model.train()
    given = inference.context()
    first = inference.forward(model, tokens[:, :-1], given)
    given.sequence_len_offset = tokens.shape[1] - 1
    if hasattr(given, "enable_decode_mode"):
        given.enable_decode_mode()
    return first, inference.forward(model, tokens[:, -1:], given)


def shapes(model: Any, first: Any, last: Any, length: int) -> list[str]:
    """What is wrong with the shapes of the logits of prefill and decode: prefill may give those of
    the last token alone, as releases do where they infer."""
    width = inference.vocabulary(model)
    allowed = [(1, count, width) for count in (length - 1, 1)]
    problems = []
    if tuple(first.shape) not in allowed:
        problems.append(f"prefill gives {tuple(first.shape)}, not one of {allowed}")
    if tuple(last.shape) != (1, 1, width):
        problems.append(f"decode gives {tuple(last.shape)}, not {(1, 1, width)}")
    return problems


def sequences() -> list[Any]:
    """The sequences that calibration sees, on the device; the first is the one asked about."""
    import torch

    found = [inference.tokens()]
    for seed in range(1, BATCHES):
        generator = torch.Generator().manual_seed(families.SEED + seed)
        shape = (1, families.SEQUENCE)
        found.append(torch.randint(families.VOCABULARY, shape, generator=generator).cuda())
    return found


def configuration(fmt: str, record: Callable[[str, Any], None]) -> dict[str, Any]:
    """The release's own configuration for a format or for `kv`; recorded are its name, and what
    simulates the format here.

    Raises:
        Unsupported: it has none.
        NeedsGpu: this GPU is not one that the release's code for it runs on.
    """
    quantization = importlib.import_module("modelopt.torch.quantization")
    names = KV if fmt == "kv" else (check_modelopt_state.CONSTANTS[fmt],)
    name = next((name for name in names if hasattr(quantization, name)), None)
    if name is None:
        raise Unsupported(f"modelopt.torch.quantization has none of {', '.join(names)}")
    record("configuration", name)
    record("implementation", implementation(fmt))
    given: dict[str, Any] = getattr(quantization, name)
    return alone(given) if fmt == "kv" else given


def alone(given: dict[str, Any]) -> dict[str, Any]:
    """A configuration for keys and values that quantizes nothing else.

    In newer releases it is a part to be added to another one, and by itself leaves all other
    quantizers on; they have a function that adds it, to nothing as well.
    """
    utils = importlib.import_module("modelopt.torch.quantization.utils")
    add = getattr(utils, "update_quant_cfg_with_kv_cache_quant", None)
    if add is None:
        return given
    added: dict[str, Any] = add({"algorithm": "max"}, given["quant_cfg"])
    return added


EXTENSIONS = {"int8": "get_cuda_ext", "fp8": "get_cuda_ext_fp8", "kv": "get_cuda_ext_fp8"}
"""By format: what in the release gives the CUDA extension that simulates it, or None."""


def extension(getter: str) -> Any:
    """The release's CUDA extension, compiled where that was not done yet; None where it cannot be,
    or the release has none of that name."""
    module = importlib.import_module("modelopt.torch.quantization.extensions")
    return getattr(module, getter, lambda: None)()


def implementation(fmt: str) -> str:
    """What simulates the format here, by what the release's code would call: releases fall back to
    plain PyTorch in silence.

    Raises:
        NeedsGpu: nothing does.
    """
    if fmt == "nvfp4":
        return four_bits()
    return "plain PyTorch" if extension(EXTENSIONS[fmt]) is None else "CUDA extension"


def four_bits() -> str:
    """How the release's code would simulate NVFP4 on this GPU, established by looking at what it
    offers here: its Triton kernel asks for a capability of its own when it is imported.

    Raises:
        NeedsGpu: it offers neither that nor its CUDA extension.
    """
    import torch

    module = importlib.import_module("modelopt.torch.quantization.tensor_quant")
    kernel = getattr(module, "triton_kernel", None)
    if getattr(kernel, "IS_AVAILABLE", False) and hasattr(kernel, "fp4_fake_quant_block"):
        return "Triton kernel"
    if extension("get_cuda_ext_mx") is not None:
        return "CUDA extension"
    capability = ".".join(map(str, torch.cuda.get_device_capability()))
    raise NeedsGpu(
        f"NVFP4: the release offers no Triton kernel on capability {capability}, and its CUDA "
        "extension was not built"
    )


_NO_COMPILER = re.compile(r"could not be built and loaded|does not satisfy the specifiers")
"""What ModelOpt says where it cannot compile its CUDA extension on this machine."""


_CALLS = re.compile(r"^fake_(tensor_quant|e4m3fy)")
"""Functions of ModelOpt's CUDA extensions."""


def calibrated(model: Any, config: dict[str, Any], batches: Sequence[Any]) -> Any:
    """The model quantized and calibrated by what it computes for `batches`.

    Raises:
        NeedsGpu: the release would have to compile an extension, and this machine cannot.
    """
    quantization = importlib.import_module("modelopt.torch.quantization")

    def loop(given: Any) -> None:
        for batch in batches:
            inference.forward(given, batch)

    model.eval()
    return compiled(lambda: quantization.quantize(model, config, forward_loop=loop))


def compiled(ask: Callable[[], Any]) -> Any:
    """What `ask` gives; raises NeedsGpu where ModelOpt misses an extension that it compiles."""
    try:
        return ask()
    except RuntimeError as error:
        if _NO_COMPILER.search(str(error)):
            raise NeedsGpu(f"this machine does not build ModelOpt's extension: {error}") from error
        raise
    except AttributeError as error:
        # A release may call the extension that it has not got.
        lacking = error.obj is None and any(extension(one) is None for one in EXTENSIONS.values())
        if lacking and _CALLS.search(error.name or ""):
            raise NeedsGpu(f"this machine does not build ModelOpt's extension: {error}") from error
        raise


def quantizers(model: Any) -> dict[str, Any]:
    """The quantizers that do something, by name."""
    found = modelopt_quantizers.of(model)
    return {name: one for name, one in found.items() if not getattr(one, "_disabled", False)}


def scattered(
    model: Any, found: dict[str, Any], wanted: noise.Rows, tokens: Any, error: float
) -> list[noise.Distances]:
    """How far errors at random, of the size of `error`, take the logits from those `wanted`, where
    the quantizers stand; one for each seed."""
    noises = []
    for seed in noise.SEEDS:
        with scales.scattered(model, found, error, seed):
            noises.append(noise.apart(wanted, rows(whole(model, tokens))))
    return noises


def has_scale(one: Any) -> bool:
    """Whether a quantizer has what it scales by: from calibration, set beforehand, or taken from
    each tensor by design. One that was never called has none."""
    fixed = ("_dynamic", "_use_constant_amax")
    return any(getattr(one, name, False) for name in fixed) or (
        getattr(one, "_amax", None) is not None
    )


def uncalibrated(found: dict[str, Any]) -> list[str]:
    """The quantizers of inputs and weights that calibration should have given a scale, and did not.
    Every token is sent to every expert, so theirs have one, too."""
    kinds = ("input_quantizer", "weight_quantizer")
    return sorted(n for n, one in found.items() if n.endswith(kinds) and not has_scale(one))


def left_out(error: BaseException) -> str | None:
    """Why `error` is for want of a module that an installed wheel was built without: an empty one
    stands in for it, so that the rest of the package imports. None where it is not."""
    about = getattr(error, "obj", None)
    if isinstance(error, ImportError):
        about = sys.modules.get(error.name or "")
    name = getattr(about, "__name__", None)
    if not isinstance(about, ModuleType) or about.__spec__ is not None:
        return None
    for distribution, module in preload.COMPILED.items():
        if name == module:
            return f"the wheel of {distribution} was built without its CUDA part, {module}"
    return None


def loss(model: Any, tokens: Any) -> Any:
    """The mean loss of predicting each next token; a scalar with a gradient."""
    import torch

    length = tokens.shape[1] - 1
    positions = torch.arange(length, device=tokens.device).unsqueeze(0)
    mask = torch.ones((1, 1, length, length), dtype=torch.bool, device=tokens.device).triu(1)
    losses = model(
        input_ids=tokens[:, :-1].contiguous(),
        position_ids=positions,
        attention_mask=mask,
        labels=tokens[:, 1:].contiguous(),
    )
    return losses.float().mean()


def step(model: Any, tokens: Any) -> tuple[float, float, dict[str, float | None]]:
    """One step down the gradient: the loss before and after, and each parameter's gradient's
    length, None where it has none.

    As long as would lower a loss that is linear by a tenth: by the square of the gradient's length
    for each unit of the step.
    """
    import torch

    model.train()
    model.zero_grad(set_to_none=True)
    before = loss(model, tokens)
    before.backward()
    lengths = {
        name: None if one.grad is None else float(one.grad.double().norm())
        for name, one in model.named_parameters()
        if one.requires_grad
    }
    square = sum(length**2 for length in lengths.values() if length is not None)
    with torch.no_grad():
        for one in model.parameters():
            if one.grad is not None:
                one.sub_(one.grad, alpha=SHARE * float(before.detach()) / square)
        after = float(loss(model, tokens))
    return float(before.detach()), after, lengths
