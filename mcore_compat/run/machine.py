"""The machine that a suite runs on: its device class, and what of a run is its fault alone.

A fault of the machine (a GPU that is lost, memory that another process holds) says nothing about
a cell: the run is an error, is tried again, and is never published. The suite calls a check that
failed on a GPU `broken` whatever it failed for; that is decided here. Imports nothing that a
bundle could not carry.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mcore_compat.base.errors import InfrastructureError
from mcore_compat.run import memory

VISIBLE = "CUDA_VISIBLE_DEVICES"
"""What names the devices that a process may see; empty: none."""

IN_A_JOB = "SLURM_JOB_ID"

DRIVER = (Path("/proc/driver/nvidia/version"), Path("/dev/nvidiactl"))
"""Either is there where the NVIDIA driver is loaded; the suite looks at the same."""


def driver() -> bool:
    """Whether the NVIDIA driver is loaded; asks no package under test."""
    return any(path.exists() for path in DRIVER)


def lent_none(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether this process may use no GPU, be there what may: CUDA_VISIBLE_DEVICES names none, or
    is not set in a job of Slurm, which sets it with the devices that it lends."""
    named = environ.get(VISIBLE)
    if named is None:
        return bool(environ.get(IN_A_JOB))
    return re.match(r"\s*(?:\d|GPU-|MIG-)", named) is None


def device_class(environ: Mapping[str, str] = os.environ) -> str:
    """`gpu` where the driver is loaded and a device is lent to this process, else `host`."""
    return "gpu" if driver() and not lent_none(environ) else "host"


NO_GPU = "there is a driver, but no GPU that can be used"

_TYPES = frozenset({"OutOfMemoryError", "MemoryError"})
"""Exceptions that say that memory ran out, the device's or the machine's."""

_FAULT = re.compile(
    r"\bout of memory\b|CUDA_ERROR_OUT_OF_MEMORY|cudaErrorMemoryAllocation"
    r"|(?:CUBLAS|CUDNN|CUSPARSE|CUSOLVER)_STATUS_ALLOC_FAILED"
    r"|DefaultCPUAllocator: can't allocate memory|Cannot allocate memory"
    r"|No space left on device|Disk quota exceeded|Stale file handle|Input/output error"
    r"|uncorrectable (?:ECC|NVLink) error|ECC_UNCORRECTABLE|NVLINK_UNCORRECTABLE"
    r"|hardware stack error|fallen off the bus|GPU is lost|GPU requires reset"
    r"|CUDA-capable device\S* \S+ busy or unavailable|exclusive-thread device already in use"
    r"|CUDA_ERROR_DEVICE_UNAVAILABLE|cudaErrorDevicesUnavailable|cudaErrorDeviceAlreadyInUse"
    r"|[Nn]o CUDA-capable device|No CUDA GPUs are available|CUDA_ERROR_NO_DEVICE"
    r"|Found no NVIDIA driver|NVIDIA driver on your system is too old"
    r"|CUDA driver version is insufficient|CUDA driver initialization failed"
    r"|CUDA unknown error - this may be due to|driver/library version mismatch"
    r"|unsupported display driver|forward compatibility was attempted on non supported HW"
    r"|system not yet initialized|compiled with an unsupported toolchain"
    r"|NVML_SUCCESS == |Failed to initialize NVML|OS call failed or operation not supported"
    r"|MPS (?:client|server) |Error while creating shared memory segment",
    re.IGNORECASE,
)
"""What the CUDA runtime, the driver, NVML, NCCL, torch and the kernel say where the device, the
driver or the machine fails, or others hold what is asked for.

A failed kernel is not among it: an illegal access, a failed launch or an image that this device
cannot run may be the packages' own.
"""


def fault(event: Mapping[str, Any]) -> str | None:
    """In a line, the fault of the machine that a check on a GPU failed for; None where it is not
    known to be one. `event` is the check's, of the suite's protocol."""
    failure = event.get("failure")
    if event.get("outcome") not in ("broken", "crashed", "timed-out") or not failure:
        return None
    # A traceback's own lines are indented: sources, which may name what they are prepared for.
    passed_on = [line for line in failure["traceback"].splitlines() if line[:1].strip()]
    lines = [f"{failure['type']}: {failure['message']}", *passed_on]
    if event["outcome"] != "broken":  # it had no time to raise
        lines += str(event.get("output") or "").splitlines()
    for line in "\n".join(lines).splitlines():
        kind = line.partition(":")[0].rpartition(".")[2]
        if kind in _TYPES or _FAULT.search(line):
            return "".join(c if c.isprintable() else "�" for c in line.strip()[:300])
    return None


class Watch:
    """Looks at a suite's events, as they come, for what is the machine's fault."""

    def __init__(self, device_class: str | None) -> None:
        """`device_class`: what the suite is expected to find; None: whatever it says."""
        self._device_class = device_class
        self._killed = memory.kills()
        self._why: str | None = None

    def see(self, event: Mapping[str, Any]) -> None:
        """Look at one event before it is taken.

        Raises:
            InfrastructureError: it, or one before it, shows that the machine failed.
        """
        # For good: the events after it are read once more when the suite is ended.
        self._why = self._why or self._fault(event)
        if self._why:
            raise InfrastructureError(self._why)

    def _fault(self, event: Mapping[str, Any]) -> str | None:
        if event.get("event") == "start":
            self._device_class = self._device_class or event["device_class"]
        if event.get("event") == "start" and event["device_class"] != self._device_class:
            return NO_GPU if self._device_class == "gpu" else "there is a GPU that was not lent"
        if event.get("event") != "check":
            return None
        failure = event.get("failure") or {}
        if failure.get("type") == "SIGKILL" and memory.kills() > self._killed:
            return "the machine, or the job's share of it, ran out of memory"
        why = fault(event) if self._device_class == "gpu" else None
        return why and f"{event['check']} failed for this machine's fault: {why}"
