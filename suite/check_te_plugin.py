"""Does ModelOpt still pick the right tensors out of Transformer Engine's private calls?

Most upgrade accidents happen here: TE moves an argument, and ModelOpt quantizes another tensor
than it means to. Asked of TE's modules on their own, and of default-spec models.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from suite import (
    check_modelopt_state,
    checkpoints,
    families,
    quantizers,
    sabotage,
    te_calls,
    te_classes,
)
from suite.check_import import quantised_modules
from suite.outcomes import NeedsGpu, Unsupported
from suite.plugin import Record

pytestmark = pytest.mark.feature("quantize-te")

CLASSES = {
    "linear": "Linear",
    "layernorm-linear": "LayerNormLinear",
    "grouped-linear": "GroupedLinear",
}
WIDE, NARROW, ROWS, GEMMS = 64, 32, 8, 2
"""Outputs, inputs, rows of the input, and matrices of a grouped linear."""

TE_FORMAT = "fp8"


@pytest.mark.kind("te-quantizers-{module}-{mode}")
@pytest.mark.after("import-modelopt-te-plugin")
@pytest.mark.parametrize("module", sorted(CLASSES))
@pytest.mark.parametrize("mode", ["grad", "no-grad"])
def check_te_quantizers(module: str, mode: str, record: Record, on_host: bool) -> None:
    # TE calls other functions with gradients than without, and ModelOpt wraps both. Each mode
    # has its own process: a call that ends early leaves ModelOpt's wrappers in place.
    import torch

    te = importlib.import_module("transformer_engine.pytorch")
    kind = getattr(te, CLASSES[module])
    if kind not in quantised_modules():
        raise Unsupported(f"ModelOpt does not quantize TE's {CLASSES[module]}")
    missing = te_calls.entries() if on_host else []
    if missing:
        raise NeedsGpu(f"TE's kernels are entered elsewhere than at {', '.join(missing)}")
    with torch.set_grad_enabled(mode == "grad"):
        problems = asked(module, kind, record, on_host=on_host)
    record.gpu_independent("which tensor is picked out of a call's arguments is Python code")
    assert not problems, "; ".join(problems)


def asked(module: str, kind: Any, record: Record, *, on_host: bool) -> list[str]:
    """Call a quantized TE module once; what its quantizers were given that they should not be."""
    import torch

    quantization = importlib.import_module("modelopt.torch.quantization")
    device = "cpu" if on_host else "cuda"
    sizes = (GEMMS, NARROW, WIDE) if module == "grouped-linear" else (NARROW, WIDE)
    built = kind(*sizes, bias=False, params_dtype=torch.float32, device=device)
    torch.manual_seed(families.SEED)
    inputs = torch.randn(ROWS, NARROW, device=device)
    extra = ([ROWS // GEMMS] * GEMMS,) if module == "grouped-linear" else ()
    # Quantizers are put in and not calibrated: how that ends is not what is asked here.
    config = {**quantization.FP8_DEFAULT_CFG, "algorithm": None}
    quantized = quantization.quantize(built, config, forward_loop=None)
    weights = [value for name, value in quantized.named_parameters() if name.startswith("weight")]
    seen = te_calls.record(quantizers.of(quantized), mark=on_host)
    sabotage.quantizers(quantized)
    problems = []
    if on_host:
        try:
            with te_calls.without_kernels():
                quantized(inputs, *extra)
            problems.append("no kernel was reached")
        except te_calls.KernelReached as reached:
            record("reached", str(reached))
            problems += unmarked(reached.operands)
    else:
        quantized(inputs, *extra)
    normed = inputs + te_calls.NORMED if module == "layernorm-linear" else inputs
    wanted = {"weight_quantizer": weights, "input_quantizer": [normed]}
    record("given", {name: [shape(v) for v in values] for name, values in seen.items()})
    exact = on_host or module != "layernorm-linear"  # a GPU's norm is not our stand-in's
    for name, values in wanted.items():
        given = [value for one in named(seen, name) for value in seen[one]]
        problems += differing(name, given, values, exact=exact or name[0] == "w")
    return problems


def named(names: Iterable[str], what: str) -> list[str]:
    """Of quantizers' names `what` itself, or where each matrix has its own, `what.0`, `what.1`."""
    found = [name for name in names if name == what or name.rpartition(".")[0] == what]
    return sorted(found, key=lambda name: (len(name), name))


