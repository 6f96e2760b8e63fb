"""A toy project and how the program is run on it: as a user does, as a process."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from minimatrix import index, packages

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
PYTHON = "{}.{}".format(*sys.version_info)

LIMIT_S = 120.0
"""Of any one command: nothing here takes a tenth of it where all is well."""


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str
    seconds: float


@dataclass(frozen=True)
class Project:
    """A folder with toy constraints and a toy suite, and a home of its own for what is built."""

    folder: Path
    home: Path
    url: str
    program: tuple[str, ...] = field(default=(sys.executable, "-m", "mcore_compat.cli"))

    @property
    def variables(self) -> Mapping[str, str]:
        """The program's environment: nothing of the user's index, proxy, caches or GPU."""
        dropped = ("UV_", "PIP_", "MCORE_COMPAT_", "NOX", "PYTHONPATH", "PYTEST", "COV_")
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(dropped) and not name.lower().endswith("_proxy")
        }
        return {
            **kept,
            "CUDA_VISIBLE_DEVICES": "",
            "MCORE_COMPAT_HOME": str(self.home),
            "PIP_INDEX_URL": self.url,
            "PYTHONPATH": str(REPOSITORY),
            "UV_CACHE_DIR": str(self.home / "uv"),
            "UV_DEFAULT_INDEX": self.url,
        }

    def start(self, *words: str, **variables: str) -> subprocess.Popen[str]:
        """A command as a process group of its own."""
        return subprocess.Popen(
            [*self.program, *words],
            cwd=self.folder,
            env={**self.variables, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )

    def run(self, *words: str, **variables: str) -> Ended:
        """A command to its end."""
        return end(self.start(*words, **variables))

    def together(
        self, commands: Mapping[str, Sequence[str]], **variables: Mapping[str, str]
    ) -> dict[str, Ended]:
        """Commands that do not bear on one another, all at once, each to its end. `variables`: of
        one of them, by its name."""
        started = {
            name: self.start(*words, **variables.get(name, {})) for name, words in commands.items()
        }
        return {name: end(process) for name, process in started.items()}

    def processes(self) -> set[int]:
        """The processes that work for this project, by what they were started with."""
        mark = f"MCORE_COMPAT_HOME={self.home}".encode()
        found = set()
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):  # it ended, or is another user's
                if mark in path.read_bytes().split(b"\0"):
                    found.add(int(path.parent.name))
        return found


def end(process: subprocess.Popen[str]) -> Ended:
    """How a process ends, which is killed with its group where it takes too long."""
    started = time.monotonic()
    try:
        out, err = process.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
    return Ended(process.returncode, out, err, time.monotonic() - started)


def make(folder: Path, url: str) -> Project:
    """A toy project in an empty folder: a workspace, with a suite of its own."""
    place = folder / "project"
    shutil.copytree(HERE / "suite", place / "suite", ignore=shutil.ignore_patterns("__pycache__"))
    constraints = place / "constraints"
    constraints.mkdir()
    declared = (HERE / "matrix.toml").read_text().replace("PYTHON", PYTHON)
    (constraints / "matrix.toml").write_text(declared)
    (constraints / "suite-tools.txt").write_text(_tools())
    return Project(folder=place, home=folder / "home", url=url)


def _tools() -> str:
    (tool,) = (toy for toy in packages.RELEASES if toy.name == "pytest")
    return f"pytest=={tool.version} --hash=sha256:{index.sha256(tool)}\n"


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[tuple[Project, index.Index]]:
    """A toy project and its index, which is served meanwhile."""
    with index.served(index.Index(packages.RELEASES)) as toys:
        yield make(folder, toys.url), toys


def wait_until(holds: Callable[[], object], limit: float = 30.0) -> bool:
    """Whether a question, asked again and again, is answered by yes before `limit` seconds."""
    deadline = time.monotonic() + limit
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
