"""One rank of distributed state: what Megatron asks for before a model can be built."""

from __future__ import annotations

import importlib
import os
from pathlib import Path


def start(folder: Path, seed: int) -> None:
    """Start a process group of one, Megatron's groups of one, and its random states.

    `folder` is where the group's members would meet; nothing goes over a network.
    """
    import torch

    from suite import stand_in

    state = importlib.import_module("megatron.core.parallel_state")
    if not torch.distributed.is_initialized():
        os.environ.setdefault("LOCAL_RANK", "0")
        real = torch.cuda.is_available() and not stand_in.installed()
        torch.distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if real else "gloo",
            store=torch.distributed.FileStore(str(folder / "rendezvous"), 1),
            rank=0,
            world_size=1,
        )
        if real:
            torch.cuda.set_device(0)
    if not state.model_parallel_is_initialized():
        state.initialize_model_parallel()
    seeded(seed)


def seeded(seed: int) -> None:
    """Set every random state that building a model reads."""
    import torch

    torch.manual_seed(seed)
    random = importlib.import_module("megatron.core.tensor_parallel.random")
    random.model_parallel_cuda_manual_seed(seed)
