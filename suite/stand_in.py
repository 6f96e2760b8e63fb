"""A small CUDA stand-in: lets real Transformer Engine modules be built on the CPU.

It is installed only where there is no GPU, and only after the packages were imported. It
answers questions about a device and keeps random states; it runs no kernel. What it cannot
answer raises `StandInShort`. Triton has a driver of its own, which older releases ask while
kernels are only defined: it is stood in for before the packages are imported.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from typing import Any


class StandInShort(AttributeError):  # noqa: N818 (a statement about us, not an error)
    """The stand-in was asked for something that only a GPU can give."""


class StandInProperties:
    """What `get_device_properties` answers; sizes in bytes."""

    name = "CUDA stand-in"
    major, minor = 8, 0
    total_memory = 16 * 2**30
    multi_processor_count = 1
    warp_size = 32

    def __getattr__(self, name: str) -> Any:
        raise StandInShort(f"StandInProperties: no device to read {name} from")


class StandInStream:
    """A stream on which nothing runs: all work is done when it is submitted."""

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def synchronize(self) -> None: ...

    def wait_stream(self, stream: Any) -> None: ...

    def wait_event(self, event: Any) -> None: ...

    def query(self) -> bool:
        return True

    def record_event(self, event: Any = None) -> Any:
        return event or StandInEvent()

    def __enter__(self) -> StandInStream:
        return self

    def __exit__(self, *error: Any) -> None: ...

    def __getattr__(self, name: str) -> Any:
        raise StandInShort(f"StandInStream: no device stream to read {name} from")


class StandInEvent:
    """An event that has always happened."""

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def record(self, stream: Any = None) -> None: ...

    def wait(self, stream: Any = None) -> None: ...

    def synchronize(self) -> None: ...

    def query(self) -> bool:
        return True

    def __getattr__(self, name: str) -> Any:
        raise StandInShort(f"StandInEvent: no device event to read {name} from")


class StandInGenerators:
    """Every device's default generator is the CPU's."""

    def __getitem__(self, device: Any) -> Any:
        import torch

        return torch.default_generator

    def __len__(self) -> int:
        return 1


@contextlib.contextmanager
def _nothing(*args: Any, **kwargs: Any) -> Iterator[None]:
    yield


class StandInTriton:
    """Triton's driver: lets autotuned kernels be defined; none is compiled or launched."""

    def get_benchmarker(self) -> Callable[..., Any]:
        def measure(*args: Any, **kwargs: Any) -> Any:
            raise StandInShort("StandInTriton: no device to time a kernel on")

        return measure

    def __getattr__(self, name: str) -> Any:
        raise StandInShort(f"StandInTriton: no device for {name}")


def install_triton() -> bool:
    """Put the stand-in where Triton keeps its driver; False where there is no such place."""
    name = "triton.runtime.driver"
    if importlib.util.find_spec("triton") is None:
        return False
    driver = getattr(importlib.import_module(name), "driver", None)
    if not hasattr(driver, "set_active"):
        return False
    driver.set_active(StandInTriton())
    return True


def installed() -> bool:
    """Whether the stand-in is in place in this process."""
    import torch

    return isinstance(torch.cuda.default_generators, StandInGenerators)


def installed_for() -> list[str]:
    """What the stand-in stands for in this process, in words."""
    triton = sys.modules.get("triton.runtime.driver")
    driver = getattr(getattr(triton, "driver", None), "active", None)
    found = ["torch.cuda"] if "torch" in sys.modules and installed() else []
    return found + (["Triton's driver"] if isinstance(driver, StandInTriton) else [])


def install() -> None:
    """Put the stand-in into `torch.cuda`; a second call does nothing.

    `current_device` answers with the CPU, so that what is created there is on the CPU.
    """
    import torch

    if installed():
        return
    cpu = torch.device("cpu")
    properties, stream = StandInProperties(), StandInStream()
    answers: dict[str, Callable[..., Any]] = {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "current_device": lambda: cpu,
        "device_count": lambda: 1,
        "synchronize": lambda device=None: None,
        "set_device": lambda device: None,
        "empty_cache": lambda: None,
        "ipc_collect": lambda: None,
        "memory_allocated": lambda device=None: 0,
        "max_memory_allocated": lambda device=None: 0,
        "memory_reserved": lambda device=None: 0,
        "get_device_capability": lambda device=None: (properties.major, properties.minor),
        "get_device_name": lambda device=None: properties.name,
        "get_device_properties": lambda device=None: properties,
        "current_stream": lambda device=None: stream,
        "default_stream": lambda device=None: stream,
        "stream": _nothing,
        "device": _nothing,
        "get_rng_state": lambda device=None: torch.get_rng_state(),
        "set_rng_state": lambda state, device=None: torch.set_rng_state(state),
        "manual_seed": lambda seed: torch.default_generator.manual_seed(seed),
        "manual_seed_all": lambda seed: torch.default_generator.manual_seed(seed),
        "initial_seed": torch.initial_seed,
        "is_current_stream_capturing": lambda: False,
        "is_bf16_supported": lambda *args, **kwargs: True,
    }
    for name, function in answers.items():
        for module in (torch.cuda, torch.cuda.random):
            if hasattr(module, name):
                setattr(module, name, function)
    torch.cuda.Stream = StandInStream
    torch.cuda.Event = StandInEvent
    torch.cuda.default_generators = StandInGenerators()
    torch.Tensor.cuda = lambda self, *args, **kwargs: self
    torch.nn.Module.cuda = lambda self, *args, **kwargs: self
