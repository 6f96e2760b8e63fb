"""The folder in which a wheel is built; it is kept after an interrupted build, to resume it."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import shutil
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from mcore_compat.base import files, processes
from mcore_compat.base.errors import InfrastructureError, UsageError
from mcore_compat.environments import process_variables, recipes, toolkits
from mcore_compat.environments.build_log import last_line
from mcore_compat.environments.recipes import Recipe
from mcore_compat.environments.toolkits import Toolkit
from mcore_compat.index import package_index
from mcore_compat.resolve import locks
from mcore_compat.resolve.locks import Pin

if TYPE_CHECKING:
    from mcore_compat.environments.wheelhouse import Job

LIMIT = "MCORE_COMPAT_BUILD_LIMIT"
LIMIT_S = 3600.0
KEPT_S = 14 * 24 * 3600.0
"""How long the folder of an interrupted build is kept."""

_STAMP, _KEEP, _MADE = "stamp.txt", "keep", "environment-made"


def limit() -> float:
    """The time limit of one build in seconds: from the environment variable, else an hour.

    Raises:
        UsageError: the variable is not a positive number.
    """
    text = os.environ.get(LIMIT, "")
    return seconds(text, LIMIT) if text else LIMIT_S


def seconds(text: str, name: str) -> float:
    """A positive number of seconds; raises UsageError with the `name` of the option or variable."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not math.isfinite(number) or number <= 0:
        raise UsageError(f'{name}: "{text}" is not a number of seconds; write e.g. 7200')
    return number


def archs(recipe: Recipe, arch: str | None) -> tuple[str, ...]:
    """The architectures (`90`) to compile CUDA sources for: those of the user's environment
    variable, else of the target machine (`arch`: `sm_90`; None: this machine). Without a GPU only
    one, because build time grows with each. Empty if unknown: the build's own list."""
    if not recipe.archs:
        return ()
    chosen = {word.strip() for word in os.environ.get(recipe.archs, "").split(";")} - {""}
    if chosen:
        return tuple(sorted(chosen))
    if arch is not None:
        return (arch.removeprefix("sm_"),) if arch else ()
    return _of_gpus() if process_variables.has_driver() else (recipe.arch,)


@functools.cache
def _of_gpus() -> tuple[str, ...]:
    return toolkits.capabilities(processes.run)


@contextmanager
def opened(work: Path, key: str, stamp: str) -> Iterator[Path]:
    """The build folder of one key, whose lock the caller holds. It has the content of an earlier
    build with the same `stamp` that was killed, interrupted or kept by `keep`, else it is empty. It
    is removed at the end in all other cases.
    """
    # Short, because scripts have the interpreter's path on their first line.
    base = work / files.sha256_bytes(key.encode())[:12]
    try:
        same = (base / _STAMP).read_text() == stamp
    except OSError:
        same = False
    if not same:
        shutil.rmtree(base, ignore_errors=True)
    base.mkdir(parents=True, exist_ok=True)
    (base / _STAMP).write_text(stamp)
    (base / _KEEP).unlink(missing_ok=True)
    try:
        yield base
    except Exception:
        shutil.rmtree(base, ignore_errors=True)
        raise
    if not (base / _KEEP).exists():
        shutil.rmtree(base, ignore_errors=True)


def sweep(work: Path, wheels: Path) -> None:
    """Remove folders that no build will resume: those whose wheel is in `wheels` by now, and those
    that were not used for KEPT_S. Folders in use stay."""
    for base in work.glob("*"):
        with contextlib.suppress(OSError):  # another user's, or already removed
            stamp = base / _STAMP
            words = stamp.read_text().split() if stamp.exists() else []
            place = wheels / words[-1] if words else None
            old = time.time() - (stamp if words else base).stat().st_mtime > KEPT_S
            if not (old or (place and (place / "build.json").exists())):
                continue
            if place is None or not place.is_dir():
                shutil.rmtree(base, ignore_errors=True)
                continue
            with contextlib.suppress(Timeout), FileLock(place / ".lock", timeout=0):
                shutil.rmtree(base, ignore_errors=True)


