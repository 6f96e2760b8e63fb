"""The environment variables that a cell's packages need for their import."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from mcore_compat.base import files
from mcore_compat.base.processes import Runner

_DROPPED = re.compile(
    r"(PYTHON(PATH|HOME|STARTUP|DONTWRITEBYTECODE|PYCACHEPREFIX)|VIRTUAL_ENV|CUDA_(HOME|PATH)|NVTE_|CPATH|UV_)"
)


DRIVER = "libcuda.so.1"


def variables(
    site: Path, stub: Path | None, base: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The environment for a cell's processes.

    CUDA_HOME must not be empty (TE would search the whole file system). TE's core finds its CUDA
    libraries on LD_LIBRARY_PATH; `for_te` sets the rest. `stub` is the folder of the driver's
    stand-in, last on that path; None if there is a driver.
    """
    there = os.environ if base is None else base
    values = {name: value for name, value in there.items() if not _DROPPED.match(name)}
    libraries = [str(p) for p in sorted((site / "nvidia").glob("*/lib"))]
    libraries += [p for p in values.get("LD_LIBRARY_PATH", "").split(":") if p]
    libraries += [str(stub)] if stub else []
    values.update(
        LD_LIBRARY_PATH=":".join(libraries),
        CUDA_HOME=str(site / "nvidia"),
        HF_HUB_OFFLINE="1",
        PYTHONNOUSERSITE="1",
        PATH=f"{site.parents[2] / 'bin'}:{values.get('PATH', '/usr/bin:/bin')}",
    )
    # The models are tiny: with more threads a cell took a tenth more CPU time (three pairs of
    # runs, 2 cores), at the expense of cells that run in parallel.
    values.setdefault("OMP_NUM_THREADS", "1")
    values.update(for_te(site))
    return values


def for_te(site: Path) -> dict[str, str]:
    """The variables for the libraries and headers in `site` that TE loads or includes itself; only
    for those that exist.

    TE looks for each library in a separate variable, then in CUDA_HOME, and only then in its own
    packages' folder (`transformer_engine/common/__init__.py`): it fails with a CUDA_HOME without
    cuDNN, and with packages in two places. Kernels that it compiles at run time include
    `cuda_runtime.h` from NVTE_CUDA_INCLUDE_DIR, else from CUDA_HOME (`common/util/rtc.cpp`).
    """
    nvidia = site / "nvidia"
    places = {}
    for name in ("cudnn", "nvrtc", "curand"):
        libraries = sorted(nvidia.glob(f"*/lib/lib{name}.so*"))
        if libraries:
            places[f"{name.upper()}_HOME"] = str(libraries[0].parent.parent)
    headers = sorted(nvidia.glob("*/include/cuda_runtime.h"))
    if headers:
        places["NVTE_CUDA_INCLUDE_DIR"] = str(headers[0].parent)
    return places


def inherited(
    python: Path, site: Path, stub: Path | None, base: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The variables for a user's environment: keeps what is set and adds what the packages need for
    their import. Python does not write compiled files into it."""
    values = dict(os.environ if base is None else base)
    libraries = [p for p in values.get("LD_LIBRARY_PATH", "").split(":") if p]
    added = [*sorted((site / "nvidia").glob("*/lib")), *([stub] if stub else [])]
    libraries += [str(p) for p in added if str(p) not in libraries]
    if libraries:
        values["LD_LIBRARY_PATH"] = ":".join(libraries)
    if not values.get("CUDA_HOME") and (site / "nvidia").is_dir():
        values["CUDA_HOME"] = values.get("CUDA_PATH") or str(site / "nvidia")
    values["PYTHONDONTWRITEBYTECODE"] = "1"
    values["HF_HUB_OFFLINE"] = "1"
    path = values.get("PATH", "/usr/bin:/bin")
    if path.split(":")[0] != str(python.parent):
        values["PATH"] = f"{python.parent}:{path}"
    return values


def has_driver() -> bool:
    """Whether the loader finds the NVIDIA driver's library on this machine."""
    try:
        ctypes.CDLL(DRIVER)
    except OSError:
        return False
    return True


def driver_stub(site: Path, run: Runner) -> Path | None:
    """The folder of a libcuda.so.1 whose functions all return CUDA_ERROR_NO_DEVICE.

    Newer TE cores are linked against the driver. The stand-in is compiled from their undefined
    symbols; None if there is a driver, none is needed, or there is no compiler.
    """
    cores = sorted((site / "transformer_engine").rglob("libtransformer_engine.so"))
    compiler = shutil.which("cc") or shutil.which("gcc")
    if has_driver() or not cores or not compiler or not shutil.which("nm"):
        return None
    dynamic = run(["readelf", "-d", cores[0]], timeout=60).output
    if DRIVER not in dynamic:
        return None
    needed = run(["nm", "-D", cores[0]], timeout=60).output
    symbols = sorted(set(re.findall(r" U (cu[A-Z]\w*)", needed)))
    # 100 is CUDA_ERROR_NO_DEVICE of the driver's API.
    source = "".join(f"int {name}(void) {{ return 100; }}\n" for name in symbols)
    folder = files.home() / "libcuda-stub" / files.sha256_bytes(source.encode())[:16]
    if (folder / DRIVER).exists():
        return folder
    files.write_text(folder / "stub.c", source)
    part = folder / f"part-{os.getpid()}.so"
    flags = ("-shared", "-fPIC", f"-Wl,-soname,{DRIVER}")
    if not run([compiler, *flags, "-o", part, folder / "stub.c"], timeout=60).ok:
        return None
    os.replace(part, folder / DRIVER)
    return folder
