"""Stand-ins for a build, shared by the tests of the wheelhouse. Nothing is compiled."""

import io
import os
import tarfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support import stand_in_cell

from mcore_compat.base import files
from mcore_compat.base.processes import Completed
from mcore_compat.core.cells import Cell
from mcore_compat.environments import process_variables, toolkits, wheelhouse
from mcore_compat.environments.wheelhouse import Job, Unbuildable, Wheel
from mcore_compat.index import package_index
from mcore_compat.resolve.locks import Lock, Pin

TORCH = Pin(name="torch", version="2.9.1", hashes=("ab" * 32,))
CONV = Pin(name="causal-conv1d", version="1.5.0", hashes=("c0" * 32,))
MAMBA = Pin(name="mamba-ssm", version="2.2.4", hashes=("3a" * 32,))
TE = Pin(name="transformer-engine-torch", version="2.3.0", hashes=("7e" * 32,))

LOCK = Lock(
    cell="compat-0.16-modelopt0.41",
    text="a stand-in",
    exclude_newer="2026-01-01",
    axes={},
    pins=(TORCH,),
    source_only=(CONV, MAMBA),
)

PYTHON = ("causal_conv1d/__init__.py", "mamba_ssm/__init__.py")
"""What is taken of sources where nothing is compiled."""

COMPILE_ERROR = "csrc/conv.cpp:7:10: fatal error: cuda_fp16.h: No such file or directory"


def step_of(words: Sequence[str]) -> str:
    """Which of a build's processes a command line is."""
    if words[1] == "venv":
        return "venv"
    if words[1] == "-c":
        return "import"
    if list(words[1:4]) == ["-m", "pip", "wheel"]:
        return "build"
    assert list(words[1:3]) == ["pip", "install"], words
    return "try" if words[-1].endswith(".whl") else "prepare"


@dataclass
class StandIn:
    """Stands in for every process of a build.

    `ends` says how a step ends, by default well; a step that ends badly has done its work all
    the same, as one that is killed late has. `builds` is a folder that gets a file per build.
    """

    builds: Path
    ends: dict[str, Completed] = field(default_factory=dict)
    slow: float = 0.0
    steps: list[str] = field(default_factory=list)
    seen: dict[str, tuple[tuple[str, ...], Mapping[str, str], float]] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)

    def __call__(self, argv: Sequence[str | os.PathLike[str]], **options: Any) -> Completed:
        words = tuple(os.fspath(a) for a in argv)
        step = step_of(words)
        self.steps.append(step)
        env = options.get("env") or {}
        self.seen[step] = (words, env, options["timeout"])
        if step == "venv":
            (Path(words[-1]) / "lib" / "python3.12" / "site-packages").mkdir(parents=True)
        elif step == "build":
            self._build(words, env)
        elif "-r" in words:
            self.texts["requirements"] = Path(words[words.index("-r") + 1]).read_text()
        return self.ends.get(step, ended())

    def _build(self, words: Sequence[str], env: Mapping[str, str]) -> None:
        nvcc = Path(env["CUDA_HOME"]) / "bin" / "nvcc"
        self.texts["nvcc"] = nvcc.read_text() if nvcc.exists() else ""
        headers = sorted((nvcc.parent.parent / "include").glob("*"))
        self.texts["headers"] = " ".join(path.name for path in headers)
        number = len(list(self.builds.iterdir()))
        (self.builds / f"{os.getpid()}-{number}").touch()
        time.sleep(self.slow)
        out = Path(words[words.index("-w") + 1])
        out.mkdir()
        name = Path(words[-1]).name.removesuffix(".tar.gz")
        (out / f"{name}-cp312-cp312-linux_x86_64.whl").write_text(f"a stand-in for {name}")

    @property
    def count(self) -> int:
        return len(list(self.builds.iterdir()))


def ended(output: str = "", returncode: int = 0, *, timed_out: bool = False) -> Completed:
    """How a process of a stand-in ends."""
    return Completed(
        argv=(), returncode=returncode, output=output, seconds=0.0, timed_out=timed_out
    )


def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wheelhouse of the test's own, on a machine with neither a driver nor a toolkit."""
    monkeypatch.setenv("MCORE_COMPAT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("NVTE_CUDA_ARCHS", raising=False)
    monkeypatch.setattr(process_variables, "has_driver", lambda: False)
    monkeypatch.setattr(toolkits, "found", lambda run: ())
    sources(monkeypatch, "setup.py", "csrc/conv.cpp", *PYTHON)


def sources(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """A stand-in for the index: every source distribution holds empty files of these names."""

    def download(package: str, version: str, hashes: Sequence[str], folder: Path) -> Path:
        stem = f"{package.replace('-', '_')}-{version}"
        path = folder / f"{stem}.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            for name in names:
                archive.addfile(tarfile.TarInfo(f"{stem}/{name}"), io.BytesIO())
        return path

    monkeypatch.setattr(package_index, "download_sdist", download)


def stand_in(tmp_path: Path) -> StandIn:
    folder = tmp_path / "builds"
    folder.mkdir()
    return StandIn(folder)


def job_of(tools: StandIn, cell: Cell | None = None, cuda: str = "12.8") -> Job:
    return Job(
        cell=cell or stand_in_cell(),
        lock=LOCK,
        cuda=cuda,
        python=Path("python3.12"),
        uv=Path("uv"),
        run=tools,
        say=lambda text: None,
    )


def built(tools: StandIn, pin: Pin = TE, cell: Cell | None = None) -> Wheel:
    made = wheelhouse.ensure(pin, job_of(tools, cell))
    assert isinstance(made, Wheel), made
    return made


def refused(tools: StandIn, pin: Pin = TE) -> Unbuildable:
    made = wheelhouse.ensure(pin, job_of(tools))
    assert isinstance(made, Unbuildable), made
    return made


def left_behind() -> list[str]:
    """What the wheelhouse has besides logs, locks and notes of failures, and what builds left."""
    home = files.home()
    kept = (".lock", "build.log", "failed.json")
    found = [p for p in (home / "wheelhouse").glob("*/*") if p.name not in kept]
    return sorted(p.name for p in (*found, *(home / "build").glob("*")))
