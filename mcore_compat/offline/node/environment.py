"""On the node: makes a cell's environment, from its lock or over existing packages."""

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
"""Parts of the suite that can run alone: folders below `suite/`, and options."""

EXTENSIONS = "TORCH_EXTENSIONS_DIR"

CACHES = (
    "CUDA_CACHE_PATH",
    "TORCHINDUCTOR_CACHE_DIR",
    EXTENSIONS,
    "TRITON_CACHE_DIR",
    "XDG_CACHE_HOME",
)
"""Variables for the folders of compiled files; with `--base current`, in the environment."""


@dataclass(frozen=True, kw_only=True)
class NodeRun:
    """This run: the bundle's folder and digest, the output folder, and the options."""

    root: Path
    digest: str
    into: Path
    args: argparse.Namespace


@dataclass(frozen=True, kw_only=True)
class NodeEnvironment:
    """The environment of the suite; `base` describes existing packages for the result."""

    python: Path
    tools: Path
    variables: Mapping[str, str]
    wheels: Mapping[str, str]
    folders: tuple[str, ...]
    base: Mapping[str, Any] | None


def say(line: str) -> None:
    """Print progress to stderr, so that the verdict can be piped."""
    print(line, file=sys.stderr, flush=True)


@contextmanager
def alone(name: str, run: NodeRun) -> Iterator[None]:
    """Make sure that no other run of the cell, on any machine, uses the same output folder.

    Raises:
        InfrastructureError: there is one, or locks do not work.
    """
    path = run.into / "logs" / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            held = lock(file)
        except OSError as error:
            raise InfrastructureError(
                f"cannot lock a file in {run.into} ({error.strerror}); name a folder on another "
                "file system with --into"
            ) from None
        if not held:
            raise InfrastructureError(
                f"another process already runs {name} in {run.into}; name another folder with "
                "--into"
            )
        yield


def pycache(run: NodeRun) -> Path:
    """The folder for Python's compiled files of a base's sources, for all cells and later runs. It
    is separate for each bundle, because compiled files are identified by the source's time and
    size, which another suite may share."""
    return run.into / "work" / "pycache" / run.digest[:16]


@contextmanager
def prepared(cell: Mapping[str, Any], run: NodeRun) -> Iterator[NodeEnvironment]:
    """A cell's environment, removed at the end unless `--keep` is given.

    Raises:
        CompatError: it cannot be made here.
    """
    over = run.args.base == "current" or any(not p["files"] for p in cell["packages"])
    uv = None if run.args.installer == "pip" else shutil.which("uv")
    if run.args.installer == "uv" and uv is None:
        raise UsageError("--installer uv: uv is not on PATH")
    installer = Installer(root=run.root, uv=Path(uv) if uv else None)
    lasting = nullcontext(run.into / "work" / cell["cell"])
    with temporary.folder() if over and not run.args.keep else lasting as work:
        try:
            work.mkdir(parents=True, exist_ok=True)
            os.environ["MCORE_COMPAT_HOME"] = str(work)  # for the driver's stand-in
            yield (_over if over else _own)(cell, installer, work, run)
        finally:
            if run.args.keep:
                say(f"keeping the environment: {work}")
            else:
                shutil.rmtree(work, ignore_errors=True)
                # Its compiled files: the path is never used again.
                shutil.rmtree(pycache(run) / work.relative_to("/"), ignore_errors=True)


def _own(
    cell: Mapping[str, Any], installer: Installer, work: Path, run: NodeRun
) -> NodeEnvironment:
    """An environment with exactly the lock's packages."""
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
            raise InfrastructureError(f"the environment of {cell['cell']} differs from its lock")
        files.write_text(mark, files.dump_json(identity))
    site = install.site_of(folder)
    stub = process_variables.driver_stub(site, processes.run)
    return NodeEnvironment(
        python=python,
        tools=install.tools(installer, python, work),
        variables={
            **process_variables.variables(site, stub),
            EXTENSIONS: str(folder / "cache" / EXTENSIONS.lower()),  # for this torch
        },
        wheels=_local_wheels(packages),
        folders=_folders(run, work),
        base=None,
    )


def _over(
    cell: Mapping[str, Any], installer: Installer, work: Path, run: NodeRun
) -> NodeEnvironment:
    """megatron-core and ModelOpt of the cell over this Python's packages, which do not change."""
    series = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if run.args.python:
        raise UsageError("--python: --base current always uses the Python that runs run.py")
    if series != cell["python"]:
        raise UsageError(
            f"this Python is {series}, but {cell['cell']} needs {cell['python']}; make a bundle of "
            f"the cell with -py{series} in its name"
        )
    paths = install.paths_here(run.root)
    installed, spec = install.versions(paths), importlib.util.find_spec("torch")
    torch = Path(spec.origin).parent if spec and spec.origin else None  # without importing it
    cuda = toolkits.cuda_of_torch(torch)[0] if torch else None
    plan = overlay.plan(
        cell["packages"],
        overlay.BasePython(installed=installed, cuda=cuda),
        lambda package: install.requires(run.root, package),
        cell["cuda"],
    )
    assert torch is not None  # `overlay.plan` refuses without torch
    count = len(plan.install)
    say(f"installing {count} packages over torch {installed['torch']} of this Python")
    for line in plan.unmet:
        say(f"  not met: {line}")
    toolkit = toolkits.of_cuda(cuda, processes.run)
    if toolkit:
        say(f"  nvcc of CUDA {toolkit.version}, in {toolkit.home}")
    else:
        say(f"  no nvcc of torch's CUDA {cuda}: packages cannot compile kernels here")
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
    """The variables of the cell's processes, whatever this machine sets; `site` has its torch."""
    variables = process_variables.variables(
        site, process_variables.driver_stub(site, processes.run)
    )
    path = [str(folder / "bin"), os.environ.get("PATH", "/usr/bin:/bin")]
    # Always: it has the commands of its packages, such as ninja for compiling.
    path.append(str(Path(sys.executable).parent))
    if toolkit:  # of torch's CUDA: packages compile with it
        variables["CUDA_HOME"] = str(toolkit.home)
        path.insert(1, str(toolkit.home / "bin"))
        if (toolkit.home / "include" / "cuda_runtime.h").is_file():
            variables["NVTE_CUDA_INCLUDE_DIR"] = str(toolkit.home / "include")
    elif not (site / "nvidia").is_dir():  # a torch built with the machine's CUDA
        others = toolkits.found(processes.run)
        variables["CUDA_HOME"] = str(others[0].home) if others else str(site)
    variables["PATH"] = ":".join(path)
    # Otherwise Python would write compiled files into the base's packages.
    variables["PYTHONPYCACHEPREFIX"] = str(pycache(run))
    return {**variables, **{name: str(folder / "cache" / name.lower()) for name in CACHES}}


def _local_wheels(packages: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Digest by file name of the installed wheels that were built locally."""
    return {
        name.rpartition("/")[2]: digest
        for package in packages
        if package["local"]
        for name, digest in package["files"].items()
    }


def _folders(run: NodeRun, work: Path) -> tuple[str, ...]:
    """The paths of this machine, which results must not contain."""
    paths = (run.root, run.into, work, Path.home(), Path(tempfile.gettempdir()))
    return tuple(dict.fromkeys(str(path) for path in paths if len(path.parts) > 1))
