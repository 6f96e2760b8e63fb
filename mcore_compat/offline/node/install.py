"""On the node: installs environments from a bundle's wheels, with uv or the bundle's pip."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
import sysconfig
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version

from mcore_compat.base import files, processes
from mcore_compat.base.errors import InfrastructureError, InterpreterError
from mcore_compat.environments import interpreters
from mcore_compat.environments.build_log import last_line

LIMIT_S = 3600.0

Package = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Installer:
    """Installs from the wheels of the bundle in `root`; `uv`: None to use the bundle's pip."""

    root: Path
    uv: Path | None

    def install(
        self,
        requirements: Path,
        links: Iterable[Path],
        *,
        python: Path,
        target: Path | None = None,
    ) -> None:
        """Install exactly the pins in `requirements`, with hashes checked, never from a network.

        Raises:
            InfrastructureError: the installation failed; has the last line of the output.
        """
        argv: list[str | Path] = ["--no-index", "--no-deps", "--require-hashes", "--quiet"]
        for folder in links:
            argv += ["--find-links", folder]
        argv += ["-r", requirements, *(("--target", target) if target else ())]
        cache = requirements.with_suffix(".cache")
        if self.uv:
            first: list[str | Path] = [self.uv, "pip", "install", "--no-config", "--offline"]
            first += ["-p", python, "--cache-dir", cache, "--link-mode", "hardlink"]
        else:
            first = [python, _tool_wheel(self.root, "pip") / "pip", "install", "--no-compile"]
            first += ["--no-cache-dir", "--disable-pip-version-check", "--root-user-action=ignore"]
        try:
            completed = processes.run([*first, *argv], timeout=LIMIT_S, env=_variables())
        finally:
            shutil.rmtree(cache, ignore_errors=True)
        if not completed.ok:
            raise InfrastructureError(f"installing failed: {last_line(completed)}")


def _variables() -> dict[str, str]:
    """The environment variables without settings of pip, uv and Python."""
    own = {n: v for n, v in os.environ.items() if not n.startswith(("PIP_", "UV_", "PYTHON"))}
    return {**own, "PIP_CONFIG_FILE": os.devnull}


def _tool_wheel(root: Path, name: str) -> Path:
    """The bundle's newest wheel of a tool; cells may have others."""
    wheels = root.glob(f"wheels/{name}-*-none-any.whl")
    return max(wheels, key=lambda path: parse_wheel_filename(path.name)[1])


def interpreter(series: str, named: str | None) -> Path:
    """A Python of a series: the named one, else this one, else one that is found.

    Raises:
        InterpreterError: there is none.
    """
    uv = shutil.which("uv")
    candidates = interpreters.candidates(series, processes.run, Path(uv) if uv else None)
    for path in (Path(named),) if named else (Path(sys.executable), *candidates):
        if interpreters.is_of(series, path, processes.run):
            return path
    where = named or "this Python, pyenv, PATH and what uv knows"
    raise InterpreterError(f"python {series} was not found ({where}); name one with --python")


def create(folder: Path, python: Path) -> Path:
    """Make an empty environment; returns its site-packages.

    Raises:
        InfrastructureError: it could not be made.
    """
    shutil.rmtree(folder, ignore_errors=True)
    argv: list[str | Path] = [python, "-I", "-m", "venv", "--without-pip", folder]
    completed = processes.run(argv, timeout=300)
    if not completed.ok:
        raise InfrastructureError(f"the environment could not be made: {last_line(completed)}")
    return site_of(folder)


def site_of(folder: Path) -> Path:
    return next((folder / "lib").glob("python3*/site-packages"))


def fill(
    installer: Installer, python: Path, packages: Sequence[Package], target: Path | None = None
) -> None:
    """Install packages of a cell into the environment of `python`, or into the folder `target`.

    Raises:
        InfrastructureError: the installation failed, or the disk is too small.
    """
    if not packages:
        return
    root = installer.root
    wheels = [root / name for p in packages for name in p["files"]]
    folder = target or python.parents[1]
    _refuse_small_disk(folder, wheels)
    requirements = folder.with_name(f"{folder.name}.txt")
    lines = []
    for package in packages:
        hashes = " ".join(f"--hash=sha256:{digest}" for digest in package["files"].values())
        lines.append(f"{package['name']}=={version_of(root, package)} {hashes}\n")
    files.write_text(requirements, lines, durable=False)
    links = sorted({wheel.parent for wheel in wheels})
    installer.install(requirements, links, python=python, target=target)
    requirements.unlink()


def version_of(root: Path, package: Package) -> str:
    """The version in its wheel: a local build may add a suffix to the lock's version."""
    return metadata(root, package)["Version"] if package["local"] else str(package["version"])


def _refuse_small_disk(folder: Path, wheels: Iterable[Path]) -> None:
    need = 0
    for path in wheels:
        with zipfile.ZipFile(path) as wheel:
            need += sum(member.file_size for member in wheel.infolist())
    free = shutil.disk_usage(folder).free
    if need * 1.05 > free:
        raise InfrastructureError(
            f"{folder.parent} has {free / 1e9:.1f} GB free, the environment needs "
            f"{need / 1e9:.1f} GB; name another folder with --into"
        )


def tools(installer: Installer, python: Path, work: Path) -> Path:
    """Install the suite's tools (pytest); returns their folder.

    Raises:
        InfrastructureError: the installation failed.
    """
    folder = work / "tools"
    shutil.rmtree(folder, ignore_errors=True)
    pinned = work / "tools.txt"
    shutil.copyfile(installer.root / "constraints" / "suite-tools.txt", pinned)
    installer.install(pinned, [installer.root / "wheels"], python=python, target=folder)
    return folder


def metadata(root: Path, package: Package) -> Message[str, str]:
    """The metadata of a package in the bundle."""
    with zipfile.ZipFile(root / next(iter(package["files"]))) as wheel:
        name = next(n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
        return HeaderParser().parsestr(wheel.read(name).decode("utf-8"))


def requires(root: Path, package: Package) -> list[str]:
    """The Requires-Dist entries of a package in the bundle."""
    return list(metadata(root, package).get_all("Requires-Dist") or ()) if package["files"] else []


def same(installed: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Whether an environment has exactly these versions, in any spelling."""
    spelt = {canonicalize_name(name): version for name, version in wanted.items()}
    return installed.keys() == spelt.keys() and all(
        Version(installed[name]) == Version(version) for name, version in spelt.items()
    )


def versions(paths: Iterable[str | Path]) -> dict[str, str]:
    """Version by name of the distributions on `paths`; the first of a name is imported."""
    installed: dict[str, str] = {}
    for distribution in importlib.metadata.distributions(path=[str(p) for p in paths]):
        name = distribution.metadata["Name"]
        if name:
            installed.setdefault(canonicalize_name(name), distribution.version)
    return installed


def paths_here(root: Path) -> tuple[Path, ...]:
    """The folders of this Python's packages, in import order, without its standard library, the
    bundle, and folders of sources without metadata."""
    own = {Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")}
    own = {path.resolve() for path in (*own, *(path / "lib-dynload" for path in own), root)}
    paths = dict.fromkeys(Path(text).resolve() for text in sys.path if text)
    return tuple(path for path in paths if path not in own and any(path.glob("*.dist-info")))


def see(site: Path, paths: Sequence[Path]) -> None:
    """Add `paths` to an environment after its own packages, with the entries of their `.pth` files.
    Writes nothing to `paths`."""
    lines = [f"import site; site.addsitedir({str(path)!r})\n" for path in paths]
    files.write_text(site / "_base.pth", lines, durable=False)
