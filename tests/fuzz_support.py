"""What both fuzzes share: a small workspace with something of everything, a command that is run in
it with all that is outside of it cut off, and what must hold however it ends."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import pytest
import snapshot
from support import event, stand_in_result

from mcore_compat import cli
from mcore_compat.base import files, processes
from mcore_compat.base.errors import InfrastructureError
from mcore_compat.core import combinations, matrix, releases, workspace
from mcore_compat.core.releases import Releases
from mcore_compat.core.workspace import VARIABLE, Workspace
from mcore_compat.environments import toolkits
from mcore_compat.index import package_index
from mcore_compat.results import store
from mcore_compat.run import machine

CELLS = ("compat-0.14-modelopt0.39", "compat-0.14-modelopt0.41", "compat-0.16-modelopt0.41")
"""Those with a lock and a result."""

SERIES = {
    "megatron-core": ("0.14", "0.16"),
    "nvidia-modelopt": ("0.39", "0.41"),
    "transformer-engine": ("2.7", "2.11"),
    "torch": ("2.8", "2.9"),
}

MATRIX = """\
schema = 1

[axes]
megatron-core = ["0.14", "0.16"]
nvidia-modelopt = ["0.39", "0.41"]
transformer-engine = ["2.7", "2.11"]
torch = ["2.8", "2.9"]

[[stack]]
for = ["0.14"]
python = "3.12"
torch = "2.8.0"
transformer-engine = "2.7.0"
note = "the oldest"

[[stack]]
for = ["0.16"]
python = "3.12"
torch = "2.9.1"
transformer-engine = "2.11.0"
note = "the newest"

[[cuda]]
torch = ">=2.14.1"
version = "13.0"

[[source-only]]
package = "transformer-engine-torch"
when = ">=2.5"
requires = ["torch", "einops"]

[[source-only]]
package = "mamba-ssm"
when = ">=2.2"
requires = ["torch"]

[[source-only]]
package = "causal-conv1d"
when = ">=1.4"
requires = ["torch"]

[[undeclared]]
of = "megatron-core"
when = ">=0.13"
requires = ["psutil"]
imported-by = "megatron.core"
reason = "not declared"

[cells]
extra = ["compat-0.16-modelopt0.41-te2.7"]

[exchange]
state-over = "0.14"

[gpu]
memory-mib = 8192

[[expect]]
megatron-core = ">=0.16"
nvidia-modelopt = ">=0.21"
check = ["restore[mla]"]
reason = "a stand-in"
owner = "megatron-core"
upstream = "not reported"
expires = "2999-01-01"
"""

LIMIT_S = 30
"""Of one command: nothing here takes a tenth of it."""

BY_CELL = ("exchange", "matrix", "nightly")
"""Commands over many cells, which say of each why it came to nothing."""

LONGEST = 400
"""Characters of an error."""


def workspace_in(root: Path) -> Workspace:
    """A workspace with a matrix, facts, locks, results and all that is published of them."""
    place = Workspace(root)
    place.locks.mkdir(parents=True)
    place.matrix.write_text(MATRIX)
    place.releases.write_text(releases.dumps(_few(snapshot.releases())))
    known, declared = releases.load(place.releases), matrix.load(place.matrix)
    for name in CELLS:
        shutil.copy(snapshot.WORKSPACE.lock(name), place.lock(name))
        outcome = "broken" if "0.16" in name else "works"
        result = stand_in_result(
            event("import"),
            event("restore[gpt]"),
            event("restore[mla]", outcome),
            event("modelopt-state-int4[gpt]", "works-with"),
            cell=combinations.named(name, declared, known),
        )
        lock = files.sha256_file(place.lock(name))
        store.save(replace(result, lock=lock), place.results)
    return place


def published_in(root: Path) -> Workspace:
    """The same, with what is published of it; without the site, which no command reads."""
    place = workspace_in(root)
    with fresh(root) as (copy, folder):
        ended = run(["report"], copy, folder)
        assert ended.code == 0, ended
        shutil.rmtree(copy / "reports" / "site")
        shutil.copytree(copy / "reports", place.reports, dirs_exist_ok=True)
    return place


def _few(known: Releases) -> Releases:
    """The releases of `SERIES`, and of what else there is the newest few."""
    return Releases(
        {
            package: tuple(r for r in rows if _is_of(package, r.version)) or rows[-2:]
            for package, rows in known.by_package.items()
        }
    )


def _is_of(package: str, version: str) -> bool:
    name = "transformer-engine" if package.startswith("transformer-engine") else package
    return version.startswith(tuple(f"{series}." for series in SERIES.get(name, ())))


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a command ended; `reached`: what of the world outside it asked for."""

    argv: tuple[str, ...]
    code: int
    out: str
    err: str
    reached: tuple[str, ...]
    wrote: bool