def keep(base: Path) -> None:
    """Keep the content of an open folder, so that the next build resumes."""
    (base / _KEEP).touch()


def source(base: Path, pin: Pin) -> Path:
    """The source distribution, unpacked beside it. Only once, because a resumed build recompiles
    files with newer times.

    Raises:
        InfrastructureError: the download failed.
    """
    sdist = next(iter(sorted((base / "sdist").glob("*.tar.gz"))), None)
    if sdist and (base / "source").is_dir():
        return sdist
    (base / "sdist").mkdir(exist_ok=True)
    sdist = package_index.download_sdist(pin.name, pin.version, pin.hashes, base / "sdist")
    fresh = base / "unpacking"
    shutil.rmtree(fresh, ignore_errors=True)
    with tarfile.open(sdist) as archive:
        archive.extractall(fresh, filter="data")
    os.replace(fresh, base / "source")
    return sdist


def unpacked(base: Path) -> Path:
    """The top folder of the source distribution."""
    return next(path for path in sorted((base / "source").iterdir()) if path.is_dir())


def environment(base: Path, recipe: Recipe, toolkit: Toolkit | None, job: Job, log: Path) -> Path:
    """The build environment: exactly the lock's packages, and build tools.

    Raises:
        InfrastructureError: it could not be made.
    """
    folder = base / "env"
    if (base / _MADE).exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    pinned = base / "lock.txt"
    pinned.write_text(locks.binary_part(job.lock))
    tools = ["pip", "wheel", "setuptools", "pybind11", "ninja", "packaging"]
    if recipe.cuda_headers and toolkit is None:
        tools += recipes.header_packages(job.cuda)
    python = folder / "bin" / "python"
    install: list[str | Path] = [job.uv, "pip", "install", "--quiet", "-p", python]
    dated: list[str | Path] = ["--exclude-newer", f"{job.lock.exclude_newer}T00:00:00Z"]
    steps: list[list[str | Path]] = [
        [job.uv, "venv", "--quiet", "-p", job.python, folder],
        [*install, "--no-deps", "--require-hashes", "-r", pinned],
        # No upgrade: the lock's versions of setuptools or packaging stay.
        [*install, *dated, *tools],
    ]
    for argv in steps:
        completed = job.run(argv, timeout=1200, log=log)
        if not completed.ok:
            raise InfrastructureError(
                f"the build environment could not be made: {last_line(completed)} (log: {log})"
            )
    (base / _MADE).touch()
    return folder


def variables(
    site: Path, recipe: Recipe, toolkit: Toolkit | None, base: Path, job: Job
) -> dict[str, str]:
    """The environment variables of a build in an open folder."""
    root = base / "cuda"
    if toolkit is None:
        recipes.header_root(site, root, job.cuda)
    elif recipe.kernels_needed and job.arch:
        recipes.one_arch_root(site, root, toolkit, job.arch)
    else:
        root = toolkit.home
    (base / "tmp").mkdir(exist_ok=True)
    values = process_variables.variables(site, None)
    values.update(recipe.variables)
    if toolkit and (words := archs(recipe, job.arch)):
        values[recipe.archs] = ";".join(words)
    values.update(
        CUDA_HOME=str(root),
        CUDA_PATH=str(root),
        CPATH=":".join(str(p) for p in sorted((site / "nvidia").glob("*/include"))),
        TMPDIR=str(base / "tmp"),  # pip's temporary files are removed with the folder
        MAX_JOBS=os.environ.get("MAX_JOBS") or str(os.cpu_count() or 1),
        # Debug information doubles the time, and nobody uses it.
        CFLAGS="-g0",
        CXXFLAGS="-g0",
        PATH=f"{site.parents[2] / 'bin'}:{root / 'bin'}:/usr/bin:/bin",
    )
    return values
