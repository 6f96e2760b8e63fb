"""Stage lock → wheelhouse: wheels of source-only packages, each built once and verified."""

from __future__ import annotations

import datetime
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock

from mcore_compat.base import files, temporary
from mcore_compat.base.errors import InfrastructureError
from mcore_compat.base.processes import Completed, Runner
from mcore_compat.base.progress import Heartbeat
from mcore_compat.core.cells import Cell
from mcore_compat.environments import (
    build_folder,
    process_variables,
    recipes,
    source_wheel,
    toolkits,
)
from mcore_compat.environments.build_folder import LIMIT, archs
from mcore_compat.environments.build_log import last_line, line_that_matters, surroundings
from mcore_compat.environments.kept_wheels import (
    DAMAGED,
    Damage,
    Key,
    Unbuildable,
    Wheel,
    build_record,
    folder,
    lookup,
    remember,
    remembered,
    state,
)
from mcore_compat.environments.recipes import RECIPES, Recipe
from mcore_compat.environments.te_extension import wheel as te_wheel
from mcore_compat.environments.toolkits import Toolkit
from mcore_compat.index import package_index
from mcore_compat.resolve.locks import Lock, Pin

__all__ = [
    "Job",
    "Key",
    "Unbuildable",
    "Wheel",
    "causes",
    "ensure",
    "folder",
    "keys_of",
    "lookup",
    "record",
]

_NO_DRIVER = re.compile(r"0 active drivers|no NVIDIA driver", re.IGNORECASE)
"""The error of an import that loaded everything and then needs a GPU (older Triton)."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """The input of a build. `cuda` is torch's CUDA (`12.8`). `arch`: the GPU architecture of
    another target machine (`sm_90`); empty: another machine with an unknown one; None: this one."""

    cell: Cell
    lock: Lock
    cuda: str
    python: Path
    uv: Path
    run: Runner
    say: Callable[[str], None]
    arch: str | None = None


def ensure(pin: Pin, job: Job) -> Wheel | Unbuildable:
    """The wheel of a source-only pin: an existing one, else built now.

    Two processes that need the same wheel wait for each other; another torch or python has another
    key. A damaged wheel is set aside and built again: it did build here once, so a failure now is
    an infrastructure error and not a verdict.

    Raises:
        InfrastructureError: network, disk, time, another user's lock, or a damaged wheel that
            could not be built again.
    """
    recipe = RECIPES[pin.name]
    toolkit = _toolkit(recipe, job.cuda, job.run, job.arch)
    key = _key(pin, job.cell, _variant(pin, recipe, toolkit, job))
    place = folder() / str(key)
    build_folder.sweep(files.home() / "build", folder())
    wheel = lookup(key)
    if wheel:
        return wheel
    with files.disk_errors(place):
        place.mkdir(parents=True, exist_ok=True)
    build = _Build(key=key, pin=pin, recipe=recipe, toolkit=toolkit, job=job)
    with files.disk_errors(place), FileLock(place / ".lock"):
        # Another process may have built it, or failed to, while this one waited.
        there = state(key)
        if isinstance(there, Wheel):
            return there
        if there:
            return _again(build, there)
        answer = remembered(key, build.inputs) or _built(build)
        if isinstance(answer, Unbuildable) and answer.log:
            remember(answer, build.inputs)
        return answer


def _again(build: _Build, damage: Damage) -> Wheel:
    """Build a wheel again in place of a damaged one, which is set aside.

    Raises:
        InfrastructureError: the build failed; names the damaged wheel.
    """
    aside = ""
    if damage.path.exists():
        target = damage.path.with_name(f"{damage.path.name}{DAMAGED}")
        if target.is_dir():
            shutil.rmtree(target)
        os.replace(damage.path, target)
        aside = f"; it is kept as {target.name}"
    build.job.say(f"{damage}{aside}; building it again")
    try:
        answer = _built(build)
    except InfrastructureError as error:
        raise InfrastructureError(f"{damage} and could not be built again: {error}") from error
    if isinstance(answer, Unbuildable):
        raise InfrastructureError(f"{damage} and could not be built again: {answer.reason}")
    return answer


@dataclass(frozen=True, kw_only=True)
class _Build:
    """One build, whose lock is held."""

    key: Key
    pin: Pin
    recipe: Recipe
    toolkit: Toolkit | None
    job: Job
    there: Toolkit | None = None
    """The machine's toolkit, even if the sources do not use it."""

    @property
    def log(self) -> Path:
        return folder() / str(self.key) / "build.log"

    @property
    def inputs(self) -> str:
        """What the result of the build depends on, beside its key."""
        return f"{self.job.lock.digest} {_machine(self.toolkit)}"

    def failed(self, reason: str) -> Unbuildable:
        """The failed build, with its reason from the log."""
        cause = _cause(self.pin, self.there or self.toolkit)
        return Unbuildable(key=self.key, reason=reason, help="", log=str(self.log), cause=cause)

    def blame_surroundings(self, process: Completed) -> None:
        """Raise InfrastructureError if a process ended because of the machine (disk, memory)."""
        what = surroundings(process)
        if what:
            raise InfrastructureError(f"{what}: {self.key} could not be built (log: {self.log})")


