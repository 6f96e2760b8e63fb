"""On the other machine: a cell's environment, as its lock says or over what is there."""

from __future__ import annotations

import argparse
import fcntl
import importlib.util
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcore_compat.base import files, processes
from mcore_compat.base.errors import InfrastructureError, UsageError
from mcore_compat.environments import process_variables, toolkits
from mcore_compat.environments.toolkits import Toolkit

PARTS = ("ranks", "gpu")
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
def alone(name: str, here: NodeRun) -> Iterator[None]:
    """No other run of the cell leaves things in the same place, on whatever machine.

    Raises:
        InfrastructureError: there is one, or that cannot be told.
    """
    path = here.into / "logs" / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InfrastructureError(
                f"{name} is being run by another process in {here.into}; name another place with "
                "--into"
            ) from None
        except OSError as error:
            raise InfrastructureError(
                f"no lock can be taken in {here.into} ({error.strerror}); name a place on another "
                "file system with --into"
            ) from None
        yield


def pycache(here: NodeRun) -> Path:
    """Where Python keeps what it compiles of a base's sources, for all cells and later runs; of one
    bundle alone, for what was compiled is known by its source's time and size, and archives may
    give another suite the same."""
    return here.into / "work" / "pycache" / here.digest[:16]


@contextmanager
def made(said: Mapping[str, Any], here: NodeRun) -> Iterator[NodeEnvironment]:
    """A cell's environment, removed at the end unless it is to be kept.

    Raises:
        CompatError: it cannot be made here.
    """
    from mcore_compat.offline.node import install

    paths = install.paths_here(here.root)
    over = here.args.base == "current" or any(not p["files"] for p in said["packages"])
    uv = None if here.args.installer == "pip" else shutil.which("uv")
    if here.args.installer == "uv" and uv is None:
        raise UsageError("--installer uv: it is not on PATH")
    installer = install.Installer(root=here.root, uv=Path(uv) if uv else None)
    temporary = over and not here.args.keep
    mine = here.into / "work" / said["cell"]
    work = Path(tempfile.mkdtemp(prefix="mcore-compat-")) if temporary else mine
    try:
        work.mkdir(parents=True, exist_ok=True)
        os.environ["MCORE_COMPAT_HOME"] = str(work)  # where the driver's stand-in is put
        found: NodeEnvironment = (_over if over else _own)(said, installer, work, paths, here)
        yield found
    finally:
        if here.args.keep:
            say(f"the environment stays: {work}")
        else:
            shutil.rmtree(work, ignore_errors=True)
            # What was compiled of it: its place is never used again.
            shutil.rmtree(pycache(here) / work.relative_to("/"), ignore_errors=True)


def _own(
    said: Mapping[str, Any], installer: Any, work: Path, paths: Sequence[Path], here: NodeRun
) -> NodeEnvironment:
    """The environment that the lock says, no more and no less."""
    from mcore_compat.offline.node import install

    python = install.interpreter(said["python"], here.args.python)
    folder, mark = work / "environment", work / "environment.json"
    packages = said["packages"]
    wanted = {p["name"]: install.version_of(here.root, p) for p in packages}
    identity = {"bundle": here.digest, "python": os.path.realpath(python)}
    kept = mark.exists() and json.loads(mark.read_text()) == identity
    if not (kept and install.same(install.versions([install.site_of(folder)]), wanted)):
        say(f"creating the environment of {said['cell']}: {len(packages)} packages")
        mark.unlink(missing_ok=True)
        site = install.create(folder, python)
        install.fill(installer, folder / "bin" / "python", packages)
        if not install.same(install.versions([site]), wanted):
            raise InfrastructureError(
                f"the environment of {said['cell']} is not what its lock says"
            )
        files.write_text(mark, files.dump_json(identity))
    site = install.site_of(folder)
    stub = process_variables.driver_stub(site, processes.run)
    return NodeEnvironment(
        python=folder / "bin" / "python",
        tools=install.tools(installer, folder / "bin" / "python", work),
        variables={
            **process_variables.variables(site, stub),
            EXTENSIONS: str(folder / "cache" / EXTENSIONS.lower()),  # of this torch, and it goes
        },
        wheels=_wheels(packages),
        folders=_folders(here, work),
        base=None,
    )


