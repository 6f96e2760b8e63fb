"""Are ModelOpt's spec functions where callers expect them, as callers call them?"""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import pytest

from suite import adapter, contracts
from suite.contracts import Contract
from suite.outcomes import Unsupported
from suite.record import Record

pytestmark = pytest.mark.feature("interface")

RECORDED = (
    "megatron.core.models.gpt.gpt_layer_specs:get_gpt_layer_with_transformer_engine_spec",
    "megatron.core.models.gpt.gpt_layer_specs:get_gpt_decoder_block_spec",
    "megatron.core.models.gpt.gpt_layer_specs:get_mlp_module_spec",
    "megatron.core.models.gpt.gpt_model:GPTModel.__init__",
    "megatron.core.models.gpt.gpt_model:GPTModel.forward",
    "megatron.core.models.gpt.gpt_model:GPTModel.sharded_state_dict",
    "megatron.core.models.mamba.mamba_model:MambaModel.__init__",
    "megatron.core.models.mamba.mamba_model:MambaModel.forward",
    "megatron.core.models.hybrid.hybrid_model:HybridModel.__init__",
    "megatron.core.models.hybrid.hybrid_model:HybridModel.forward",
    "megatron.core.post_training.modelopt.layers:Linear.__init__",
    "megatron.core.post_training.modelopt.layers:Norm.__new__",
    "megatron.core.post_training.modelopt.gpt.state_dict_hooks"
    ":mcore_gpt_load_te_state_dict_pre_hook",
    "megatron.core.inference.modelopt_support.gpt.state_dict_hooks"
    ":mcore_gpt_load_te_state_dict_pre_hook",
    "megatron.core.tensor_parallel.layers:ColumnParallelLinear.__init__",
    "megatron.core.tensor_parallel.layers:ColumnParallelLinear.sharded_state_dict",
    "megatron.core.tensor_parallel.layers:RowParallelLinear.__init__",
    "megatron.core.tensor_parallel.layers:RowParallelLinear.sharded_state_dict",
    "megatron.core.transformer.transformer_config:TransformerConfig.__init__",
    "megatron.core.transformer.transformer_config:MLATransformerConfig.__init__",
    "megatron.core.transformer.transformer_layer:TransformerLayer.sharded_state_dict",
    "megatron.core.transformer.module:MegatronModule.sharded_state_dict",
    "megatron.core.dist_checkpointing:save",
    "megatron.core.dist_checkpointing:load",
    "megatron.core.inference_params:InferenceParams.__init__",
    "megatron.core.inference.contexts:StaticInferenceContext.__init__",
    "megatron.core.inference.utils:InferenceMode.active",
    "megatron.core.parallel_state:initialize_model_parallel",
    "modelopt.torch.quantization:quantize",
    "modelopt.torch.opt:modelopt_state",
    "modelopt.torch.opt:restore_from_modelopt_state",
    "modelopt.torch.opt.plugins:save_sharded_modelopt_state",
    "modelopt.torch.opt.plugins:restore_sharded_modelopt_state",
    "modelopt.torch.opt.plugins:save_modelopt_state",
    "modelopt.torch.opt.plugins:restore_modelopt_state",
)
"""`module:attribute` of what callers call, whichever of them a release has."""


@pytest.mark.after("import-modules[gpt]")
def check_interface_gpt_spec(record: Record) -> None:
    see(adapter.gpt_modelopt_spec(), contracts.GPT, record, "GPT")


@pytest.mark.families("hybrid-mamba")
@pytest.mark.after("import-modules")
def check_interface_stack_spec(family: str, record: Record) -> None:
    see(adapter.stack_modelopt_spec(), contracts.STACK, record, "stack")


def see(found: Any, lines: tuple[Contract, ...], record: Record, what: str) -> None:
    """Compare each spec function that the release should have with its line's contract."""
    mine = [contract for contract in lines if contracts.applies(contract)]
    if found is None and not mine:
        raise Unsupported(f"the release has no ModelOpt {what} spec")
    problems = []
    for contract in mine:
        function = contracts.function_of(contract)
        if function is None:
            problems.append(f"{contract.path} is not there")
            continue
        signature = inspect.signature(function)
        record(contract.path, text(signature))
        record(f"{contract.path}: extra", contracts.extras(signature, contract.parameters))
        broken = contracts.compare(signature, contract.parameters, exact=contract.exact)
        problems += [f"{contract.path}: {problem}" for problem in broken]
    if found is not None and found.path not in {contract.path for contract in mine}:
        known = ", ".join(contract.path for contract in mine) or "nowhere"
        problems.append(f"{found.path} is not where callers look: {known}")
    assert not problems, "; ".join(problems)


@pytest.mark.record_only
def check_signatures(record: Record) -> None:
    """A record for comparing releases: by place, its signature, None where there is none, or
    `{"not read": why}`."""
    for place in RECORDED:
        record(place, signature_at(place))


def signature_at(place: str) -> str | dict[str, str] | None:
    """The signature at `module:attribute.attribute`, None where the release has no such thing;
    where its module cannot be imported, or says nothing of its parameters, why."""
    path, _, names = place.partition(":")
    if not contracts.home(path):
        return None
    try:
        found: Any = importlib.import_module(path)
        for name in names.split("."):
            found = getattr(found, name, None)
            if found is None:
                return None
        return text(inspect.signature(found))
    except Exception as error:  # a record must not end where the packages under test are broken
        lines = str(error).strip().splitlines() or ["no message"]
        return {"not read": f"{type(error).__name__}: {lines[-1]}"}


def text(signature: inspect.Signature) -> str:
    """The signature as it would be written, on one line, without addresses of objects."""
    parts = []
    for parameter in signature.parameters.values():
        default = parameter.default
        if default is not inspect.Parameter.empty and " at 0x" in repr(default):
            name = getattr(default, "__qualname__", type(default).__qualname__)
            parameter = parameter.replace(default=_Written(name))
        parts.append(parameter)
    return " ".join(str(signature.replace(parameters=parts)).split())


class _Written:
    """Stands for a default whose own text would differ from run to run."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return f"<{self._name}>"
