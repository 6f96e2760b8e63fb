"""Does a checkpoint of the default-spec model fit the ModelOpt-spec model, and lose nothing?

Every tensor of the model that is restored is first filled with a sentinel, then compared bit
for bit with the one saved, under names that this suite knows by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from suite import adapter, checkpoints, compare, families, sabotage
from suite.outcomes import FAMILIES, Unsupported
from suite.plugin import Record

pytestmark = pytest.mark.feature("restore")

BUILT = ("build-default", "build-modelopt")
ALWAYS = ("self_attention.linear_qkv.layer_norm_", "mlp.linear_fc1.layer_norm_")
"""Fused norms that the state-dict hook has always been for; others came later."""


COMPARED = "names and Python objects of a checkpoint are compared, on no device"
"""Why a failure to restore would be the same with a GPU."""


@dataclass(frozen=True)
class Call:
    """How a caller may load a state dict where a load with all defaults is refused."""

    text: str


LENIENT = Call("model.load_state_dict(state_dict, strict=False)")


@pytest.mark.after(*BUILT)
def check_restore(family: str, record: Record, tmp_path: Path) -> None:
    restored(family, "default", "modelopt", record, tmp_path, whole=family == FAMILIES[0])


@pytest.mark.feature("restore-back")
@pytest.mark.after(*BUILT)
def check_restore_back(family: str, record: Record, tmp_path: Path) -> None:
    restored(family, "modelopt", "default", record, tmp_path)


@pytest.mark.families("mla-moe", "llama4-moe")
@pytest.mark.after(*BUILT)
def check_restore_grouped(family: str, record: Record, tmp_path: Path) -> None:
    # Large MoE models are trained with one matrix product for all experts.
    restored(family, "default", "modelopt", record, tmp_path, saved_as=families.GROUPED)


@pytest.mark.families("llama4-moe")
@pytest.mark.after(*BUILT)
def check_restore_qk_layernorm(family: str, record: Record, tmp_path: Path) -> None:
    restored(family, "default", "modelopt", record, tmp_path, **families.VARIANTS["qk-layernorm"])


@pytest.mark.families("gpt")
@pytest.mark.after(*BUILT)
def check_restore_tied(family: str, record: Record, tmp_path: Path) -> None:
    # Small models have one matrix for their embedding and their output layer.
    restored(family, "default", "modelopt", record, tmp_path, **families.TIED)


@pytest.mark.feature("parallel")
@pytest.mark.families("gpt")
@pytest.mark.after(*BUILT)
def check_restore_padded(family: str, record: Record, tmp_path: Path) -> None:
    # How many rows a vocabulary is padded to depends on the parallel size: those of words count.
    restored(family, "default", "modelopt", record, tmp_path, into=families.PADDED)


@pytest.mark.families("hybrid-mamba")
@pytest.mark.after(*BUILT)
def check_restore_layernorm(family: str, record: Record, tmp_path: Path) -> None:
    # The family itself has RMSNorm, as published hybrid models do: that norm has no bias.
    restored(family, "default", "modelopt", record, tmp_path, **families.VARIANTS["layernorm"])


@pytest.mark.families("hybrid-mamba")
@pytest.mark.after(*BUILT)
def check_restore_experts(family: str, record: Record, tmp_path: Path) -> None:
    adapter.need_experts()
    changed = families.VARIANTS["experts"]
    restored(family, "default", "modelopt", record, tmp_path, saved_as=families.GROUPED, **changed)


def restored(
    family: str,
    source: str,
    target: str,
    record: Record,
    folder: Path,
    saved_as: dict[str, Any] | None = None,
    into: dict[str, Any] | None = None,
    whole: bool = False,
    **changed: Any,
) -> None:
    """Save a model of spec `source`, load it into one of spec `target`, compare.

    `changed` are values of both models' configuration, `saved_as` of that of the saved one alone,
    `into` of the other's. `whole`: as the package writes, with the process that it spawns, which
    for seconds only passes the writers' results on and knows nothing of families.
    """
    saved = checkpoints.model(family, source, folder, **changed, **(saved_as or {}))
    checkpoints.distinct(saved)
    given = compare.renamed(checkpoints.parameters(saved))
    record("extra_states saved", checkpoints.extras(saved))
    record("collector", "spawned, as the package does" if whole else "forked")
    checkpoints.save(saved, folder / "checkpoint", quick=not whole)
    model = checkpoints.model(family, target, folder, seed=99, **changed, **(into or {}))
    record("extra_states asked for", checkpoints.extras(model))
    record.gpu_independent(COMPARED)
    strict = checkpoints.mismatched(model, folder / "checkpoint")
    record("strict", None if strict is None else [sorted(names) for names in strict])
    asked = [] if strict is None else compare.keys(*strict)
    sentinels = compare.renamed(checkpoints.forget(model, families.VOCABULARY))

    def judge(told: Any) -> list[str]:
        lost = compare.keys(told.missing_keys, told.unexpected_keys)
        return asked + lost + compared(given, sentinels, model, record)

    problems = checkpoints.restore(model, folder / "checkpoint", judge, record)
    assert not problems, "; ".join(problems)


@pytest.mark.after(*BUILT)
def check_restore_state_dict(family: str, record: Record, tmp_path: Path) -> None:
    state_dict_restored(family, record, tmp_path)


@pytest.mark.families("hybrid-mamba")
@pytest.mark.after(*BUILT)
def check_restore_state_dict_layernorm(family: str, record: Record, tmp_path: Path) -> None:
    state_dict_restored(family, record, tmp_path, **families.VARIANTS["layernorm"])


def state_dict_restored(family: str, record: Record, folder: Path, **changed: Any) -> None:
    """Load a default-spec state dict into a ModelOpt-spec model by the release's pre-hook."""
    hook = adapter.state_dict_pre_hook()
    if hook is None:
        there = [module for module, _ in adapter.PRE_HOOK if adapter.has_module(module)]
        assert not there, f"{', '.join(there)} is there, without its {adapter.PRE_HOOK[0][1]}"
        raise Unsupported("the release has no pre-hook for default-spec state dicts")
    saved = checkpoints.model(family, "default", folder, **changed)
    checkpoints.distinct(saved)
    record("hook", hook.path)
    unknown = not_renamed(hook.object, saved.state_dict())
    record("norms that the hook does not rename", unknown)
    if unknown and not any(part in norm for norm in unknown for part in ALWAYS):
        raise Unsupported(f"{hook.path} does not rename {', '.join(unknown[:4])}")
    given = compare.renamed(checkpoints.parameters(saved))
    model = checkpoints.model(family, "modelopt", folder, seed=99, **changed)
    sentinels = compare.renamed(checkpoints.forget(model))
    model._register_load_state_dict_pre_hook(hook.object)

    def under(call: Call | None) -> list[str]:
        checkpoints.forget(model)
        state = sabotage.parameters(saved.state_dict())
        told = model.load_state_dict(state, strict=call is None)
        sabotage.restored(model)
        problems = compare.keys(told.missing_keys, told.unexpected_keys)
        return problems + compared(given, sentinels, model, record)

    problems = checkpoints.attempted(under, (LENIENT,), record)
    assert not problems, "; ".join(problems)


def compared(
    given: dict[str, compare.Digest],
    sentinels: dict[str, compare.Digest],
    model: object,
    record: Record,
) -> list[str]:
    """What is wrong with a model that was restored from a checkpoint of the tensors `given`."""
    there = compare.renamed(checkpoints.parameters(model, families.VOCABULARY))
    record("tensors", len(there))
    record("digest", compare.total(there))
    return compare.untouched(sentinels, there) + compare.tensors(given, there)


def not_renamed(hook: Any, state: dict[str, Any]) -> list[str]:
    """The fused norms of `state`, `...layer_norm_`, of whose tensors the pre-hook renames none.

    Of which it renames one and leaves another it knows, and loses a half: that shows in the load.
    """
    names = dict.fromkeys(state)
    hook(names, "", {}, True, [], [], [])
    fused = [name for name in state if compare.unfused(name) != name and compare.FUSED_END in name]
    known = {compare.norm_of(name) for name in fused if name not in names}
    return sorted({compare.norm_of(name) for name in fused} - known)
