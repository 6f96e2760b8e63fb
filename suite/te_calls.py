"""Where Transformer Engine hands tensors to its kernels: entered, recorded, and without a GPU left.

ModelOpt's plugin wraps TE's private autograd functions and picks the weight and the input out of
their argument lists. Without a GPU everything up to the kernel can run on the CPU; what would
run there is replaced by `KernelReached`, which claims no more than that it was reached.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator
from typing import Any

MODULES = "transformer_engine.pytorch.module"
ENTRIES = {
    "linear": "general_gemm",
    "layernorm_linear": "general_gemm",
    "grouped_linear": "general_grouped_gemm",
}
"""By TE's module: the function of its own namespace that starts the matrix product."""

NORM = ("layernorm_linear", "apply_normalization")
"""The kernel that comes before the product where TE fuses a norm with a linear."""

MARK = 1024.0
"""Added to what a quantizer is given, so that its result is known again at the kernel."""

NORMED = 3.0
"""What the norm's stand-in adds: its result differs from its input, as a norm's would."""


class KernelReached(BaseException):
    """A kernel would begin here; `operands` are the tensors that it was given, in order.

    No `Exception`: nothing on the way may take it for a failure of its own.
    """

    def __init__(self, name: str, operands: list[Any]) -> None:
        super().__init__(name)
        self.operands = operands


def entries() -> list[str]:
    """The entries that this TE lacks, so that a call could not be stopped before its kernel."""
    missing = []
    for module, name in [*ENTRIES.items(), NORM]:
        if not hasattr(importlib.import_module(f"{MODULES}.{module}"), name):
            missing.append(f"{MODULES}.{module}.{name}")
    return missing


@contextlib.contextmanager
def without_kernels() -> Iterator[None]:
    """Within, tensors say that they are on a GPU, and TE's kernels are not entered."""
    import torch

    with contextlib.ExitStack() as undo:
        for module, name in ENTRIES.items():
            replace(undo, f"{MODULES}.{module}", name, stopping)
            for workspace in workspaces(f"{MODULES}.{module}"):
                replace(undo, f"{MODULES}.{module}", workspace, lambda _: lambda *args: None)
        replace(undo, f"{MODULES}.{NORM[0]}", NORM[1], lambda _: normed)
        torch.Tensor.is_cuda = property(lambda self: True)
        undo.callback(lambda: delattr(torch.Tensor, "is_cuda"))
        yield


def replace(undo: contextlib.ExitStack, module: str, name: str, made: Callable[[str], Any]) -> None:
    """Put what `made` gives for its dotted name in a module's place, until `undo` is left."""
    there = importlib.import_module(module)
    undo.callback(setattr, there, name, getattr(there, name))
    setattr(there, name, made(f"{module}.{name}"))


def workspaces(module: str) -> list[str]:
    """The functions that give a kernel its memory on the GPU, called before the kernel is."""
    names = vars(importlib.import_module(module))
    return [name for name in names if name.startswith("get_") and "workspace" in name]


def stopping(name: str) -> Callable[..., Any]:
    """A function that raises `KernelReached` with the two operands of a matrix product.

    Of a grouped product, each operand is a list of tensors.
    """

    def stop(*args: Any, **kwargs: Any) -> Any:
        raise KernelReached(name, list(flat(args[:2])))

    return stop


def normed(inputs: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any, Any]:
    """Stands in for the norm: the output, and the statistics that only a backward pass reads."""
    return inputs + NORMED, inputs, inputs


def flat(values: Any) -> Iterator[Any]:
    """The tensors in nested tuples and lists, in order."""
    import torch

    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from flat(value)


def record(quantizers: dict[str, Any], *, mark: bool) -> dict[str, list[Any]]:
    """From now on note what each quantizer is given, by name; the lists fill as calls are made.

    `mark`: it then quantizes nothing, but hands on what it was given with `MARK` added.
    """
    seen: dict[str, list[Any]] = {name: [] for name in quantizers}
    for name, quantizer in quantizers.items():
        quantizer.forward = noting(seen[name], quantizer.forward, mark=mark)
    return seen


def noting(seen: list[Any], forward: Callable[..., Any], *, mark: bool) -> Callable[..., Any]:
    """`forward`, but what it is given is added to `seen`."""

    def note(inputs: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(inputs)
        if not mark:
            return forward(inputs, *args, **kwargs)
        return inputs + MARK if hasattr(inputs, "shape") else inputs

    return note
