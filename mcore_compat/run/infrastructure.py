"""Decides whether a check failed because of the machine: the only place that does.

A full disk, memory that another process holds, a limit, a lost GPU or a process that was killed say
nothing about a cell: the run is an infrastructure error, is retried, and is never published. The
suite calls a check `broken` whatever the cause; this module decides from the messages and from the
free memory and disk meanwhile (`run.room`). Imports only what a bundle has.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Protocol

from mcore_compat.base import exhaustion
from mcore_compat.base.errors import InfrastructureError
from mcore_compat.run import memory

NO_GPU = "the NVIDIA driver is loaded, but no GPU can be used"

FROM_OUTSIDE = frozenset(
    {"SIGHUP", "SIGINT", "SIGKILL", "SIGQUIT", "SIGTERM", "SIGXCPU", "SIGXFSZ"}
)
"""Signals from other processes, or for a limit; no fault of a package causes one."""

FAILED = ("broken", "crashed", "timed-out")
_DEVICE = re.compile(
    r"CUDA_ERROR_OUT_OF_MEMORY|cudaErrorMemoryAllocation"
    r"|(?:CUBLAS|CUDNN|CUSPARSE|CUSOLVER)_STATUS_ALLOC_FAILED"
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
    r"|MPS (?:client|server) ",
    re.IGNORECASE,
)
"""Messages of the CUDA runtime, the driver and NVML if the device or the driver fails, or other
processes use them.

Failed kernels are not among them: an illegal access, a failed launch or an image that this device
cannot run may be a fault of the packages.
"""


def fault(event: Mapping[str, Any], *, gpu: bool) -> str | None:
    """The fault of the machine that made a check fail, in a line; None if none is known. `event`:
    of a check or record, in the suite's protocol; `gpu`: it ran on a GPU. Without one, outcomes
    that cannot be told from a missing GPU are examined, too."""
    failure, outcome = event.get("failure"), event.get("outcome")
    looked_at = (*FAILED, None) if gpu else (*FAILED, None, "needs-gpu")
    if outcome not in looked_at or not failure:
        return None
    # Indented lines of a traceback are sources, which may name errors that they handle.
    passed_on = [line for line in failure["traceback"].splitlines() if line[:1].strip()]
    lines = [f"{failure['type']}: {failure['message']}", *passed_on]
    if outcome in ("crashed", "timed-out"):  # it had no time to raise
        lines += str(event.get("output") or "").splitlines()
    lines = "\n".join(lines).splitlines()
    return exhaustion.line_of(lines, also=_DEVICE if gpu else None)


class Short(Protocol):
    """What was exhausted since the last call; `late`: a check passed its limit."""

    def __call__(self, *, late: bool) -> str | None: ...


def _never(*, late: bool) -> None:
    """The default: nothing is exhausted."""


class Watch:
    """Examines a suite's events, as they come, for faults of the machine."""

    def __init__(self, device_class: str | None, short: Short = _never) -> None:
        """`device_class`: what the suite must find; None: whatever it reports."""
        self._device_class = device_class
        self._short = short
        self._killed = memory.kills()
        self._why: str | None = None

    def see(self, event: Mapping[str, Any]) -> None:
        """Examine one event before it is used.

        Raises:
            InfrastructureError: it, or one before it, shows that the machine failed.
        """
        # Stays set: the events after it are read once more when the suite is ended.
        self._why = self._why or self._fault(event)
        if self._why:
            raise InfrastructureError(self._why)

    def _fault(self, event: Mapping[str, Any]) -> str | None:
        kind = event.get("event")
        if kind == "start":
            return self._of_start(event)
        if kind not in ("check", "record"):
            return None
        short = self._short(late=event.get("outcome") == "timed-out")
        name = event.get("check") or event.get("record")
        failure = event.get("failure") or {}
        if failure.get("type") == "SIGKILL" and memory.kills() > self._killed:
            return "the machine, or the job's share of it, ran out of memory"
        why = fault(event, gpu=self._device_class == "gpu")
        if why is None and failure and short:
            why = f"while it ran, {short}"
        return why and f"{name} failed because of this machine: {why}"

    def _of_start(self, event: Mapping[str, Any]) -> str | None:
        self._device_class = self._device_class or event["device_class"]
        if event["device_class"] != self._device_class:
            return (
                NO_GPU
                if self._device_class == "gpu"
                else "the suite found a GPU that is not visible to this process"
            )
        for module, said in dict(event.get("preload") or {}).items():
            said = str(said)
            why = exhaustion.line_of(said.splitlines())
            # If importing a module kills its process, the suite goes on without the module; not if
            # another process sent the signal.
            why = why or (said if said.removeprefix("died: ") in FROM_OUTSIDE else None)
            if why:
                return f"importing {module} failed because of this machine: {why}"
        return None
