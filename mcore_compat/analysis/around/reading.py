"""Facts about the packages around, read from an environment's files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mcore_compat.analysis.around.locked import NO_LOCKS, LockedVersions
from mcore_compat.environments import guarded_imports, shared_libraries, version_guards
from mcore_compat.environments.guarded_imports import SwitchedOff
from mcore_compat.environments.scan import Installed
from mcore_compat.environments.shared_libraries import LibraryFault
from mcore_compat.environments.version_guards import VersionRange


@dataclass(frozen=True, kw_only=True)
class Around:
    """Facts about an environment: guarded imports that fail, version ranges that code checks, and
    faults of shared libraries; the versions that tested cells were `locked` to; whether an `nvcc`
    is installed."""

    switched_off: tuple[SwitchedOff, ...] = ()
    ranges: tuple[VersionRange, ...] = ()
    libraries: tuple[LibraryFault, ...] = ()
    locked: LockedVersions = NO_LOCKS
    nvcc: bool = False


NOTHING_AROUND = Around()
"""No facts: no file was read."""


def read(there: Installed, environ: Mapping[str, str], locked: LockedVersions) -> Around:
    """Read the files of an environment; import none of its packages."""
    prefix = next((p.parents[2] for p in there.places if p.name == "site-packages"), None)
    return Around(
        switched_off=guarded_imports.switched_off(there.places),
        ranges=version_guards.ranges(there.places, set(there.versions)),
        libraries=shared_libraries.faults(there.places, environ, prefix),
        locked=locked,
        nvcc=has_nvcc(environ),
    )


def has_nvcc(environ: Mapping[str, str]) -> bool:
    """Whether a build would find an nvcc."""
    home = environ.get("CUDA_HOME") or environ.get("CUDA_PATH") or "/usr/local/cuda"
    return (Path(home) / "bin" / "nvcc").is_file() or bool(
        shutil.which("nvcc", path=environ.get("PATH", os.defpath))
    )
