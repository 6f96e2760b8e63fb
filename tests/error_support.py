"""Errors that are known in tests of the search of errors; all of it is made up."""

from __future__ import annotations

from typing import Any

from mcore_compat.analysis.declarations import Finding
from mcore_compat.analysis.published import PublishedCause, PublishedChange, PublishedRule
from mcore_compat.analysis.rules import Beside, Bound, FailureState
from mcore_compat.core.matrix import DeclaredReason

OLD = "compat-0.16-modelopt0.44"
BOOL = "object of type 'bool' has no len()"
GROUPED = "modelopt.torch.quantization.plugins.transformer_engine:te_grouped_quantized_linear_fn"

TRACEBACK = """\
Traceback (most recent call last):
  File "/opt/train.py", line 12, in <module>
    main()
    ^^^^^^
  File "/opt/venv/lib/python3.12/site-packages/transformer_engine/pytorch/module/\
grouped_linear.py", line 801, in forward
    return linear_fn(*args)
  File "/opt/venv/lib/python3.12/site-packages/modelopt/torch/quantization/plugins/\
transformer_engine.py", line 99, in te_grouped_quantized_linear_fn
    num_gemms = len(m_splits)
TypeError: object of type 'bool' has no len()
"""


def cause(fingerprint: str, kind: str, message: str, frame: str, **fields: Any) -> PublishedCause:
    return PublishedCause(
        device_class="host",
        fingerprint=fingerprint,
        type=kind,
        message=message,
        frame=frame,
        gpu_independent=None,
        checks=("restore[gpt]",),
        cells=(OLD,),
        attributed_to=("nvidia-modelopt",),
        **{"bounded_rules": (), **fields},
    )


def bound(axis: str, low: str, high: str, above: str | None) -> Bound:
    beside = Beside(version=above, state=FailureState.WORKS) if above else None
    return Bound(axis=axis, low=low, high=high, below=None, above=above, next_above=beside)


RULES = tuple(
    PublishedRule(
        text=f"nvidia-modelopt>=0.44.0,<=0.45.0 and {other}",
        bounds=(
            bound("nvidia-modelopt", "0.44.0", "0.45.0", "0.46.1"),
            bound(
                other.partition("=")[0], other.rpartition("=")[2], other.rpartition("=")[2], None
            ),
        ),
        checks=("restore[gpt]",),
    )
    for other in ("transformer-engine==2.17.1", "torch==2.13.0")
)

CAUSES = (
    cause(
        "a" * 12,
        "TypeError",
        BOOL,
        GROUPED,
        bounded_rules=RULES,
        frames=(
            "plugins.transformer_engine:te_grouped_quantized_linear_fn",
            "module.grouped_linear:forward",
            "plugins.custom:forward",
        ),
        declared=(
            DeclaredReason(
                reason="it counts matrices of an argument that has moved",
                owner="nvidia-modelopt",
                upstream="NVIDIA/Model-Optimizer#1940",
            ),
        ),
    ),
    cause(
        "b" * 12,
        "ImportError",
        "cannot import name '_type_utils' from 'torch.onnx' (torch/onnx/__init__.py)",
        "modelopt.torch.quantization.export_onnx:<module>",
    ),
    cause(
        "c" * 12,
        "CheckpointException",
        "RuntimeError: Missing key in checkpoint state_dict: "
        "decoder.layers.1.pre_mlp_layernorm._extra_state/shard_0_1.",
        "torch.distributed.checkpoint.utils:reduce_scatter",
        frames=("checkpoint.default_planner:create_default_local_load_plan",),
    ),
    cause(
        "d" * 12,
        "AssertionError",
        "none of 3 quantizers is enabled; no weight quantizer has a scale in the checkpoint",
        "suite.check_modelopt_state:survives",
    ),
    cause(
        "e" * 12,
        "AssertionError",
        "none of 0 quantizers is enabled; no weight quantizer has a scale in the checkpoint",
        "suite.check_modelopt_state:survives",
    ),
)

DRIFT = (
    PublishedChange(
        package="megatron-core",
        subject="megatron.core.models.gpt.gpt_model:GPTModel.forward",
        before="0.12.3",
        after="0.13.1",
        kind="parameter removed",
        breaking=True,
        name="inference_params",
        not_tested=("0.13.0",),
    ),
    PublishedChange(
        package="megatron-core",
        subject="megatron.core.inference.modelopt_support.gpt.model_specs:get_spec_of_old",
        before="0.12.3",
        after="0.13.1",
        kind="removed",
        breaking=True,
    ),
)

IMPORTS = Finding(
    kind="not declared",
    package="nvidia-modelopt",
    subject="nvidia-modelopt imports requests",
    cells=(OLD,),
    relations=(),
    imported_in=("modelopt.torch.utils.dataset_utils of nvidia-modelopt 0.44.0",),
)