def _over(
    said: Mapping[str, Any], installer: Any, work: Path, paths: Sequence[Path], here: NodeRun
) -> NodeEnvironment:
    """megatron-core and ModelOpt of the cell over what this Python has, which stays as it is."""
    from mcore_compat.offline.node import install, overlay, shared_packages

    series = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if here.args.python:
        raise UsageError("--python: with --base current it is the Python that runs this")
    if series != said["python"]:
        raise UsageError(
            f"this Python is {series}, {said['cell']} is of {said['python']}; make a bundle of the "
            f"cell with -py{series} in its name"
        )
    packages = said["packages"]
    there, cuda = install.versions(paths), cuda_of(_torch())
    plan = overlay.plan(
        packages,
        overlay.BasePython(installed=there, cuda=cuda),
        lambda package: install.requires(here.root, package),
        said["cuda"],
    )
    say(f"over torch {there['torch']} of this Python: {len(plan.install)} packages are installed")
    for line in plan.unmet:
        say(f"  not met: {line}")
    toolkit = _toolkit(cuda)
    folder = work / "environment-base"
    python = folder / "bin" / "python"
    site = install.create(folder, Path(sys.executable))
    mine = [p for p in packages if p["name"] in plan.install]
    apart = shared_packages.shared(here.root, mine)
    names = {p["name"] for packages in apart for p in packages}
    install.fill(installer, python, [p for p in mine if p["name"] not in names])
    place = here.into / "work" / "layers"
    above = [shared_packages.layer(installer, python, packages, place) for packages in apart]
    install.over(site, [*above, *paths])
    return NodeEnvironment(
        python=python,
        tools=install.tools(installer, python, work),
        variables=_variables(
            folder,
            work,
            toolkit,
            pycache=pycache(here),
            temporary=not here.args.keep,
        ),
        wheels=_wheels(mine),
        folders=(*_folders(here, work), *map(str, paths)),
        base={
            "changed": {p["name"]: p["changed"] for p in mine if p.get("changed")},
            "installed": list(plan.install),
            "toolkit": toolkit.version if toolkit else None,
            "unmet": list(plan.unmet),
            "without": list(said["without"]),
        },
    )


def _toolkit(cuda: str | None) -> Toolkit | None:
    """The toolkit that packages may compile with here, None where there is none; says so."""
    found = toolkits.of_cuda(cuda, processes.run)
    if found:
        say(f"  nvcc of CUDA {found.version}, in {found.home}")
    else:
        say(f"  no nvcc of torch's CUDA, {cuda}: what packages would compile here stays uncompiled")
    return found


def _torch() -> Path | None:
    """The folder of this Python's torch; it is not imported."""
    spec = importlib.util.find_spec("torch")
    return Path(spec.origin).parent if spec and spec.origin else None


def cuda_of(torch: Path | None) -> str | None:
    """The CUDA that a torch was built for, as its `version.py` says."""
    path = torch / "version.py" if torch else None
    if path is None or not path.is_file():
        return None
    match = re.search(r"^cuda\b[^=\n]*=\s*['\"]([\d.]+)['\"]", path.read_text(), re.MULTILINE)
    return match[1] if match else None


def _variables(
    folder: Path, work: Path, toolkit: Toolkit | None, *, pycache: Path, temporary: bool
) -> dict[str, str]:
    """What the cell's processes need, whatever this machine says itself."""
    torch = _torch()
    assert torch is not None  # the plan refuses where there is none
    site = torch.parent
    found = process_variables.variables(site, process_variables.driver_stub(site, processes.run))
    path = [str(folder / "bin"), os.environ.get("PATH", "/usr/bin:/bin")]
    # Whether PATH names it or not: there are the commands of its packages, as ninja to compile with
    path.append(str(Path(sys.executable).parent))
    if toolkit:  # of torch's CUDA: what packages compile here is compiled with it
        found["CUDA_HOME"] = str(toolkit.home)
        path.insert(1, str(toolkit.home / "bin"))
        if (toolkit.home / "include" / "cuda_runtime.h").is_file():
            found["NVTE_CUDA_INCLUDE_DIR"] = str(toolkit.home / "include")
    elif not (site / "nvidia").is_dir():  # a torch that was built over the machine's own CUDA
        others = toolkits.found(processes.run)
        found["CUDA_HOME"] = str(others[0].home) if others else str(site)
    found["PATH"] = ":".join(path)
    # Compiled Python would lie beside its source, in this Python's own packages.
    found["PYTHONPYCACHEPREFIX"] = str(pycache)
    if temporary:  # processes that are killed leave folders there; a socket's path must be short
        (work / "tmp").mkdir()
        found["TMPDIR"] = str(work / "tmp")
    found.update({name: str(folder / "cache" / name.lower()) for name in CACHES})
    return found


def _wheels(packages: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Digest by file name of the locally built wheels that are installed."""
    local = [p["files"] for p in packages if p["local"]]
    return {name.rpartition("/")[2]: digest for one in local for name, digest in one.items()}


def _folders(here: NodeRun, work: Path) -> tuple[str, ...]:
    """The paths of this machine, which no evidence shows."""
    named = (here.root, here.into, work, Path.home(), Path(tempfile.gettempdir()))
    return tuple(dict.fromkeys(str(path) for path in named if len(path.parts) > 1))