def unmarked(operands: list[Any]) -> list[str]:
    """The operands of a matrix product that did not come out of a quantizer."""
    return [
        f"operand {place} of the kernel is not what a quantizer gave: {shape(operand)}"
        for place, operand in enumerate(operands)
        if float(operand.detach().min()) < te_calls.MARK / 2
    ]


def differing(name: str, seen: list[Any], wanted: list[Any], *, exact: bool) -> list[str]:
    """What a quantizer was given other than what it is meant for."""
    import torch

    if len(seen) != len(wanted):
        return [f"{name} is called {len(seen)} times, not {len(wanted)}"]
    problems = []
    for one, other in zip(seen, wanted, strict=True):
        if shape(one) != shape(other):
            problems.append(f"{name} is given {shape(one)}, not {shape(other)}")
        elif exact and not torch.equal(one, other):
            problems.append(f"{name} is given another tensor of the shape {shape(one)}")
    return problems


def shape(value: Any) -> str:
    """`[8, 32]` of a tensor, the type of anything else."""
    return str(list(value.shape)) if hasattr(value, "shape") else type(value).__name__


@pytest.mark.kind("te-modelopt-state")
@pytest.mark.after("build-default", "import-modelopt-megatron-plugin", "import-modelopt-te-plugin")
def check_te_modelopt_state(family: str, record: Record, tmp_path: Path, on_host: bool) -> None:
    survives(family, record, tmp_path, on_host=on_host)


@pytest.mark.kind("te-modelopt-state-grouped-moe")
@pytest.mark.families("llama4-moe")
@pytest.mark.after("build-default", "import-modelopt-megatron-plugin", "import-modelopt-te-plugin")
def check_te_modelopt_state_grouped_moe(
    family: str, record: Record, tmp_path: Path, on_host: bool
) -> None:
    survives(family, record, tmp_path, on_host=on_host, moe_grouped_gemm=True)


def survives(family: str, record: Record, folder: Path, *, on_host: bool, **changed: Any) -> None:
    """Quantize a default-spec model, save it, restore it; `changed` are values of the family's
    configuration."""
    constant, plugin = check_modelopt_state.needed(TE_FORMAT)
    model = checkpoints.model(family, "default", folder, **changed)
    known(model, record)
    saved = check_modelopt_state.quantized(model, constant, TE_FORMAT, record, on_host=on_host)
    fresh = checkpoints.model(family, "default", folder, seed=99, **changed)
    check_modelopt_state.survives(saved, fresh, plugin, record, folder / "checkpoint")


def known(model: Any, record: Record) -> None:
    """See that ModelOpt can quantize each class of TE's linears that the model has.

    Raises:
        Unsupported: the release registers none of them, going by its source.
        AssertionError: it registers some, but not all are there: a model quantized in part.
    """
    there = te_classes.linears(model).values()
    kinds = {kind.__name__: kind for kind in there}
    assert kinds, "the default-spec model has no linear of Transformer Engine"
    claimed = sorted(te_classes.claimed(te_classes.MEGATRON) & kinds.keys())
    lacking = te_classes.lacking(kinds.values(), quantised_modules())
    record("TE linears", sorted(kinds))
    record("registered in the release's source", claimed)
    if not claimed and len(lacking) == len(kinds):
        raise Unsupported(f"ModelOpt registers none of Megatron's {', '.join(sorted(kinds))}")
    if lacking:
        others = sorted(kinds.keys() - set(lacking)) or claimed
        raise AssertionError(
            f"ModelOpt does not quantize Megatron's {', '.join(lacking)}, of which this model is"
            f" made, too; its source registers {', '.join(others)}"
        )
