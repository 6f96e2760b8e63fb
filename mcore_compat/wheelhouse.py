"""Stage lock → wheelhouse: wheels of source-only packages, each built once and verified."""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from mcore_compat import files, index, locks, recipes, runtime, toolkits
from mcore_compat.buildlog import last_line, line_that_matters, surroundings
from mcore_compat.cells import Cell
from mcore_compat.errors import InfrastructureError
from mcore_compat.locks import Lock, Pin
from mcore_compat.proc import Completed, Runner
from mcore_compat.progress import Heartbeat
from mcore_compat.recipes import RECIPES, Recipe
from mcore_compat.toolkits import Toolkit

BUILD_LIMIT_S = 3600.0

_NO_DRIVER = re.compile(r"0 active drivers|no NVIDIA driver", re.IGNORECASE)
"""Where an import stops that has loaded everything and then asks for a GPU (older Triton does)."""


@dataclass(frozen=True, kw_only=True)
class Key:
    """Everything that a wheel's ABI depends on; its text names the wheel's folder."""

    package: str
    version: str
    torch: str
    python: str
    cuda: int
    variant: str = ""

    def __str__(self) -> str:
        machine = f"linux_{platform.machine()}"
        name = f"{self.package}-{self.version}-torch{self.torch}-py{self.python}-cu{self.cuda}"
        return f"{name}-{machine}{self.variant}"


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """A wheel of the wheelhouse, verified by importing it."""

    key: Key
    path: Path
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Unbuildable:
    """A source-only package that does not build here: why, the line that matters, what helps."""

    key: Key
    reason: str
    help: str
    log: str = ""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a build needs to know. `cuda` is torch's CUDA (`12.8`)."""

    cell: Cell
    lock: Lock
    cuda: str
    python: Path
    uv: Path
    run: Runner
    say: Callable[[str], None]


def folder() -> Path:
    return files.home() / "wheelhouse"


def ensure(pin: Pin, job: Job) -> Wheel | Unbuildable:
    """The wheel of a source-only pin: the one that is there, else built now.

    Two processes that want the same wheel wait for each other; another torch or python is
    another key and never meets it.

    Raises:
        InfrastructureError: network, disk, or another user's lock.
    """
    recipe = RECIPES[pin.name]
    toolkit = _toolkit(recipe, job)
    key = Key(
        package=pin.name,
        version=pin.version,
        torch=job.cell.torch,
        python=job.cell.python,
        cuda=job.cell.cuda,
        variant="-nocuda" if recipe.without_cuda and toolkit is None else "",
    )
    place = folder() / str(key)
    found = lookup(key)
    if found:
        return found
    with files.disk_errors(place):
        place.mkdir(parents=True, exist_ok=True)
    with FileLock(place / ".lock"), files.disk_errors(place):
        # Another process may have built it, or failed to, while this one waited.
        made = lookup(key) or remembered(key, _inputs(toolkit, job))
        if made is None:
            made = _build(key, pin, recipe, toolkit, place, job)
            if isinstance(made, Unbuildable) and made.log:
                _remember(made, _inputs(toolkit, job))
        return made


def _toolkit(recipe: Recipe, job: Job) -> Toolkit | None:
    """The CUDA toolkit of torch's version, where this build has a use for it.

    Kernels that can be left out are, where there is no GPU to run them: they take longer to
    compile than everything else together.
    """
    if recipe.without_cuda and not runtime.has_driver():
        return None
    return toolkits.of_cuda(job.cuda, job.run)


def lookup(key: Key) -> Wheel | None:
    """The verified wheel of a key, None where there is none or it is not what was recorded."""
    place = folder() / str(key)
    try:
        record = json.loads((place / "build.json").read_text())
        path = place / record["wheel"]
        if files.sha256_file(path) == record["sha256"]:
            return Wheel(key=key, path=path, sha256=record["sha256"])
    except (OSError, KeyError, TypeError, ValueError):
        return None  # none, half of one, or not a record of ours
    return None


REMEMBER_S = 3600.0
"""How long a failed build is not tried again: all cells of a run that need it share the answer."""


def _inputs(toolkit: Toolkit | None, job: Job) -> str:
    """What decides how a build ends, beside its key."""
    driver = "driver" if runtime.has_driver() else "no driver"
    return f"{job.lock.digest} {toolkit.version if toolkit else 'no toolkit'} {driver}"


