"""On the other machine: a cell's environment, as its lock says or over what is there."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcore_compat.base import files, processes, temporary
from mcore_compat.base.errors import InfrastructureError, UsageError
from mcore_compat.environments import process_variables, toolkits
from mcore_compat.environments.toolkits import Toolkit
from mcore_compat.offline.node import install, overlay, shared_packages
from mcore_compat.offline.node.install import Installer
from mcore_compat.offline.node.run_script import lock
from mcore_compat.run.check_sets import ON_A_GPU

PARTS = tuple(ON_A_GPU)
"""Parts of the suite that are run by themselves: folders below `suite/`, and options."""

EXTENSIONS = "TORCH_EXTENSIONS_DIR"

CACHES = (
    "CUDA_CACHE_PATH",
    "TORCHINDUCTOR_CACHE_DIR",
    EXTENSIONS,
    "TRITON_CACHE_DIR",
    "XDG_CACHE_HOME",
)
"""Where packages keep what they compile: with `--base current`, in the environment."""


@dataclass(frozen=True, kw_only=True)
class NodeRun:
    """This run: the bundle's folder and digest, where things are left, what was asked for."""

    root: Path
    digest: str
    into: Path
    args: argparse.Namespace


@dataclass(frozen=True, kw_only=True)
class NodeEnvironment:
    """What the suite runs in; `base` is what the evidence says of what was there before."""

    python: Path
    tools: Path
    variables: Mapping[str, str]
    wheels: Mapping[str, str]
    folders: tuple[str, ...]
    base: Mapping[str, Any] | None


def say(line: str) -> None:
    """Progress; on stderr, so that the verdict can be piped."""
    print(line, file=sys.stderr, flush=True)


@contextmanager
def alone(name: str, run: NodeRun) -> Iterator[None]:
    """No other run of the cell leaves things in the same place, on whatever machine.

    Raises:
        InfrastructureError: there is one, or that cannot be told.
    """
    path = run.into / "logs" / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            held = lock(file)
        except OSError as error:
            raise InfrastructureError(
                f"no lock can be taken in {run.into} ({error.strerror}); name a place on another "
                "file system with --into"
            ) from None
        if not held:
            raise InfrastructureError(
                f"{name} is being run by another process in {run.into}; name another place with "
                "--into"
            )
        yield


def pycache(run: NodeRun) -> Path:
    """Where Python keeps what it compiles of a base's sources, for all cells and later runs; of one
    bundle alone, for what was compiled is known by its source's time and size, and archives may
    give another suite the same."""
    return run.into / "work" / "pycache" / run.digest[:16]


@contextmanager
def prepared(cell: Mapping[str, Any], run: NodeRun) -> Iterator[NodeEnvironment]:
    """A cell's environment, removed at the end unless it is to be kept.

    Raises:
        CompatError: it cannot be made here.
    """
    over = run.args.base == "current" or any(not p["files"] for p in cell["packages"])
    uv = None if run.args.installer == "pip" else shutil.which("uv")
    if run.args.installer == "uv" and uv is None:
        raise UsageError("--installer uv: it is not on PATH")
    installer = Installer(root=run.root, uv=Path(uv) if uv else None)
    lasting = nullcontext(run.into / "work" / cell["cell"])
    with temporary.folder() if over and not run.args.keep else lasting as work:
        try:
            work.mkdir(parents=True, exist_ok=True)
            os.environ["MCORE_COMPAT_HOME"] = str(work)  # where the driver's stand-in is put
            yield (_over if over else _own)(cell, installer, work, run)
        finally:
            if run.args.keep:
                say(f"the environment stays: {work}")
            else:
                shutil.rmtree(work, ignore_errors=True)
                # What was compiled of it: its place is never used again.
                shutil.rmtree(pycache(run) / work.relative_to("/"), ignore_errors=True)


def _own(
    cell: Mapping[str, Any], installer: Installer, work: Path, run: NodeRun
) -> NodeEnvironment:
    """The environment that the lock says, no more and no less."""
    interpreter = install.interpreter(cell["python"], run.args.python)
    folder, mark = work / "environment", work / "environment.json"
    python = folder / "bin" / "python"
    packages = cell["packages"]
    wanted = {p["name"]: install.version_of(run.root, p) for p in packages}
    identity = {"bundle": run.digest, "python": os.path.realpath(interpreter)}
    is_kept = mark.exists() and json.loads(mark.read_text()) == identity
    if not (is_kept and install.same(install.versions([install.site_of(folder)]), wanted)):
        say(f"creating the environment of {cell['cell']}: {len(packages)} packages")
        mark.unlink(missing_ok=True)
        site = install.create(folder, interpreter)
        install.fill(installer, python, packages)
        if not install.same(install.versions([site]), wanted):
            raise InfrastructureError(
                f"the environment of {cell['cell']} is not what its lock says"
            )
        files.write_text(mark, files.dump_json(identity))
    site = install.site_of(folder)
    stub = process_variables.driver_stub(site, processes.run)
    return NodeEnvironment(
        python=python,
        tools=install.tools(installer, python, work),
        variables={
            **process_variables.variables(site, stub),
            EXTENSIONS: str(folder / "cache" / EXTENSIONS.lower()),  # of this torch, and it goes
        },
        wheels=_local_wheels(packages),
        folders=_folders(run, work),
        base=None,
    )


