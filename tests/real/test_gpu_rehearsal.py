"""The run on a GPU, rehearsed without one: a Python like the target's, no network, the prepared
parts only. Slow, gigabytes; selected by `nox -s real`.

What `constraints/gpu-run.toml` names is prepared first (TE's extension is built once: minutes).
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import tomllib
from bundle_support import OFFLINE, offline
from support import ROOT

from mcore_compat.base import processes
from mcore_compat.environments import interpreters
from mcore_compat.run import context

PLAN = ROOT / "constraints" / "gpu-run.toml"
CELLS = 6
"""How many of the planned cells are run side by side."""

CHECKS = 60
"""Of the GPU tier in a cell whose release has every family."""

LIMIT_S = 480.0
"""For all cells together, on two cores that do nothing else."""

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not offline(), reason="this machine makes no network namespace for a test"),
]


@pytest.fixture(scope="module")
def plan() -> dict[str, Any]:
    with PLAN.open("rb") as source:
        return tomllib.load(source)


@pytest.fixture(scope="module")
def parts(plan: Mapping[str, Any]) -> Path:
    """The folder of the prepared parts; what is missing of them is made."""
    argv = [sys.executable, "-m", "mcore_compat.cli", "bundle", "--plan", str(PLAN)]
    subprocess.run(argv, cwd=ROOT, check=True, timeout=3600)
    return (ROOT / plan["output"]).parent


@pytest.fixture(scope="module")
def python(plan: Mapping[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A Python with what the base's list has: exact versions where it says them, else the newest of
    the day that it was read."""
    text = (ROOT / plan["base-list"]).read_text(encoding="utf-8")
    told = dict(re.findall(r"^# (python|read): (\S+)$", text, re.M))
    folder = tmp_path_factory.mktemp("base")
    wanted = folder / "wanted.txt"
    wanted.write_text(re.sub(r"\+cu\d+", "", text))
    series = ".".join(told["python"].split(".")[:2])
    uv = context.find_uv()
    found = interpreters.find(series, processes.run, uv)
    subprocess.run([uv, "venv", "-q", "-p", found, folder / "env"], check=True, timeout=300)
    there = folder / "env" / "bin" / "python"
    install = [uv, "pip", "install", "-q", "-p", there, "--exclude-newer", told["read"]]
    subprocess.run([*install, "-r", wanted], check=True, timeout=1800)
    yield there
    shutil.rmtree(folder)


@pytest.fixture
def carried(parts: Path, tmp_path: Path) -> Iterator[Path]:
    """The parts, where they were carried to."""
    folder = tmp_path / "carried"
    shutil.copytree(parts, folder, copy_function=os.link)
    yield folder
    shutil.rmtree(tmp_path)


def command(python: Path, cells: list[str], *words: str) -> list[str]:
    named = [word for cell in cells for word in ("--cell", cell)]
    argv = [*OFFLINE, str(python), "run.py", "--base", "current", "--gpu", *named]
    return [*argv, "-j", "2", "--results", "out", *words]


def surroundings(**variables: str) -> dict[str, str]:
    """This process's variables without what would lead to other packages or another toolkit."""
    dropped = ("PYTHONPATH", "CUDA_HOME", "CUDA_PATH", "VIRTUAL_ENV")
    return {**{n: v for n, v in os.environ.items() if n not in dropped}, **variables}


def results(archive: Path) -> dict[str, dict[str, Any]]:
    """What came home, by cell."""
    found = {}
    with tarfile.open(archive) as source:
        for member in source:
            if re.search(r"results/compat-[^/]+/gpu\.host-base\.json$", member.name):
                data = json.load(source.extractfile(member))  # type: ignore[arg-type]
                found[data["cell"]] = data
    return found


def checks(data: Mapping[str, Any]) -> dict[str, str]:
    return {e["check"]: e["outcome"] for e in data["events"] if e["event"] == "check"}


def imports(data: Mapping[str, Any]) -> dict[str, str]:
    return dict(data["events"][0]["preload"])


def test_all_cells_run_to_their_end_and_want_only_a_gpu(
    plan: Mapping[str, Any], carried: Path, python: Path
) -> None:
    cells = list(plan["cells"][:CELLS])
    started = time.monotonic()
    done = subprocess.run(
        command(python, cells),
        cwd=carried,
        env=surroundings(),
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    seconds = time.monotonic() - started
    print(done.stdout, done.stderr[-4000:], f"{seconds:.0f} s", sep="\n")
    assert done.returncode == 0, done.stderr[-3000:]
    found = results(carried / "out" / "results.tar")
    assert sorted(found) == sorted(cells)
    for cell, data in found.items():
        assert data["complete"], cell
        assert {*imports(data).values()} == {"ok"}, (cell, imports(data))
        asked = checks(data)
        assert len(asked) == CHECKS, cell
        assert {*asked.values()} == {"needs-gpu"}, (cell, asked)
    assert seconds < LIMIT_S


@pytest.mark.parametrize("home", ["toolkit", "nonsense"])
def test_te_is_imported_whatever_the_toolkit_is_said_to_be(
    plan: Mapping[str, Any], carried: Path, python: Path, tmp_path: Path, home: str
) -> None:
    (tmp_path / "nonsense").mkdir()
    nvcc = shutil.which("nvcc")
    toolkit = Path(nvcc).resolve().parent.parent if nvcc else tmp_path / "nonsense"
    named = {"toolkit": toolkit, "nonsense": tmp_path / "nonsense"}[home]
    cell = plan["cells"][0]
    done = subprocess.run(
        command(python, [cell]),
        cwd=carried,
        env=surroundings(CUDA_HOME=str(named), CUDA_PATH=str(named)),
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    data = results(carried / "out" / "results.tar")[cell]
    assert {*imports(data).values()} == {"ok"}, imports(data)


def test_killed_at_a_random_moment_it_leaves_what_was_learnt(
    plan: Mapping[str, Any], carried: Path, python: Path
) -> None:
    cells = list(plan["cells"][:2])
    archive = carried / "out" / "results.tar"
    with subprocess.Popen(
        command(python, cells),
        cwd=carried,
        env=surroundings(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        deadline = time.monotonic() + 900
        while not (archive.exists() and any(map(checks, results(archive).values()))):
            assert process.poll() is None, "it ended before a check did"
            assert time.monotonic() < deadline
            time.sleep(1)
        time.sleep(random.uniform(0, 5))
        learnt = {cell: checks(data) for cell, data in results(archive).items()}
        os.killpg(process.pid, signal.SIGKILL)
    left = results(archive)
    for cell, asked in learnt.items():
        assert asked.items() <= checks(left[cell]).items()
        assert left[cell]["complete"] == (len(checks(left[cell])) == CHECKS)
