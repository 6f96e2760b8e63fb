"""Prefill and decode with the release's own inference context, whatever it is called there."""

from __future__ import annotations

import contextlib
import inspect
from typing import Any

from suite import adapter, families

CONTEXT = (
    ("megatron.core.inference.contexts.static_context", "StaticInferenceContext"),
    ("megatron.core.inference_params", "InferenceParams"),
)
MODE = (("megatron.core.inference.utils", "InferenceMode"),)
KEYWORDS = ("inference_context", "inference_params")
"""What a model's forward calls the context, newest first."""

BATCH = 4


def context() -> Any:
    """A fresh context for one sequence of `families.SEQUENCE` tokens."""
    found = adapter.find(CONTEXT)
    if found is None:
        raise AttributeError(f"the release has none of {', '.join('.'.join(p) for p in CONTEXT)}")
    return found.object(max_batch_size=1, max_sequence_length=families.SEQUENCE)


def forward(model: Any, tokens: Any, given: Any = None) -> Any:
    """The logits, [rows, sequence, vocabulary], of `tokens`, [rows, sequence]; one row with a
    context.

    `given` is the inference context; its offset says where in the sequence the tokens stand.
    The logits' sequence is that of the tokens, or only the last of them.
    """
    import torch

    offset = given.sequence_len_offset if given is not None else 0
    length = tokens.shape[1]
    positions = torch.arange(offset, offset + length, device=tokens.device)
    positions = positions.unsqueeze(0).expand(tokens.shape[0], -1).contiguous()
    mask = torch.ones((1, 1, length, length), dtype=torch.bool, device=tokens.device).triu(1)
    takes = inspect.signature(model.forward).parameters
    options: dict[str, Any] = {}
    if given is not None:
        options[next(name for name in KEYWORDS if name in takes)] = given
        if "runtime_gather_output" in takes:
            options["runtime_gather_output"] = True
    with torch.no_grad(), _mode(given is not None):
        return model(input_ids=tokens, position_ids=positions, attention_mask=mask, **options)


def _mode(on: bool) -> Any:
    """What newer releases want around a forward pass with a context."""
    found = adapter.find(MODE) if on else None
    return found.object.active() if found else contextlib.nullcontext()


def prefill_and_decode(model: Any, tokens: Any) -> tuple[Any, Any]:
    """The logits of all tokens but the last at once, then of the last alone."""
    model.eval()
    given = context()
    first = forward(model, tokens[:, :-1], given)
    given.sequence_len_offset = tokens.shape[1] - 1
    if hasattr(given, "enable_decode_mode"):
        given.enable_decode_mode()
    return first, forward(model, tokens[:, -1:], given)


def tokens() -> Any:
    """The sequence that every model is asked about, [1, SEQUENCE], on the GPU."""
    import torch

    generator = torch.Generator().manual_seed(families.SEED)
    shape = (1, families.SEQUENCE)
    return torch.randint(families.VOCABULARY, shape, generator=generator).cuda()


def batch() -> Any:
    """Sequences that are asked about at once, [BATCH, SEQUENCE], on the GPU; `tokens` is first."""
    import torch

    generator = torch.Generator().manual_seed(families.SEED + 1)
    shape = (BATCH - 1, families.SEQUENCE)
    others = torch.randint(families.VOCABULARY, shape, generator=generator).cuda()
    return torch.cat([tokens(), others])


def vocabulary(model: Any) -> int:
    """How many logits the model gives for a token; Megatron may have padded the vocabulary."""
    return int(model.output_layer.weight.shape[0])
