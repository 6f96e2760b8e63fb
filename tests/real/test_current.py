"""`doctor --run` in a real environment: what it shows, and that nothing of the environment changes.

In a copy of a cell's environment by hard links, without compiled files: Python would make them anew
wherever it is not kept from it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import ROOT

from mcore_compat.base import files
from mcore_compat.core.workspace import Workspace
from mcore_compat.results import store
from mcore_compat.run.check_sets import MAIN

pytestmark = pytest.mark.real

CELL = "compat-0.16-modelopt0.41"


@pytest.fixture
def env() -> Iterator[Path]:
    """The copy, on the same file system."""
    made = files.home() / "envs" / CELL
    assert made.is_dir(), f"make the environment first: nox -s {CELL}"
    with tempfile.TemporaryDirectory(dir=files.home()) as folder:
        copy = Path(folder) / "env"
        without = shutil.ignore_patterns("__pycache__")
        shutil.copytree(made, copy, symlinks=True, copy_function=_linked, ignore=without)
        yield copy


def _linked(source: str, target: str) -> None:
    Path(target).hardlink_to(source)


def everything(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Each file and folder with its inode, size and time of change."""
    found = {}
    for base, folders, names in os.walk(folder):
        for name in [*folders, *names, ""]:
            path = Path(base, name)
            status = path.lstat()
            found[str(path)] = (status.st_ino, status.st_size, status.st_mtime_ns)
    return found


def variables() -> dict[str, str]:
    """The caller's, with nothing that keeps Python from writing compiled files."""
    others = ("PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX")  # `conftest.py` sets the latter
    kept = {n: v for n, v in os.environ.items() if n not in others}
    return {**kept, "PYTHONPATH": str(ROOT)}


def doctor(env: Path, cwd: Path, *options: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "mcore_compat.cli", "doctor", "--run"]
    return subprocess.run(
        [*argv, "--python", str(env / "bin" / "python"), *options],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=variables(),
        timeout=1800,
    )


def test_one_check_is_asked_and_nothing_changes(env: Path, tmp_path: Path) -> None:
    before = everything(env)
    assert not any("__pycache__" in name for name in before)
    done = doctor(env, tmp_path, "--only", "restore[gpt]")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "compat-current: " in done.stdout
    assert "restore ✓ works" in " ".join(done.stdout.split())
    assert everything(env) == before
    assert list(tmp_path.iterdir()) == []
    # The proof can fail: an import without the tool's care changes the environment.
    argv = [env / "bin" / "python", "-c", "import packaging.version"]
    subprocess.run(argv, check=True, env=variables())
    assert everything(env) != before


def test_the_whole_suite_gives_a_result_and_nothing_changes(env: Path, tmp_path: Path) -> None:
    before = everything(env)
    done = doctor(env, tmp_path)
    assert done.returncode in (0, 1), done.stderr[-2000:]
    assert everything(env) == before
    (written,) = tmp_path.iterdir()
    found = store.parse(written.read_text(encoding="utf-8"), written.name)
    assert (written.name, found.cell, found.lock) == ("compat-current.json", "compat-current", "")
    assert found.suite == MAIN.digest(Workspace(ROOT).suite)
    assert found.complete
    infos = list((env / "lib").glob("python3*/site-packages/*.dist-info"))
    assert len(found.installed) >= len(infos) > 50
    assert found.pins["megatron-core"] == found.installed["megatron-core"]
    assert {c.check: c.outcome.value for c in found.checks}["restore[gpt]"] == "works"
    assert str(env) not in written.read_text(encoding="utf-8")
    published = json.loads(Workspace(ROOT).verdicts.read_text())["verdicts"]
    assert "compat-current" not in published
