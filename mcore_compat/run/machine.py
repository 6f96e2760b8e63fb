"""The machine that a suite runs on: its device class. Imports only what a bundle has;
`run.infrastructure` decides which failures are the machine's fault."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

VISIBLE = "CUDA_VISIBLE_DEVICES"
"""The variable with the devices that are visible to a process; empty: none."""

IN_A_JOB = "SLURM_JOB_ID"

DRIVER = (Path("/proc/driver/nvidia/version"), Path("/dev/nvidiactl"))
"""One of them exists if the NVIDIA driver is loaded; the suite tests the same."""


def driver() -> bool:
    """Whether the NVIDIA driver is loaded; uses no package under test."""
    return any(path.exists() for path in DRIVER)


def lent_none(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether no GPU is visible to this process: CUDA_VISIBLE_DEVICES names none, or is not set in
    a job of Slurm, which sets it to the devices of the job."""
    named = environ.get(VISIBLE)
    if named is None:
        return bool(environ.get(IN_A_JOB))
    return re.match(r"\s*(?:\d|GPU-|MIG-)", named) is None


def device_class(environ: Mapping[str, str] = os.environ) -> str:
    """`gpu` if the driver is loaded and a device is visible to this process, else `host`."""
    return "gpu" if driver() and not lent_none(environ) else "host"
