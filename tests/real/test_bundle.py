"""A real cell, carried: without a network it comes to what it came to here. Slow, gigabytes;
selected by `nox -s real`. Uses the wheelhouse that `nox -s CELL` filled, and stores no result.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bundle_support import OFFLINE, offline
from support import ROOT

from mcore_compat.base import files, processes
from mcore_compat.core.workspace import Workspace
from mcore_compat.environments import interpreters
from mcore_compat.offline import collection
from mcore_compat.offline.node.run_script import TOP
from mcore_compat.results import store
from mcore_compat.results.result import Result, result_path
from mcore_compat.run import context

WORKSPACE = Workspace(ROOT)
CELL = "compat-0.16-modelopt0.41"
BASE = "compat-0.16-modelopt0.40"
"""Whose environment stands in for a container: it has the torch and TE of the cell."""

NEEDED = 25e9
"""Bytes: parts, what is unpacked of them, the environment, and some air."""

pytestmark = pytest.mark.real


@pytest.fixture
def space(tmp_path: Path) -> Iterator[Path]:
    """A folder that is emptied at the end, and this tool's home in it, with the real wheelhouse."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "wheelhouse").symlink_to(files.home() / "wheelhouse")
    yield tmp_path
    shutil.rmtree(tmp_path)


def made(space: Path, *words: str) -> Path:
    """The folder of a bundle of the cell."""
    target = space / "carried" / "cell.tar"
    argv = [sys.executable, "-m", "mcore_compat.cli", "bundle", CELL, "--output", str(target)]
    variables = {**os.environ, "MCORE_COMPAT_HOME": str(space / "home")}
    subprocess.run([*argv, *words], env=variables, cwd=ROOT, check=True, timeout=3600)
    shutil.rmtree(space / "home" / "downloads")
    return target.parent


def run(folder: Path, *words: str, python: str | Path = sys.executable) -> Any:
    """`run.py` there, in a network namespace without an interface."""
    argv = [*OFFLINE, str(python), "run.py", *words]
    variables = {n: v for n, v in os.environ.items() if n != "PYTHONPATH"}
    return subprocess.run(
        argv,
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        timeout=3600,
        check=False,
    )


def taken(path: Path) -> Result:
    """What `collect` would store; it stores nothing here."""
    text = collection.ResultText(where=str(path), text=path.read_text())
    return collection.verified(text, collection.reference(WORKSPACE))[0]


def gist(found: Result) -> dict[str, tuple[str, str | None]]:
    """What each check came to, and the cause where it failed."""
    return {
        c.check: (c.outcome.value, c.failure.fingerprint if c.failure else None)
        for c in found.checks
    }


def committed() -> Result:
    return store.load(result_path(CELL, "host", WORKSPACE.results))


@pytest.mark.skipif(not offline(), reason="this machine makes no network namespace for a test")
def test_without_a_network_it_comes_to_the_same(space: Path) -> None:
    free = shutil.disk_usage(space).free
    assert free > NEEDED, f"{free / 1e9:.0f} GB are free, {NEEDED / 1e9:.0f} are needed"
    folder = made(space, "--part-size", "2G")
    assert len(list(folder.glob("cell.tar.[0-9]*"))) > 1
    # Named: what a version manager keeps may be on no PATH, and is not looked for over there.
    found = interpreters.find(committed().pins["python"], processes.run, context.find_uv())
    done = run(folder, "--keep", "--python", str(found))
    assert done.returncode == 0, done.stderr[-3000:]
    print(done.stdout)
    back = taken(folder / "results" / CELL / "main.host.json")
    here = committed()
    assert (back.lock, {*back.wheels}) == (here.lock, {*here.wheels})
    assert back.installed == here.installed
    assert gist(back) == gist(here)
    # The GPU tier comes along; without a GPU it says so.
    done = run(folder, "--gpu", "--python", str(found))
    assert done.returncode == 0, done.stderr[-3000:]
    tier = taken(folder / "results" / CELL / "gpu.host.json")
    assert tier.check_set == "gpu"
    assert {check.outcome.value for check in tier.checks} <= {"needs-gpu", "unsupported"}
    # One byte of the largest file, and nothing is run.
    wheel = max((folder / TOP / "wheels").iterdir(), key=lambda p: p.stat().st_size)
    with wheel.open("r+b") as out:
        out.seek(1 << 20)
        byte = out.read(1)
        out.seek(1 << 20)
        out.write(bytes([byte[0] ^ 1]))
    refused = run(folder / TOP)
    assert refused.returncode == 2
    assert f"wheels/{wheel.name} was changed" in refused.stderr


def state(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of change of every file below a folder."""
    found = {}
    for base, _, names in os.walk(folder):
        for name in names:
            status = os.lstat(os.path.join(base, name))
            found[os.path.join(base, name)] = (status.st_size, status.st_mtime_ns)
    return found


@pytest.mark.skipif(not offline(), reason="this machine makes no network namespace for a test")
def test_over_a_torch_that_is_there_it_comes_to_the_same(space: Path) -> None:
    environment = files.home() / "envs" / BASE
    assert environment.exists(), f"make the environment first: nox -s {BASE}"
    folder = made(space, "--without", "torch,nvidia-*,transformer-engine*", "--part-size", "60M")
    assert sum(path.stat().st_size for path in folder.iterdir()) < 500e6
    before = state(environment)
    done = run(folder, "--base", "current", python=environment / "bin" / "python")
    assert done.returncode == 0, done.stderr[-3000:]
    print(done.stdout)
    assert state(environment) == before
    back = taken(folder / "results" / CELL / "main.host-base.json")
    assert back.base is not None
    assert back.base["cell"] == CELL
    assert set(back.base["installed"]) >= {"megatron-core", "nvidia-modelopt"}
    assert back.pins == committed().pins
    assert back.installed["nvidia-modelopt"] == committed().pins["nvidia-modelopt"]
    assert gist(back) == gist(committed())
