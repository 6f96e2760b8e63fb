"""`gpu_plumbing.py ROOT TOOLS FOLDER`, run by a cell's Python on a machine without a GPU.

The GPU tier's functions on ModelOpt-spec models on the CPU: real Megatron and ModelOpt code, with
norms of torch's in the place of Transformer Engine's and the release's own attention. It shows that
calls fit the packages' signatures and that numbers come out where they should. It is no evidence.
Prints one JSON object.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

root, tools, place = sys.argv[1:]
sys.path += [root, tools]

from suite import adapter, preload, stand_in  # noqa: E402

preload.load(preload.PACKAGES, host=True)
stand_in.install()

import torch  # noqa: E402
import transformer_engine.pytorch as te  # noqa: E402

from suite.gpu import check_quantized, models, tolerances  # noqa: E402


def norm(self: Any, given: Any, *_: Any, **__: Any) -> Any:
    return torch.nn.functional.layer_norm(
        given, self.weight.shape, self.weight, self.bias, self.eps
    )


def to(self: Any, *args: Any, device: Any = None, **kwargs: Any) -> Any:
    return moved(self, *args, **kwargs)


te.LayerNorm.forward = norm
moved, torch.nn.Module.to = torch.nn.Module.to, to
spec, changed = adapter.modelopt_spec, models.changed
adapter.modelopt_spec = lambda family, config: spec(family, config, local_core_attention=True)
adapter.default_spec = adapter.modelopt_spec
models.changed = lambda dtype: {**changed(dtype), "use_cpu_initialization": True}


def folder(name: str) -> Path:
    made = Path(place, name)
    made.mkdir()
    return made


def computed(dtype: str) -> dict[str, Any]:
    """What a model says with a cache and without, and with two of its weights swapped."""
    default, model = models.pair("gpt", dtype, folder(dtype))
    tokens = models.sequences()[0]
    whole = models.whole(model, tokens)
    limit = tolerances.of_dtype(dtype, model.config.num_layers, model.config.hidden_size)
    found: dict[str, Any] = {"limit": limit, "shapes": []}
    found["restored"] = tolerances.difference(
        models.numbers(models.whole(default, tokens)), models.numbers(whole)
    )
    for mode in models.MODES:
        first, last = models.in_steps(model, tokens, mode)
        found["shapes"] += models.shapes(model, first, last, tokens.shape[1])
        found[mode] = tolerances.difference(
            models.numbers(whole[:, -1]), models.numbers(last[:, -1])
        )
    with torch.no_grad():
        ones = [layer.self_attention.linear_proj.weight for layer in model.decoder.layers]
        kept = [one.clone() for one in ones]
        for one, other in zip(ones, reversed(kept), strict=True):
            one.copy_(other)
    found["swapped"] = tolerances.difference(
        models.numbers(whole), models.numbers(models.whole(model, tokens))
    )
    return found


def quantized(fmt: str) -> dict[str, Any]:
    """How far quantization takes a model, and what a step of training does then."""
    config = models.configuration(fmt, lambda name, value: None)
    model = models.restored("gpt", "float32", folder(fmt))
    batches = models.sequences()
    wanted = models.numbers(models.whole(model, batches[0]))
    model = models.calibrated(model, config, batches)
    there = models.quantizers(model)
    actual = models.numbers(models.whole(model, batches[0]))
    before, after, lengths = models.step(model, batches[0])
    return {
        "enabled": len(there),
        "uncalibrated": models.uncalibrated(there),
        "distance": tolerances.distance(wanted, actual),
        "limit": tolerances.of_format(fmt, model.config.num_layers),
        "losses": [before, after],
        "without gradient": check_quantized.without_gradient(lengths),
    }


print(
    json.dumps(
        {
            **{dtype: computed(dtype) for dtype in models.DTYPES},
            **{fmt: quantized(fmt) for fmt in ("int8", "fp8")},
        }
    )
)