def _toolkit(recipe: Recipe, cuda: str, run: Runner, arch: str | None = None) -> Toolkit | None:
    """The CUDA toolkit of torch's version, if this build uses it.

    Without a GPU, optional kernels are left out: they take longer to compile than everything else
    together.
    """
    for_arch = recipe.kernels_needed and bool(arch)
    if recipe.without_cuda and not process_variables.has_driver() and not for_arch:
        return None
    return toolkits.of_cuda(cuda, run)


def _machine(toolkit: Toolkit | None) -> str:
    """The properties of this machine that the result of a build depends on."""
    driver = "driver" if process_variables.has_driver() else "no driver"
    return f"{toolkit.version if toolkit else 'no toolkit'} {driver}"


def _cause(pin: Pin, toolkit: Toolkit | None) -> str:
    return f"{pin.name}: {_machine(toolkit)}"


def causes(pins: Iterable[Pin], cell: Cell, cuda: str, run: Runner) -> frozenset[str]:
    """The causes with which builds of a cell's source-only pins could fail now: those of pins
    without a wheel. A recorded cause that is not among them no longer applies."""
    return frozenset(
        _cause(pin, _toolkit(RECIPES[pin.name], cuda, run))
        for pin in pins
        if not any(map(lookup, keys_of(pin, cell)))
    )


def _variant(pin: Pin, recipe: Recipe, toolkit: Toolkit | None, job: Job) -> str:
    if recipe.without_cuda and toolkit is None:
        return "-nocuda"
    if recipe.kernels_needed and job.arch:
        return f"-{job.arch}"
    chosen = _named(archs(recipe, job.arch))
    if not chosen or state(_key(pin, job.cell, chosen)):
        return chosen
    plain = build_record(_key(pin, job.cell))
    if plain and (plain.cuda_toolkit is None or recipe.archs not in os.environ):
        return ""  # the existing wheel has no CUDA sources, or all architectures
    with files.disk_errors(folder()), temporary.folder() as place:
        sdist = package_index.download_sdist(pin.name, pin.version, pin.hashes, place)
        return chosen if recipes.has_cuda_sources(sdist) else ""


def _named(architectures: Sequence[str]) -> str:
    """The architectures' part of a key; only for packages with CUDA sources."""
    return f"-archs{'+'.join(architectures)}" if architectures else ""


class _CutOffError(InfrastructureError):
    """A build exceeded its time limit; its compiled files are kept for the next attempt."""


def _built(build: _Build) -> Wheel | Unbuildable:
    """Build a wheel and record it.

    Raises:
        InfrastructureError: the machine or the time limit ended the build.
    """
    build.log.unlink(missing_ok=True)
    key, recipe, job = build.key, build.recipe, build.job
    stamp = f"{build.inputs} {recipe} {key}"
    limit = build_folder.limit()
    cut_off: _CutOffError
    with build_folder.opened(files.home() / "build", str(key), stamp) as base:
        sdist = build_folder.source(base, build.pin)
        if recipe.without_cuda and build.toolkit is None:
            more = _names_alone(sdist, recipe) if recipe.stand_in else {}
            plain = source_wheel.make(sdist, key.package, key.version, recipe.module, base, more)
            return record(key, plain, build.pin, None, 0.0)
        if not recipe.without_cuda:
            if not recipes.has_cuda_sources(sdist):
                # The headers of torch's CUDA suffice, on every machine.
                build = replace(build, toolkit=None, there=build.toolkit)
            elif build.toolkit is None:
                return _needs_nvcc(key, build.pin, job)
        started = time.monotonic()
        try:
            wheel = _compiled(build, base, limit)
        except _CutOffError as error:
            build_folder.keep(base)
            cut_off = error
        else:
            if isinstance(wheel, Unbuildable):
                return wheel
            return record(key, wheel, build.pin, build.toolkit, time.monotonic() - started)
    raise cut_off  # not inside the `with`, where an error removes the folder


def _names_alone(sdist: Path, recipe: Recipe) -> dict[str, bytes]:
    """The stand-in for the compiled module, by its path."""
    text = te_wheel.stand_in_text(sdist, recipe.csrc)
    return {f"{recipe.stand_in}.py": text.encode()}


