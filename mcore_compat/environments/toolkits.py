"""Finds CUDA toolkits with a working nvcc, the CUDA version of a torch, and this machine's GPUs."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mcore_compat.base import files
from mcore_compat.base.processes import Runner, undisturbed


@dataclass(frozen=True, kw_only=True)
class Toolkit:
    """A CUDA toolkit on this machine; `version` as nvcc prints it (`12.4`)."""

    home: Path
    version: str


def _homes() -> Iterator[Path]:
    for name in ("CUDA_HOME", "CUDA_PATH"):
        if os.environ.get(name):
            yield Path(os.environ[name])
    nvcc = shutil.which("nvcc")
    if nvcc:
        # A wrapper on PATH is not in its toolkit's folder; the folders below cover that.
        yield Path(nvcc).resolve().parent.parent
    yield from sorted(Path("/usr/local").glob("cuda*"), reverse=True)
    yield from sorted(made().glob("cuda-*"), reverse=True)


def made() -> Path:
    """The folder of toolkits made by this program."""
    return files.home() / "toolkits"


def found(run: Runner) -> tuple[Toolkit, ...]:
    """Every CUDA toolkit with a working nvcc, each version once. Toolkits with headers are
    preferred: an nvcc on PATH may be a wrapper outside its toolkit.

    Raises:
        InfrastructureError: an nvcc was killed before it answered.
    """
    by_version: dict[str, Toolkit] = {}
    for home in sorted(_homes(), key=lambda h: not (h / "include" / "cuda_runtime.h").is_file()):
        toolkit = at(home, run)
        if toolkit:
            by_version.setdefault(toolkit.version, toolkit)
    return tuple(by_version.values())


def at(home: Path, run: Runner) -> Toolkit | None:
    """The toolkit in a folder; None without one whose nvcc works; raises as `found`."""
    if not (home / "bin" / "nvcc").exists():
        return None
    completed = undisturbed(run([home / "bin" / "nvcc", "--version"], timeout=30))
    match = re.search(r"release (\d+\.\d+)", completed.output)
    return Toolkit(home=home, version=match[1]) if completed.ok and match else None


def of_cuda(cuda: str | None, run: Runner) -> Toolkit | None:
    """The toolkit of a CUDA version (`13.0`), or None."""
    return next((toolkit for toolkit in found(run) if toolkit.version == cuda), None)


def capabilities(run: Runner) -> tuple[str, ...]:
    """The compute capabilities of this machine's GPUs, as nvcc writes them (`90`); empty if
    nvidia-smi does not print them."""
    if shutil.which("nvidia-smi") is None:
        return ()
    words = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    told = undisturbed(run(words, timeout=60))
    lines = [line.strip() for line in told.output.splitlines()] if told.ok else []
    found = {line.replace(".", "") for line in lines if re.fullmatch(r"\d+\.\d", line)}
    return tuple(sorted(found, key=int))


def cuda_of_torch(torch: Path) -> tuple[str | None, str]:
    """The CUDA version (`12.8`) in the `version.py` of the torch in a folder, None for a build
    without; and why it is unknown, else an empty text."""
    try:
        text = (torch / "version.py").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None, "torch's version.py is missing"
    match = re.search(r"^cuda(?:: [^=]+)? *= *(?:['\"]([\d.]+)['\"]|None$)", text, re.MULTILINE)
    return (match[1], "") if match else (None, "torch's version.py does not name it")
