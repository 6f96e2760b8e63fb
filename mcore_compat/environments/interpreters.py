"""Finds the Python interpreter that a cell needs: in pyenv, on PATH or by uv."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from packaging.version import Version

from mcore_compat.base.errors import InterpreterError
from mcore_compat.base.processes import Runner, undisturbed

ASK_SERIES = "import sys; print('%d.%d' % sys.version_info[:2])"
"""A program that prints the series of the Python that runs it, e.g. `3.12`."""


def candidates(series: str, run: Runner, uv: Path | None) -> Iterator[Path]:
    """Possible paths of a Python of a series (`3.12`); pyenv's newest patch first.

    pyenv's shims on PATH are skipped: they can fail although the Python is installed.
    """
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    patches = [p for p in pyenv.glob(f"{series}.*") if p.name.replace(".", "").isdigit()]
    for patch in sorted(patches, key=lambda p: Version(p.name), reverse=True):
        yield patch / "bin" / "python"
    folders = os.environ.get("PATH", "").split(os.pathsep)
    no_shims = os.pathsep.join(folder for folder in folders if Path(folder).name != "shims")
    on_path = shutil.which(f"python{series}", path=no_shims)
    if on_path:
        yield Path(on_path)
    if uv:
        completed = run([uv, "python", "find", "--no-project", "--offline", series], timeout=60)
        if completed.ok:
            yield from map(Path, completed.output.strip().splitlines()[-1:])


def is_of(series: str, python: Path, run: Runner) -> bool:
    """Whether a path is a working Python interpreter of this series.

    Raises:
        InfrastructureError: it was killed before it answered.
    """
    try:
        completed = undisturbed(run([python, "-I", "-c", ASK_SERIES], timeout=60))
    except OSError:
        return False  # missing, not executable, or for another machine
    return completed.ok and completed.output.strip() == series


def find(series: str, run: Runner, uv: Path) -> Path:
    """A working Python interpreter of this series.

    Raises:
        InterpreterError: there is none; says where it was searched and what to do.
        InfrastructureError: one was killed before it answered.
    """
    for path in candidates(series, run, uv):
        if path.exists() and is_of(series, path, run):
            return path
    raise InterpreterError(
        f"python {series} was not found in pyenv, on PATH or by uv; install it, e.g. "
        f"`uv python install {series}` or `pyenv install {series}`"
    )


def active() -> Path:
    """The Python of the shell's active environment, else the one that runs this program."""
    for name in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        place = os.environ.get(name)
        if place and (Path(place) / "bin" / "python").exists():
            return Path(place) / "bin" / "python"
    return Path(sys.executable)
