"""A family's model at a parallel size, in this rank of however many there are."""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suite import adapter, checkpoints, compare, families, parallel, sabotage
from suite.compare import EXTRA
from suite.ranks.shards import Cut, Held, Piece, Whole, Wholes

AXES = {"tp": "tensor_model_parallel_size", "pp": "pipeline_model_parallel_size"}
"""By axis: what Megatron calls its size, in its configuration and where it is started."""

HYBRID = ("M*", "-M")
"""The hybrid's layers by stage; the main suite's three cannot be shared out evenly."""

PIPED = (
    ("megatron.core.models.hybrid.hybrid_layer_allocation", "select_pipeline_segment"),
    ("megatron.core.ssm.mamba_hybrid_layer_allocation", "select_pipeline_segment"),
)
"""Where a release takes a hybrid's stages as they are written, with `|` between them."""


@dataclass(frozen=True)
class Size:
    """`axis`, `tp` or `pp`, is of `ranks` ranks; all else is of one."""

    axis: str
    ranks: int

    @property
    def named(self) -> dict[str, int]:
        """As Megatron's own arguments."""
        return {AXES[self.axis]: self.ranks}


ONE = Size("tp", 1)


def start(size: Size, seed: int, *, device: bool) -> None:
    """Join the ranks that torchrun started, and make Megatron's groups.

    `device`: each rank has a GPU, and they speak NCCL; else they speak gloo.
    """
    import torch

    if device:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if device else "gloo")
    state = importlib.import_module("megatron.core.parallel_state")
    state.initialize_model_parallel(**size.named)
    parallel.seeded(seed)


def model(family: str, kind: str, size: Size, folder: Path, seed: int = families.SEED) -> Any:
    """This rank's part of the family's model of `kind` `default` or `modelopt`.

    `folder` is where a rank that is alone would meet others.
    """
    import torch

    parallel.start(folder, seed)  # nothing, where the ranks have been started
    changed: dict[str, Any] = dict(size.named)
    if size.axis == "pp" and size.ranks > 1:
        changed["pipeline_dtype"] = torch.float32
    if family == "hybrid-mamba":
        changed["num_layers"] = len("".join(HYBRID))
    config = families.config(family, **changed)
    spec = getattr(adapter, f"{kind}_spec")(family, config)
    if kind == "modelopt":
        spec = sabotage.spec(spec)
    return build(family, spec, config, size)


def build(family: str, spec: Any, config: Any, size: Size) -> Any:
    """A model of `spec`: of one pipeline stage, where there are several."""
    state = importlib.import_module("megatron.core.parallel_state")
    stage = state.get_pipeline_model_parallel_rank()
    stages = state.get_pipeline_model_parallel_world_size()
    hybrid = family == "hybrid-mamba"
    places = adapter.STACK_MODEL if hybrid else adapter.GPT_MODEL
    found = adapter.find(places)
    if found is None:
        raise AttributeError(f"the release has none of {', '.join('.'.join(p) for p in places)}")
    offered: dict[str, Any] = {
        "config": config,
        "vocab_size": families.VOCABULARY,
        "max_sequence_length": families.SEQUENCE,
        "transformer_layer_spec": spec,
        "hybrid_stack_spec": spec,
        "mamba_stack_spec": spec,
        "pre_process": stage == 0,
        "post_process": stage == stages - 1,
    }
    if hybrid:
        takes = inspect.signature(found.object.__init__).parameters
        name = "hybrid_layer_pattern"
        name = name if name in takes else "hybrid_override_pattern"
        between = "|" if stages > 1 and adapter.place(PIPED) else ""
        offered[name] = between.join(HYBRID)
    return adapter.call(found.object, offered)


def sharded(model: Any) -> Iterator[tuple[str, Any]]:
    """Every piece of the model that a checkpoint would hold, by the name of its tensor."""
    for name, value in adapter.sharded_state(model).items():
        if EXTRA not in name:
            for one in _flat(value.build() if hasattr(value, "build") else value):
                yield name, one


def _flat(value: Any) -> Iterator[Any]:
    """What a tensor was split into, which may be nested."""
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, (list, tuple)):
        yield value
        return
    for part in value:
        yield from _flat(part)


def held(model: Any, rank: int, stage: int) -> Held:
    """What this rank holds of the model."""
    pieces = []
    for name, one in sharded(model):
        skipped = one.prepend_axis_num
        digest = checkpoints.of_tensor(one.data)
        pieces.append(
            Piece(
                name=name,
                key=one.key,
                offset=tuple(one.global_offset[skipped:]),
                shape=tuple(one.local_shape),
                whole=tuple(one.global_shape[skipped:]),
                digest=digest,
            )
        )
    missed = set(checkpoints.parameters(model)) - {piece.name for piece in pieces}
    assert not missed, f"not in the sharded state: {', '.join(sorted(missed))}"
    return Held(rank, stage, tuple(pieces))


def wholes(model: Any) -> Wholes:
    """The tensors of a model that one rank has alone, under names as without fused norms."""
    import torch

    made: dict[tuple[str, str], Any] = {}
    for name, one in sharded(model):
        skipped = one.prepend_axis_num
        shape = tuple(one.global_shape[skipped:])
        key = (compare.unfused(name), one.key)
        whole = made.setdefault(key, torch.empty(shape, dtype=one.data.dtype))
        whole[slices(one.global_offset[skipped:], one.local_shape)] = one.data.detach().cpu()
    return {key: Whole(tuple(tensor.shape), _cut(tensor)) for key, tensor in made.items()}


def slices(offset: Any, shape: Any) -> tuple[slice, ...]:
    """Where in a whole tensor a piece of it lies."""
    return tuple(slice(o, o + n) for o, n in zip(offset, shape, strict=True))


def _cut(tensor: Any) -> Cut:
    return lambda offset, shape: checkpoints.of_tensor(tensor[slices(offset, shape)])
