"""What the suite runs on: processor, GPU, driver and the CUDA libraries; plain data."""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import platform
import re
import sys
from pathlib import Path
from typing import Any


def describe() -> dict[str, Any]:
    """Everything about the machine that can be had without importing a package."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "gpu": None,
        "capability": None,
        "driver": _driver(),
    }


def cuda_libraries() -> dict[str, Any]:
    """Versions of the CUDA libraries that torch brings; None where it cannot be told."""
    torch = sys.modules.get("torch")
    if torch is None:
        return {}
    found: dict[str, Any] = {"torch": torch.__version__, "cuda": torch.version.cuda}
    found["cudnn"] = _asked(lambda: _dotted(torch.backends.cudnn.version()))
    found["nccl"] = _asked(lambda: ".".join(map(str, torch.cuda.nccl.version())))
    return found


def gpu() -> dict[str, Any] | None:
    """The first GPU, used for real (one tensor is put on it), or None. Initialises CUDA: call
    it in a child only."""
    import torch

    if not torch.cuda.is_available():
        return None
    torch.zeros(1, device="cuda")
    return {
        "gpu": torch.cuda.get_device_name(0),
        "capability": ".".join(map(str, torch.cuda.get_device_capability(0))),
        "gpus": torch.cuda.device_count(),
    }


def driver_present() -> bool:
    """Whether the machine has an NVIDIA driver at all; cheap."""
    return Path("/proc/driver/nvidia/version").exists() or Path("/dev/nvidiactl").exists()


def installed() -> dict[str, str]:
    """Version by normalised name of every distribution on `sys.path`."""
    found = {}
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"]
        if name:
            found.setdefault(re.sub(r"[-_.]+", "-", name).lower(), distribution.version)
    return dict(sorted(found.items()))


def nvml_driver() -> str | None:
    """The driver's version as NVML says it; None where there is no NVML or it does not answer.

    `nvmlInit_v2`, `nvmlSystemGetDriverVersion` and the length of its answer, 80 bytes, are from
    the NVML API reference ("Initialization and Cleanup", "System Queries"). Does not start CUDA.
    """
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
        initialised, version = nvml.nvmlInit_v2, nvml.nvmlSystemGetDriverVersion
    except (OSError, AttributeError):
        return None
    if initialised() != 0:
        return None
    said = ctypes.create_string_buffer(80)
    done = version(said, ctypes.c_uint(len(said)))
    nvml.nvmlShutdown()
    return said.value.decode(errors="replace") or None if done == 0 else None


def _asked(question: Any) -> Any:
    try:
        return question()
    except Exception as error:
        return f"unknown ({type(error).__name__})"


def _dotted(cudnn: int | None) -> str | None:
    """`9.1.0` for cuDNN's 90100; `8.9.2` for 8902."""
    if not cudnn:
        return None
    major, rest = divmod(cudnn, 10000 if cudnn >= 90000 else 1000)
    return f"{major}.{rest // 100}.{rest % 100}"


def _cpu() -> str:
    match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
    return match[1].strip() if match else platform.machine()


def _driver() -> str | None:
    """The driver's version; from NVML where `/proc` does not say it, as in some containers."""
    try:
        text = Path("/proc/driver/nvidia/version").read_text()
    except OSError:
        return nvml_driver()
    match = re.search(r"\s(\d+\.\d+(?:\.\d+)?)\s", text)
    return match[1] if match else None
