"""Environments that are made of another one's packages by links, with some of them left out or put
in place of others: seconds, and no disk. Nothing in them is run but their Python."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from support import ROOT

from mcore_compat.base import files
from mcore_compat.run import context

SHARED = ("megatron", "nvidia")
"""Folders in which several distributions have a package each."""


WHOLE = "compat-0.16-modelopt0.46"
"""In which nothing fails that works in other cells of its megatron-core."""


def environment_of(cell: str) -> Path:
    """The environment of a real cell, which is made where it is not there."""
    made = files.home() / "envs" / cell
    if not made.is_dir():
        # With an up-to-date result no environment is made; a run of one check makes it, and stores
        # nothing.
        argv = [sys.executable, "-m", "mcore_compat.cli", "run", cell, "--only", "import-packages"]
        subprocess.run(argv, check=False, cwd=ROOT, timeout=3600)
    return made


def site(environment: Path) -> Path:
    """Where an environment's packages lie."""
    return next(environment.glob("lib/python3*/site-packages"))


def linked(
    base: Path,
    folder: Path,
    *,
    without: Sequence[str] = (),
    put: Iterable[Path] = (),
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """An environment of the packages of `base`; the Python of it is returned.

    `without`: distributions that are left out; `put`: folders whose packages take the place of
    those of the same names; `metadata`: distributions of which only that is there, by version.
    """
    python = base / "bin" / "python"
    argv = [python, "-m", "venv", "--without-pip", folder]
    subprocess.run(argv, check=True, timeout=120)
    target = site(folder)
    gone = [entry for name in without for entry in _entries(site(base), name)]
    _link(site(base), target, gone)
    for place in put:
        _link(place, target, [])
    for name, version in (metadata or {}).items():
        info = target / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    return folder / "bin" / "python"


def _link(source: Path, target: Path, gone: Sequence[Path]) -> None:
    for entry in sorted(source.iterdir()):
        shared = [entry] if entry.name not in SHARED else sorted(entry.iterdir())
        for one in shared:
            if one in gone or one.name == "__pycache__":
                continue
            link = target / one.relative_to(source)
            link.parent.mkdir(exist_ok=True)
            if one.name.endswith(".dist-info"):
                name = one.name.partition("-")[0]
                for old in target.glob(f"{name}-*.dist-info"):
                    old.unlink()
            link.unlink(missing_ok=True)
            link.symlink_to(one)


def _entries(place: Path, name: str) -> list[Path]:
    """What a distribution has at the top of a folder, or of one that it shares."""
    info = next(place.glob(f"{name.replace('-', '_')}-*.dist-info"))
    rows = [row.partition(",")[0].split("/") for row in (info / "RECORD").read_text().splitlines()]
    tops = {"/".join(row[: 2 if row[0] in SHARED else 1]) for row in rows if row[0] != ".."}
    return [place / top for top in tops]


def fetched(folder: Path, *pins: str, python: str = "3.12") -> Path:
    """Real packages of the index, without what they require, in a folder of their own."""
    argv = [context.find_uv(), "pip", "install", "-q", "--no-deps", "--only-binary", ":all:"]
    argv += ["--python-version", python, "--target", folder, *pins]
    subprocess.run(argv, check=True, timeout=600)
    return folder


def doctor(python: Path, *options: str, **variables: str) -> tuple[int, str]:
    """What doctor says of an environment, with the variables that its CUDA libraries need."""
    nvidia = site(python.parent.parent) / "nvidia"
    libraries = ":".join(map(str, sorted(nvidia.glob("*/lib"))))
    argv = [sys.executable, "-m", "mcore_compat.cli", "doctor", "--python", str(python), *options]
    env = {**os.environ, "CUDA_HOME": str(nvidia), "LD_LIBRARY_PATH": libraries, **variables}
    done = subprocess.run(argv, capture_output=True, text=True, cwd=ROOT, timeout=120, env=env)
    assert done.returncode < 2, done.stderr
    return done.returncode, done.stdout
