"""The machine that a suite runs on: its device class. Imports nothing that a bundle could not
carry; what of a run is the machine's fault, `run.infrastructure` decides."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

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
