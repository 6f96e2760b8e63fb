"""Models on one side, distributed checkpoints on the other: build, digest, save and load."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import multiprocessing
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suite import adapter, families, parallel, sabotage
from suite.compare import EXTRA, Digest, digest, last_line
from suite.outcomes import WorksWith

OF_WORDS = ("word_embeddings.weight", "output_layer.weight")
"""End the names of the matrices that have a row for each word of the vocabulary."""

SENTINEL = -12345.0
"""Fills a model before a restore. No weight is drawn near it, and every dtype used holds it."""


def model(family: str, kind: str, folder: Path, seed: int = families.SEED, **changed: Any) -> Any:
    """The family's model of `kind` `default` or `modelopt`, with weights drawn from `seed`.

    `changed` are values of the family's configuration, or of those that `families.OF_MODEL` names.
    """
    parallel.start(folder, seed)
    of_config, of_model = families.split(changed)
    config = families.config(family, **of_config)
    spec = getattr(adapter, f"{kind}_spec")(family, config)
    if kind == "modelopt":
        spec = sabotage.spec(spec)
    return adapter.build_model(family, spec, config, **of_model)


def of_tensor(tensor: Any) -> Digest:
    """The digest of a torch tensor on any device."""
    import torch

    plain = tensor.detach().cpu().contiguous()
    data = plain.reshape(-1).view(torch.uint8).numpy().tobytes()
    return digest(data, plain.shape, str(plain.dtype).removeprefix("torch."))


def tensors(state: Mapping[str, Any], words: int | None = None) -> dict[str, Digest]:
    """The digests of the tensors in a state dict; extra states are no tensors of a model.

    `words`: of a matrix with a row for each word, only so many rows; what follows is padding.
    """
    import torch

    return {
        name: of_tensor(value[:words] if words and name.endswith(OF_WORDS) else value)
        for name, value in state.items()
        if EXTRA not in name and isinstance(value, torch.Tensor)
    }


def parameters(model: Any, words: int | None = None) -> dict[str, Digest]:
    """The digests of all parameters and persistent buffers of a model, by name."""
    return tensors(model.state_dict(), words)


def extras(model: Any) -> list[str]:
    """Names of the extra states that a model's state dict has."""
    return sorted(name for name in model.state_dict() if EXTRA in name)


def distinct(model: Any, seed: int = families.SEED) -> None:
    """Give every floating-point tensor values of its own, drawn on the CPU from `seed`.

    Norms start as ones and biases as zeros: two of them swapped would otherwise not be seen.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, tensor in sorted(floating_of(model).items()):
            values = torch.randn(tensor.shape, generator=generator) * 0.02
            tensor.add_(values.to(tensor.dtype).to(tensor.device))


def forget(
    model: Any, words: int | None = None, names: Collection[str] | None = None
) -> dict[str, Digest]:
    """Fill every floating-point tensor of the model, or those of `names`, with the sentinel; their
    digests, as `tensors` gives them."""
    import torch

    with torch.no_grad():
        floating = floating_of(model)
        if names is not None:
            floating = {name: value for name, value in floating.items() if name in names}
        for tensor in floating.values():
            tensor.fill_(SENTINEL)
    return tensors(floating, words)


def floating_of(model: Any) -> dict[str, Any]:
    import torch

    state = model.state_dict(keep_vars=True)
    return {
        name: value
        for name, value in state.items()
        if EXTRA not in name and isinstance(value, torch.Tensor) and value.is_floating_point()
    }


def save(model: Any, folder: Path, *, quick: bool = False) -> None:
    """Save the model's distributed checkpoint into `folder`, which is made.

    `quick`: let the process that collects the writers' results be forked. Megatron spawns it,
    and it then imports torch once more, for seconds; one check that does so is enough.
    """
    checkpointing = importlib.import_module("megatron.core.dist_checkpointing")
    if quick:
        _fork_collector()
    folder.mkdir(parents=True, exist_ok=True)
    state = adapter.sharded_state(model)
    sabotage.writing()
    checkpointing.save(state, str(folder))


def _fork_collector() -> None:
    name = "megatron.core.dist_checkpointing.strategies.filesystem_async"
    if importlib.util.find_spec(name) is None:
        return
    writer = importlib.import_module(name)
    if getattr(writer, "_results_queue", 0) is None:
        writer._results_queue = multiprocessing.get_context("fork").Manager().Queue()


def mismatched(model: Any, folder: Path) -> tuple[set[str], set[str]] | None:
    """`(missing, unexpected)` as Megatron's strict load reports them; None where it cannot.

    Missing are keys of the checkpoint that the model does not ask for, unexpected those that it
    asks for in vain.
    """
    checkpointing = importlib.import_module("megatron.core.dist_checkpointing")
    validation = importlib.import_module("megatron.core.dist_checkpointing.validation")
    handling = getattr(validation, "StrictHandling", None)
    takes = inspect.signature(checkpointing.load).parameters
    if "strict" not in takes or not hasattr(handling, "RETURN_ALL"):
        return None
    state = adapter.sharded_state(model)
    _, missing, unexpected = checkpointing.load(state, str(folder), strict=handling.RETURN_ALL)
    return set(missing), set(unexpected)


def failures() -> tuple[type[BaseException], ...]:
    """What a failed load may raise: torch's own checkpoint exception is no `Exception`."""
    api = importlib.import_module("torch.distributed.checkpoint.api")
    return (Exception, api.CheckpointException)