def remembered(key: Key, inputs: str) -> Unbuildable | None:
    """A build of this key that failed a short while ago, from the very same `inputs`."""
    path = folder() / str(key) / "failed.json"
    try:
        said = json.loads(path.read_text())
        if said["inputs"] == inputs and time.time() - path.stat().st_mtime < REMEMBER_S:
            return Unbuildable(
                key=key, reason=said["reason"], help=said["help"], log=str(said["log"])
            )
    except (OSError, KeyError, TypeError, ValueError):
        return None
    return None


def _remember(failed: Unbuildable, inputs: str) -> None:
    said = {
        "help": failed.help,
        "inputs": inputs,
        "log": failed.log,
        "reason": failed.reason,
    }
    files.write_text(folder() / str(failed.key) / "failed.json", files.dump_json(said))


def _build(
    key: Key, pin: Pin, recipe: Recipe, toolkit: Toolkit | None, place: Path, job: Job
) -> Wheel | Unbuildable:
    log = place / "build.log"
    log.unlink(missing_ok=True)
    started = time.monotonic()
    work = files.home() / "build"
    work.mkdir(parents=True, exist_ok=True)
    # Short, for interpreters have long paths on their first lines. The key's lock is held: what
    # is there of this key was left by a build that was killed, gigabytes each time.
    prefix = f"{files.sha256_bytes(str(key).encode())[:12]}-"
    for left in work.glob(f"{prefix}*"):
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=work, ignore_cleanup_errors=True) as name:
        base = Path(name)
        sdist = index.download_sdist(pin.name, pin.version, pin.hashes, base)
        if not recipe.without_cuda:
            if not recipes.has_cuda_sources(sdist):
                toolkit = None  # the headers of torch's own CUDA serve, on every machine alike
            elif toolkit is None:
                return _needs_nvcc(key, job)
        job.say(f"building {key} (minutes; log: {log})")
        environment = base / "env"
        with Heartbeat(job.say, f"a build environment for {key.package}"):
            _prepare(environment, recipe, toolkit, job, log)
        site = next((environment / "lib").glob("python3*/site-packages"))
        variables = _variables(environment, site, recipe, toolkit, base, job)
        out = base / "out"
        argv: list[str | Path] = [environment / "bin" / "python", "-m", "pip", "wheel", "-v"]
        argv += ["--no-build-isolation", "--no-deps", "--no-cache-dir", "-w", out, sdist]
        with Heartbeat(job.say, f"building {key.package}") as beat:
            done = job.run(argv, timeout=BUILD_LIMIT_S, env=variables, log=log, on_line=beat.step)
        wheels = sorted(out.glob("*.whl")) if done.ok else []
        if not wheels:
            return _failed(key, done, log)
        problem = _verify(key, environment, site, wheels[0], recipe, toolkit, job, log)
        if problem:
            return Unbuildable(
                key=key, reason=f"built, but not importable: {problem}", help="", log=str(log)
            )
        return record(key, wheels[0], pin, toolkit, time.monotonic() - started)


def record(key: Key, wheel: Path, pin: Pin, toolkit: Toolkit | None, seconds: float) -> Wheel:
    """Move a verified wheel to its place, then write build.json: only with it a wheel counts."""
    place = folder() / str(key)
    final = place / wheel.name
    shutil.move(wheel, place / f".{wheel.name}")
    os.replace(place / f".{wheel.name}", final)
    digest = files.sha256_file(final)
    built = {
        "built": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "cuda_toolkit": toolkit.version if toolkit else None,
        "key": str(key),
        "seconds": round(seconds, 1),
        "sha256": digest,
        "source_sha256": list(pin.hashes),
        "wheel": wheel.name,
    }
    files.write_text(place / "build.json", files.dump_json(built))
    return Wheel(key=key, path=final, sha256=digest)


def _needs_nvcc(key: Key, job: Job) -> Unbuildable:
    versions = [t.version for t in toolkits.found(job.run)]
    return Unbuildable(
        key=key,
        reason=f"{key.package} {key.version} has CUDA sources and needs nvcc {job.cuda}; "
        f"found {', '.join(versions) or 'none'}",
        help=f"install the CUDA {job.cuda} toolkit and point CUDA_HOME at it, or take "
        "transformer-engine 2.4 or newer, which builds without one",
    )


