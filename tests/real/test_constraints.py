"""The published constraints files, given to uv as a user would: the real index answers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT

from mcore_compat.base import processes
from mcore_compat.core.workspace import Workspace
from mcore_compat.environments import interpreters
from mcore_compat.publish import constraints_files
from mcore_compat.run import context

pytestmark = pytest.mark.real

SAMPLE = 10


def sample() -> list[Path]:
    """Ten files spread over all of them, from the oldest to the newest."""
    files = sorted((Workspace(ROOT).reports / constraints_files.FOLDER).glob("*.txt"))
    return [files[place * (len(files) - 1) // (SAMPLE - 1)] for place in range(SAMPLE)]


@pytest.mark.parametrize("path", sample(), ids=lambda p: p.stem)
def test_uv_takes_a_constraints_file_as_it_is(path: Path, tmp_path: Path) -> None:
    pins = dict(line.split("==") for line in path.read_text().splitlines() if "#" not in line)
    python = path.read_text().split("# python ")[1].split(",")[0]
    uv = context.find_uv()
    env = {**os.environ, "UV_PYTHON_DOWNLOADS": "never"}
    found = interpreters.find(python, processes.run, uv)
    made = [uv, "venv", "-q", "--python", found, tmp_path / "venv"]
    subprocess.run(made, check=True, timeout=120, env=env, stdout=sys.stderr)
    wanted = ["megatron-core", "nvidia-modelopt"]
    argv = [uv, "pip", "install", "--dry-run", "--python", tmp_path / "venv" / "bin" / "python"]
    done = subprocess.run(
        [*argv, "-c", path, *wanted], capture_output=True, text=True, timeout=300, env=env
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for name in wanted:
        assert f" + {name}=={pins[name]}" in done.stderr