def _over(
    cell: Mapping[str, Any], installer: Installer, work: Path, run: NodeRun
) -> NodeEnvironment:
    """megatron-core and ModelOpt of the cell over what this Python has, which stays as it is."""
    series = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if run.args.python:
        raise UsageError("--python: with --base current it is the Python that runs this")
    if series != cell["python"]:
        raise UsageError(
            f"this Python is {series}, {cell['cell']} is of {cell['python']}; make a bundle of the "
            f"cell with -py{series} in its name"
        )
    paths = install.paths_here(run.root)
    installed, spec = install.versions(paths), importlib.util.find_spec("torch")
    torch = Path(spec.origin).parent if spec and spec.origin else None  # without an import of it
    cuda = toolkits.cuda_of_torch(torch)[0] if torch else None
    plan = overlay.plan(
        cell["packages"],
        overlay.BasePython(installed=installed, cuda=cuda),
        lambda package: install.requires(run.root, package),
        cell["cuda"],
    )
    assert torch is not None  # the plan refuses where there is none
    count = len(plan.install)
    say(f"over torch {installed['torch']} of this Python: {count} packages are installed")
    for line in plan.unmet:
        say(f"  not met: {line}")
    toolkit = toolkits.of_cuda(cuda, processes.run)
    if toolkit:
        say(f"  nvcc of CUDA {toolkit.version}, in {toolkit.home}")
    else:
        say(f"  no nvcc of torch's CUDA, {cuda}: what packages would compile here stays uncompiled")
    folder = work / "environment-base"
    python = folder / "bin" / "python"
    site = install.create(folder, Path(sys.executable))
    packages = [p for p in cell["packages"] if p["name"] in plan.install]
    groups = shared_packages.shared(run.root, packages)
    shared = {p["name"] for group in groups for p in group}
    install.fill(installer, python, [p for p in packages if p["name"] not in shared])
    place = run.into / "work" / "layers"
    layers = [shared_packages.layer(installer, python, group, place) for group in groups]
    install.see(site, [*layers, *paths])
    return NodeEnvironment(
        python=python,
        tools=install.tools(installer, python, work),
        variables=_variables(torch.parent, folder, toolkit, run),
        wheels=_local_wheels(packages),
        folders=(*_folders(run, work), *map(str, paths)),
        base={
            "changed": {p["name"]: p["changed"] for p in packages if p.get("changed")},
            "installed": list(plan.install),
            "toolkit": toolkit.version if toolkit else None,
            "unmet": list(plan.unmet),
            "without": list(cell["without"]),
        },
    )


def _variables(site: Path, folder: Path, toolkit: Toolkit | None, run: NodeRun) -> dict[str, str]:
    """What the cell's processes need, whatever this machine says itself; `site` has its torch."""
    variables = process_variables.variables(
        site, process_variables.driver_stub(site, processes.run)
    )
    path = [str(folder / "bin"), os.environ.get("PATH", "/usr/bin:/bin")]
    # Whether PATH names it or not: there are the commands of its packages, as ninja to compile with
    path.append(str(Path(sys.executable).parent))
    if toolkit:  # of torch's CUDA: what packages compile here is compiled with it
        variables["CUDA_HOME"] = str(toolkit.home)
        path.insert(1, str(toolkit.home / "bin"))
        if (toolkit.home / "include" / "cuda_runtime.h").is_file():
            variables["NVTE_CUDA_INCLUDE_DIR"] = str(toolkit.home / "include")
    elif not (site / "nvidia").is_dir():  # a torch that was built over the machine's own CUDA
        others = toolkits.found(processes.run)
        variables["CUDA_HOME"] = str(others[0].home) if others else str(site)
    variables["PATH"] = ":".join(path)
    # Compiled Python would lie beside its source, in this Python's own packages.
    variables["PYTHONPYCACHEPREFIX"] = str(pycache(run))
    return {**variables, **{name: str(folder / "cache" / name.lower()) for name in CACHES}}


def _local_wheels(packages: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Digest by file name of the locally built wheels that are installed."""
    return {
        name.rpartition("/")[2]: digest
        for package in packages
        if package["local"]
        for name, digest in package["files"].items()
    }


def _folders(run: NodeRun, work: Path) -> tuple[str, ...]:
    """The paths of this machine, which no evidence shows."""
    paths = (run.root, run.into, work, Path.home(), Path(tempfile.gettempdir()))
    return tuple(dict.fromkeys(str(path) for path in paths if len(path.parts) > 1))
