"""Does a checkpoint of the default-spec model fit the ModelOpt-spec model, and lose nothing?

Every tensor of the model that is restored is first filled with a sentinel, then compared bit
for bit with the one saved, under names that this suite knows by itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from suite import adapter, checkpoints, compare, sabotage
from suite.outcomes import FAMILIES, Unsupported
from suite.plugin import Record

pytestmark = pytest.mark.feature("restore")

BUILT = ("build-default", "build-modelopt")
ALWAYS = ("self_attention.linear_qkv.layer_norm_", "mlp.linear_fc1.layer_norm_")
"""Fused norms that the state-dict hook has always been for; others came later."""


@pytest.mark.after(*BUILT)
def check_restore(family: str, record: Record, tmp_path: Path) -> None:
    restored(family, "default", "modelopt", record, tmp_path)


@pytest.mark.feature("restore-back")
@pytest.mark.after(*BUILT)
def check_restore_back(family: str, record: Record, tmp_path: Path) -> None:
    restored(family, "modelopt", "default", record, tmp_path)


@pytest.mark.families("mla-moe", "llama4-moe")
@pytest.mark.after(*BUILT)
def check_restore_grouped(family: str, record: Record, tmp_path: Path) -> None:
    # Large MoE models are trained with one matrix product for all experts.
    restored(family, "default", "modelopt", record, tmp_path, moe_grouped_gemm=True)


def restored(
    family: str, source: str, target: str, record: Record, folder: Path, **changed: Any
) -> None:
    """Save a model of spec `source`, load it into one of spec `target`, compare.

    `changed` are values of the saved model's configuration.
    """
    saved = checkpoints.model(family, source, folder, **changed)
    checkpoints.distinct(saved)
    given = compare.renamed(checkpoints.parameters(saved))
    record("extra_states saved", checkpoints.extras(saved))
    # The package's own way to the end, once: the process that it spawns, for seconds, only passes
    # the writers' results on, and knows nothing of families.
    whole = family == FAMILIES[0] and target == "modelopt" and not changed
    record("collector", "spawned, as the package does" if whole else "forked")
    checkpoints.save(saved, folder / "checkpoint", quick=not whole)
    model = checkpoints.model(family, target, folder, seed=99)
    sentinels = renamed(checkpoints.forget(model))
    record("extra_states asked for", checkpoints.extras(model))
    problems: list[str] = []
    strict = checkpoints.mismatched(model, folder / "checkpoint")
    record("strict", None if strict is None else [sorted(names) for names in strict])
    if strict is not None:
        problems += compare.keys(*strict)
    record.gpu_independent("names and Python objects of a checkpoint are compared, on no device")
    try:
        told = checkpoints.load(model, folder / "checkpoint")
    except checkpoints.failures() as error:
        if problems:
            raise AssertionError("; ".join(problems)) from error
        if strict is None or not strict[1]:
            raise
        # Only extra states are missing. A caller with all defaults gets this exception, so the
        # check fails; whether a lenient load would lose anything is worth knowing all the same.
        refused = f"{type(error).__name__}: {compare.last_line(error)}"
        record("load with defaults", refused)
        told = checkpoints.load(model, folder / "checkpoint", lenient=True)
        lost = compared(given, sentinels, model, record)
        record("lenient load loses", lost)
        whole = "" if lost else "; with StrictHandling.LOG_ALL every tensor is restored"
        problems.append(f"a load with all defaults raises {refused}{whole}")
    problems += compare.keys(told.missing_keys, told.unexpected_keys)
    problems += compared(given, sentinels, model, record)
    assert not problems, "; ".join(problems)


@pytest.mark.after(*BUILT)
def check_restore_state_dict(family: str, record: Record, tmp_path: Path) -> None:
    state_dict_restored(family, record, tmp_path)


@pytest.mark.after("build-default[hybrid-mamba]", "build-modelopt[hybrid-mamba]")
def check_restore_state_dict_hybrid_layernorm(record: Record, tmp_path: Path) -> None:
    # The family itself has RMSNorm, as published hybrid models do: that norm has no bias.
    state_dict_restored("hybrid-mamba", record, tmp_path, normalization="LayerNorm")


def state_dict_restored(family: str, record: Record, folder: Path, **changed: str) -> None:
    """Load a default-spec state dict into a ModelOpt-spec model by the release's pre-hook."""
    hook = adapter.state_dict_pre_hook()
    if hook is None:
        raise Unsupported("the release has no pre-hook for default-spec state dicts")
    saved = checkpoints.model(family, "default", folder, **changed)
    checkpoints.distinct(saved)
    record("hook", hook.path)
    unknown = not_renamed(hook.object, saved.state_dict())
    if unknown and not any(part in name for name in unknown for part in ALWAYS):
        raise Unsupported(f"{hook.path} does not rename {', '.join(sorted(unknown)[:4])}")
    model = checkpoints.model(family, "modelopt", folder, seed=99, **changed)
    sentinels = renamed(checkpoints.forget(model))
    model._register_load_state_dict_pre_hook(hook.object)
    refused = ""
    try:
        told = model.load_state_dict(sabotage.parameters(saved.state_dict()), strict=True)
    except RuntimeError as error:
        # As callers load; the tensors are compared all the same, so that the reason is whole.
        refused = str(error)
        record("strict load", refused)
        told = model.load_state_dict(sabotage.parameters(saved.state_dict()), strict=False)
    sabotage.restored(model)
    problems = [" ".join(refused.split())] if refused else []
    problems += compare.keys(told.missing_keys, told.unexpected_keys)
    given = compare.renamed(checkpoints.parameters(saved))
    problems += compared(given, sentinels, model, record)
    assert not problems, "; ".join(problems)


def compared(
    given: dict[str, compare.Digest],
    sentinels: dict[str, compare.Digest],
    model: object,
    record: Record,
) -> list[str]:
    """What is wrong with a model that was restored from a checkpoint of the tensors `given`."""
    there = renamed(checkpoints.parameters(model))
    record("tensors", len(there))
    record("digest", compare.total(there))
    return compare.untouched(sentinels, there) + compare.tensors(given, there)


def renamed(tensors: dict[str, compare.Digest]) -> dict[str, compare.Digest]:
    """Under the names of a model whose norms are their own, from whichever of the two."""
    return compare.renamed(tensors)


def not_renamed(hook: object, state: dict[str, object]) -> list[str]:
    """The names of fused norms in `state` that the pre-hook leaves as they are."""
    names = dict.fromkeys(state)
    hook(names, "", {}, True, [], [], [])  # type: ignore[operator]
    return [name for name in names if compare.unfused(name) != name]