def _prepare(
    environment: Path, recipe: Recipe, toolkit: Toolkit | None, job: Job, log: Path
) -> None:
    """The build environment: exactly the lock's packages, and tools to build with."""
    pinned = environment.parent / "lock.txt"
    pinned.write_text(locks.binary_part(job.lock))
    tools = ["pip", "wheel", "setuptools", "pybind11", "ninja", "packaging"]
    if recipe.cuda_headers and toolkit is None:
        tools += recipes.header_packages(job.cuda)
    install: list[str | Path] = [
        job.uv,
        "pip",
        "install",
        "--quiet",
        "-p",
        environment / "bin" / "python",
    ]
    dated: list[str | Path] = ["--exclude-newer", f"{job.lock.exclude_newer}T00:00:00Z"]
    steps: list[list[str | Path]] = [
        [job.uv, "venv", "--quiet", "-p", job.python, environment],
        [*install, "--no-deps", "--require-hashes", "-r", pinned],
        # Not upgraded: what the lock says of setuptools or packaging stays.
        [*install, *dated, *tools],
    ]
    for argv in steps:
        done = job.run(argv, timeout=1200, log=log)
        if not done.ok:
            raise InfrastructureError(f"no build environment: {last_line(done)} (log: {log})")


def _variables(
    environment: Path, site: Path, recipe: Recipe, toolkit: Toolkit | None, base: Path, job: Job
) -> dict[str, str]:
    root = toolkit.home if toolkit else base / "cuda"
    if toolkit is None:
        recipes.header_root(site, root, job.cuda)
    (base / "tmp").mkdir()
    variables = runtime.variables(site, None)
    variables.update(recipe.variables)
    if toolkit is None:
        variables.update(recipe.without_cuda)
    variables.update(
        CUDA_HOME=str(root),
        CUDA_PATH=str(root),
        CPATH=":".join(str(p) for p in sorted((site / "nvidia").glob("*/include"))),
        TMPDIR=str(base / "tmp"),  # what pip unpacks goes with the rest
        MAX_JOBS=os.environ.get("MAX_JOBS") or str(os.cpu_count() or 1),
        # Debug information doubles the time and serves no one here.
        CFLAGS="-g0",
        CXXFLAGS="-g0",
        PATH=f"{environment / 'bin'}:{root / 'bin'}:/usr/bin:/bin",
    )
    return variables


def _verify(
    key: Key,
    environment: Path,
    site: Path,
    wheel: Path,
    recipe: Recipe,
    toolkit: Toolkit | None,
    job: Job,
    log: Path,
) -> str | None:
    """Import the wheel beside the lock's packages; the last line of what went wrong, or None."""
    python = environment / "bin" / "python"
    argv: list[str | Path] = [job.uv, "pip", "install", "--quiet", "-p", python, "--no-deps", wheel]
    installed = job.run(argv, timeout=300, log=log)
    if not installed.ok:
        _blame_surroundings(key, installed, log)
        if installed.timed_out:
            raise InfrastructureError(f"installing {key} took over 300 s (log: {log})")
        return last_line(installed)
    stand_ins = recipe.stand_ins if toolkit is None else ()
    code = (
        "import sys, types, importlib, torch\n"
        f"for name in {stand_ins!r}: sys.modules[name] = types.ModuleType(name)\n"
        f"importlib.import_module({recipe.module!r})\n"
    )
    variables = runtime.variables(site, runtime.driver_stub(site, job.run))
    done = job.run([python, "-c", code], timeout=300, env=variables, log=log)
    if done.ok or (not runtime.has_driver() and _NO_DRIVER.search(last_line(done))):
        return None
    _blame_surroundings(key, done, log)
    return last_line(done)


def _blame_surroundings(key: Key, done: Completed, log: Path) -> None:
    """Raise InfrastructureError where a process ended for want of disk or memory."""
    what = surroundings(done)
    if what:
        raise InfrastructureError(f"{what}: {key} could not be built (log: {log})")


def _failed(key: Key, done: Completed, log: Path) -> Unbuildable:
    _blame_surroundings(key, done, log)
    if done.timed_out:
        return Unbuildable(
            key=key,
            reason=f"the build passed its limit of {BUILD_LIMIT_S:.0f} s",
            help="",
            log=str(log),
        )
    return Unbuildable(key=key, reason=line_that_matters(done.output), help="", log=str(log))


def keys_of(pin: Pin, cell: Cell) -> tuple[Key, ...]:
    """The keys that a source-only pin may have in a cell: with its CUDA part, and without."""
    variants = ("", "-nocuda") if RECIPES[pin.name].without_cuda else ("",)
    return tuple(
        Key(
            package=pin.name,
            version=pin.version,
            torch=cell.torch,
            python=cell.python,
            cuda=cell.cuda,
            variant=variant,
        )
        for variant in variants
    )