class CutOffError(InfrastructureError):
    """Something outside of the workspace was asked for."""


class Hung(BaseException):
    """A command took too long. No `Exception`: nothing may take it for a failure of its own."""


@contextlib.contextmanager
def cut_off(folder: Path) -> Iterator[list[str]]:
    """No process is started, and no network is asked; what was asked for comes into the list.
    What a command would put into a home goes below `folder`."""
    reached: list[str] = []

    def process(argv: Sequence[str | os.PathLike[str]], **_: Any) -> NoReturn:
        reached.append(f"process {Path(os.fspath(argv[0])).name}")
        raise CutOffError("no process is started here")

    def network(*_: Any, **__: Any) -> NoReturn:
        reached.append("network")
        raise CutOffError("no network is asked here")

    def popen(argv: Sequence[str], *_: Any, **__: Any) -> NoReturn:
        return process(argv)  # of submitit, which starts its own

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "run", process)
        patch.setattr(subprocess, "Popen", popen)
        patch.setattr(package_index, "client", network)
        patch.setattr(socket, "create_connection", network)
        patch.setattr(toolkits, "found", lambda run: ())
        patch.setattr(machine, "device_class", lambda: "host")
        patch.setattr(workspace, "CARRIED", ("constraints",))  # results are megabytes
        patch.setenv("MCORE_COMPAT_HOME", str(folder / "space" / "home"))
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setenv("HOME", str(folder))
        yield reached


def run(argv: Sequence[str], root: Path, folder: Path) -> Ended:
    """One command on a workspace, `folder` being the working directory and all its world."""

    def hung(_: int, frame: FrameType | None) -> NoReturn:
        raise Hung(list(argv))

    out, err = _stream(), _stream()
    before = contents(folder)
    here = Path.cwd()
    earlier = signal.signal(signal.SIGALRM, hung)
    ended_before = signal.getsignal(signal.SIGTERM)
    with cut_off(folder) as reached, pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, str(root))
        try:
            os.chdir(folder)
            signal.alarm(LIMIT_S)
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                try:
                    code = cli.main(list(argv))
                except SystemExit as asked:  # --help
                    code = asked.code if isinstance(asked.code, int) else 99
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, earlier)
            signal.signal(signal.SIGTERM, ended_before)
            os.chdir(here)
    return Ended(
        argv=tuple(argv),
        code=code,
        out=_text(out),
        err=_text(err),
        reached=tuple(reached),
        wrote=contents(folder) != before,
    )


def _stream() -> io.TextIOWrapper:
    """A standard stream as a process has it, which cannot take every text."""
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)


def _text(stream: io.TextIOWrapper) -> str:
    assert isinstance(stream.buffer, io.BytesIO)
    return stream.buffer.getvalue().decode()


def contents(folder: Path) -> dict[str, tuple[int, int]]:
    """What lies below a folder, by size and time."""
    return {
        str(path): (status.st_size, status.st_mtime_ns)
        for path in folder.rglob("*")
        if (status := path.lstat())
    }


def check(ended: Ended) -> None:
    """What holds of every command, however bad its input was: an exit code of ours, bad input and
    a failure of the surroundings said in one line, and nothing done is not called a success."""
    told = f"{ended}"
    assert ended.code in (0, 1, 2, 3, 130), told
    assert "Traceback" not in ended.err + ended.out, told
    if ended.code in (2, 3) and not (ended.code == 3 and ended.argv[0] in BY_CELL):
        errors = [line for line in ended.err.split("\n") if line.startswith("mcore-compat: ")]
        last = ended.err.rstrip("\n").rpartition("\n")[2]
        assert [last] == errors[-1:], told
        assert (
            len(errors) == 1 or "mcore-compat: skipped: " in ended.err or ended.argv[0] == "report"
        ), told
        assert len(last) <= LONGEST, told
        assert len(last) > len("mcore-compat: ") + 8, told
        assert last.isprintable(), told
    if ended.code == 0 and "--check" not in ended.argv:  # what is as it should be is not said
        assert (ended.out + ended.err).strip() or ended.wrote, told


@contextlib.contextmanager
def fresh(pristine: Path) -> Iterator[tuple[Path, Path]]:
    """A copy of a workspace, and the folder that is its whole world."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        root = folder / "space"
        shutil.copytree(pristine, root, symlinks=True)
        (folder / "file").write_text("text\n")
        (folder / "empty").write_text("")
        (folder / "folder").mkdir()
        (folder / "link").symlink_to("nowhere")
        os.mkfifo(folder / "fifo")
        yield root, folder


def read_json(path: Path) -> Any:
    """A file's data."""
    return json.loads(path.read_text(encoding="utf-8"))