def _compiled(build: _Build, base: Path, limit: float) -> Path | Unbuildable:
    """Build a wheel and verify it."""
    key, recipe, job, log = build.key, build.recipe, build.job, build.log
    job.say(f"building {key} (minutes; log: {log})")
    with Heartbeat(job.say, f"creating the build environment of {key.package}"):
        environment = build_folder.environment(base, recipe, build.toolkit, job, log)
    site = next((environment / "lib").glob("python3*/site-packages"))
    variables = build_folder.variables(site, recipe, build.toolkit, base, job)
    out = base / "out"
    shutil.rmtree(out, ignore_errors=True)  # of a build killed after its wheel was made
    argv: list[str | Path] = [environment / "bin" / "python", "-m", "pip", "wheel", "-v"]
    argv += ["--no-build-isolation", "--no-deps", "--no-cache-dir", "-w", out]
    # A folder, not the archive: pip builds in it, so that compiled files can be kept.
    argv.append(build_folder.unpacked(base))
    with Heartbeat(job.say, f"building {key.package}") as beat:
        pip = job.run(argv, timeout=limit, env=variables, log=log, on_line=beat.step)
    wheels = sorted(out.glob("*.whl")) if pip.ok else []
    if not wheels:
        build.blame_surroundings(pip)
        if not pip.timed_out:
            return build.failed(line_that_matters(pip.output))
        raise _CutOffError(
            f"the build of {key} exceeded its limit of {limit:.0f} s (log: {log}); run it again "
            f"to resume it; {LIMIT} sets the limit in seconds"
        )
    problem = _import_failure(build, site, wheels[0])
    return build.failed(f"built, but its import fails: {problem}") if problem else wheels[0]


def record(key: Key, wheel: Path, pin: Pin, toolkit: Toolkit | None, seconds: float) -> Wheel:
    """Move a verified wheel to its place, then write build.json, which makes it valid."""
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
    (place / "failed.json").unlink(missing_ok=True)
    return Wheel(key=key, path=final, sha256=digest)


def _needs_nvcc(key: Key, pin: Pin, job: Job) -> Unbuildable:
    versions = [t.version for t in toolkits.found(job.run)]
    return Unbuildable(
        key=key,
        reason=f"{key.package} {key.version} has CUDA sources and needs nvcc {job.cuda}; "
        f"found {', '.join(versions) or 'none'}",
        help=f"make a toolkit without root: mcore-compat toolkit --cuda {job.cuda}; or set "
        f"CUDA_HOME to one of CUDA {job.cuda}, or choose transformer-engine 2.4 or newer, which "
        "builds without",
        cause=_cause(pin, None),
    )


def _import_failure(build: _Build, site: Path, wheel: Path) -> str | None:
    """The last line of the error when the wheel is imported with the lock's packages, or None."""
    key, recipe, job, log = build.key, build.recipe, build.job, build.log
    python = site.parents[2] / "bin" / "python"
    argv: list[str | Path] = [job.uv, "pip", "install", "--quiet", "-p", python, "--no-deps", wheel]
    install = job.run(argv, timeout=300, log=log)
    if not install.ok:
        build.blame_surroundings(install)
        if install.timed_out:
            raise InfrastructureError(f"installing {key} took over 300 s (log: {log})")
        return last_line(install)
    code = f"import importlib, torch; importlib.import_module({recipe.module!r})"
    variables = process_variables.variables(site, process_variables.driver_stub(site, job.run))
    imported = job.run([python, "-c", code], timeout=300, env=variables, log=log)
    no_driver = _NO_DRIVER.search(last_line(imported)) and not process_variables.has_driver()
    if imported.ok or no_driver:
        return None
    build.blame_surroundings(imported)
    if imported.timed_out:
        raise InfrastructureError(f"importing {key} took over 300 s (log: {log})")
    return last_line(imported)


def _key(pin: Pin, cell: Cell, variant: str = "") -> Key:
    return Key(
        package=pin.name,
        version=pin.version,
        torch=cell.torch,
        python=cell.python,
        cuda=cell.cuda,
        variant=variant,
    )


def keys_of(pin: Pin, cell: Cell, arch: str | None = None) -> tuple[Key, ...]:
    """The keys that a source-only pin may have in a cell: with its CUDA part, and without. For a
    GPU of another machine (`arch`), the key that `ensure` uses if there is a toolkit."""
    recipe = RECIPES[pin.name]
    if arch and recipe.kernels_needed:
        return (_key(pin, cell, f"-{arch}"),)
    variants = ("", "-nocuda") if recipe.without_cuda else (_named(archs(recipe, arch)), "")
    return tuple(_key(pin, cell, variant) for variant in dict.fromkeys(variants))
