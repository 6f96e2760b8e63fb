"""`gpu_plumbing.py ROOT TOOLS FOLDER [FAMILY ...]`, run by a cell's Python without a GPU.

The GPU tier's own check functions on real models on the CPU, for each family, and negative
controls: the same functions on the same models with one thing wrong. `gpu_stand_ins.py` lists what
stands in for the GPU; so it shows that the checks fit the packages and can tell right from wrong,
and says nothing of what a GPU computes. Prints one JSON object as its last line.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

root, tools, place, *asked = sys.argv[1:]
sys.path += [root, tools]

from suite import preload, stand_in  # noqa: E402

preload.load(preload.PACKAGES, host=True)
stand_in.install()

import gpu_stand_ins  # noqa: E402
import torch  # noqa: E402

from suite import checkpoints, families, noise  # noqa: E402
from suite.gpu import check_device, check_quantized, models, tolerances  # noqa: E402
from suite.outcomes import NeedsGpu, Unsupported  # noqa: E402

gpu_stand_ins.install()
noise.exact()

FAMILIES = ("gpt", "mla-moe", "llama4-moe", "hybrid-mamba")
EXPERTS = ("mla-moe", "llama4-moe")
FORMATS = sorted(tolerances.FORMATS)
SEEDS = (11, 12, 13)

number = iter(range(10**6))


def outcome(ask: Callable[..., None], *given: Any) -> dict[str, Any]:
    """What a check ends with, the words of it, and what it recorded."""
    folder = Path(place, str(next(number)))
    folder.mkdir()
    recorded: dict[str, Any] = {}
    began, end, said = time.monotonic(), "works", ""
    try:
        ask(*given, recorded.__setitem__, folder)
    except (NeedsGpu, Unsupported) as error:
        end, said = type(error).__name__, str(error)
    except Exception as error:
        end, said = "broken", f"{type(error).__name__}: {error}"
        if not isinstance(error, AssertionError):
            said += "\n" + traceback.format_exc()[-2500:]
    took = round(time.monotonic() - began, 1)
    print(given, ask.__name__, end, said[:300], took, file=sys.stderr, flush=True)
    return {"outcome": end, "said": said, "recorded": recorded, "seconds": took}


def checks(family: str) -> dict[str, Any]:
    """Every check of the tier."""
    found = {}
    for dtype in models.DTYPES:
        found[f"device-restore-{dtype}"] = outcome(check_device.check_device_restore, dtype, family)
        found[f"device-logits-{dtype}"] = outcome(check_device.check_device_logits, dtype, family)
        for mode in models.MODES:
            name = f"device-decode-{dtype}-{mode}"
            found[name] = outcome(check_device.check_device_decode, dtype, mode, family)
    for fmt in FORMATS:
        found[f"quantized-{fmt}"] = outcome(check_quantized.check_quantized, fmt, family)
        found[f"trained-{fmt}"] = outcome(check_quantized.check_trained, fmt, family)
    found["quantized-kv"] = outcome(check_quantized.check_quantized_kv, family)
    return found


def seeded(family: str) -> dict[str, Any]:
    """The right model, with weights and tokens of three more seeds."""
    usual = families.SEED
    found = {}
    for seed in SEEDS:
        families.SEED = seed
        models.model.__defaults__ = checkpoints.distinct.__defaults__ = (seed,)
        for dtype in models.DTYPES:
            asked = (check_device.check_device_logits, dtype, family)
            found[f"device-logits-{dtype}, seed {seed}"] = outcome(*asked)
        for fmt in FORMATS:
            asked = (check_quantized.check_quantized, fmt, family)
            found[f"quantized-{fmt}, seed {seed}"] = outcome(*asked)
    families.SEED = usual
    models.model.__defaults__ = checkpoints.distinct.__defaults__ = (usual,)
    return found


def with_wrong(name: str, spoil: Callable[[Any], None], ask: Callable[[], Any]) -> Any:
    """What `ask` gives where what `models` makes by the name is spoiled."""
    usual = getattr(models, name)

    def spoiled(*given: Any) -> Any:
        made = usual(*given)
        with torch.no_grad():
            spoil(made[1] if isinstance(made, tuple) else made)
        return made

    setattr(models, name, spoiled)
    try:
        return ask()
    finally:
        setattr(models, name, usual)


def swap_experts(model: Any) -> None:
    """Without their rows of the router."""
    layer = next(one for one in model.modules() if hasattr(one, "local_experts"))
    first, second = layer.local_experts
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        kept = one.clone()
        one.copy_(other)
        other.copy_(kept)


def shift_mask(model: Any) -> None:
    for name, module in model.named_modules():
        if name.endswith("core_attention"):
            module.shifted = 1


def lose_norm(model: Any) -> None:
    weight = next(w for n, w in model.named_parameters() if "norm" in n and n.endswith("weight"))
    weight.fill_(1.0)


def calibrated(model: Any, kind: str) -> Any:
    found = models.quantizers(model)
    return next(
        one
        for name, one in found.items()
        if name.endswith(kind) and getattr(one, "_amax", None) is not None
    )


SCALES = {
    "doubled": lambda one: one._amax.mul_(2),
    "zeroed": lambda one: one._amax.zero_(),
    "dropped": lambda one: delattr(one, "_amax"),
}


def controls(family: str) -> dict[str, Any]:
    """Checks of models with one thing wrong: each must be broken."""
    wrong = {"mask off by one": shift_mask, "norm lost": lose_norm}
    if family in EXPERTS:
        wrong["experts swapped"] = swap_experts
    found = {}
    for name, spoil in wrong.items():
        for dtype in models.DTYPES:

            def ask(dtype: str = dtype) -> Any:
                return outcome(check_device.check_device_logits, dtype, family)

            found[f"{name}, {dtype}"] = with_wrong("pair", spoil, ask)
    for fmt in FORMATS:
        for kind in ("input_quantizer", "weight_quantizer"):
            for name, change in SCALES.items():

                def spoil_scale(model: Any, kind: str = kind, change: Any = change) -> None:
                    change(calibrated(model, kind))

                def ask_quantized(fmt: str = fmt) -> Any:
                    return outcome(check_quantized.check_quantized, fmt, family)

                key = f"{kind} {name}, {fmt}"
                found[key] = with_wrong("calibrated", spoil_scale, ask_quantized)
    return found


PARTS = {"checks": checks, "seeds": seeded, "controls": controls}

print(
    json.dumps(
        {
            "stands in": gpu_stand_ins.STAND_INS,
            "families": {
                family: {name: part(family) for name, part in PARTS.items()}
                for family in asked or FAMILIES
            },
        }
    )
)