@dataclass(frozen=True)
class Condition:
    """How a caller may load where a load with all defaults is refused.

    `text` is what to paste; `keys`: keys that one side lacks are logged, not refused; `module`:
    `load_state_dict` takes a state dict that lacks some names.
    """

    text: str
    keys: bool
    module: bool


_LOG_ALL = (
    "dist_checkpointing.load(model.sharded_state_dict(), path, strict=StrictHandling.LOG_ALL)"
)
CONDITIONS = (
    Condition(f"model.load_state_dict({_LOG_ALL})", keys=True, module=False),
    Condition(f"model.load_state_dict({_LOG_ALL}, strict=False)", keys=True, module=True),
)
"""What is tried, in this order: arguments that are public, and as few of them as it takes."""


def load(model: Any, folder: Path, condition: Condition | None = None) -> Any:
    """Load a distributed checkpoint into the model, as callers do with all defaults or under a
    condition; what `load_state_dict` returns."""
    checkpointing = importlib.import_module("megatron.core.dist_checkpointing")
    options = {}
    if condition is not None and condition.keys:
        validation = importlib.import_module("megatron.core.dist_checkpointing.validation")
        options["strict"] = validation.StrictHandling.LOG_ALL
    state = checkpointing.load(adapter.sharded_state(model), str(folder), **options)
    sabotage.restoring()
    strict = condition is None or not condition.module
    result = model.load_state_dict(sabotage.parameters(state), strict=strict)
    sabotage.restored(model)
    return result


def load_somehow(model: Any, folder: Path) -> tuple[Condition | None, str]:
    """Load a checkpoint with all defaults or, where that is refused, under the first of
    `CONDITIONS` that is not: which, and how the defaults were refused. What a check of the restore
    has judged already, others take for granted. Raises what the load with defaults raises.
    """
    try:
        load(model, folder)
        return None, ""
    except failures() as error:
        for condition in CONDITIONS:
            with contextlib.suppress(*failures()):
                load(model, folder, condition)
                return condition, f"{type(error).__name__}: {last_line(error)}"
        raise


def restore(
    model: Any,
    folder: Path,
    judge: Callable[[Any], list[str]],
    record: Callable[[str, Any], None],
    names: Collection[str] | None = None,
) -> list[str]:
    """Load a checkpoint into a model whose tensors, or those of `names`, are filled with the
    sentinel; what is wrong with it then.

    As callers do with all defaults; where that is refused, under each of `CONDITIONS`. `judge` says
    what is wrong with the model after a load, of what `load_state_dict` returned.

    Raises:
        WorksWith: it is refused, and under a condition nothing is lost.
        AssertionError: it is refused, and under every condition something is lost.
        Exception: it is refused, and so it is under every condition.
    """

    def under(condition: Condition | None) -> list[str]:
        # What an earlier load has brought must not be taken for this one's.
        forget(model, names=names)
        return judge(load(model, folder, condition))

    return attempted(under, CONDITIONS, record)


def attempted(
    under: Callable[[Any], list[str]], conditions: Any, record: Callable[[str, Any], None]
) -> list[str]:
    """What is wrong after `under(None)`, a call with all defaults, or, where that is refused, after
    `under(condition)` for each of `conditions`, which have a `text`. Raises as `restore`."""
    try:
        return under(None)
    except failures() as error:
        refused = f"{type(error).__name__}: {last_line(error)}"
        record("with defaults", refused)
        lost: dict[str, list[str]] = {}
        for condition in conditions:
            try:
                lost[condition.text] = under(condition)
            except failures() as again:
                record(f"under {condition.text}", f"{type(again).__name__}: {last_line(again)}")
                continue
            if not lost[condition.text] and _refused_again(under):
                raise WorksWith(condition.text, error) from None
        if not any(lost.values()):
            raise
        text = "; ".join(f"under {text}: {', '.join(found)}" for text, found in lost.items())
        raise AssertionError(f"a load with all defaults raises {refused}; {text}") from error


def _refused_again(under: Callable[[Any], list[str]]) -> bool:
    """Whether the call with defaults is refused once more: a condition answers a refusal that is
    due to the call, not one of the moment (a full disk, for example)."""
    try:
        under(None)
    except failures():
        return True
    return False
