"""`doctor` in real environments that are wrong, each in its own way, and in one that is right.

Made from the environment of a real cell by hard links, then broken with uv as a user would.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from environment_support import WHOLE, environment_of
from support import ROOT

from mcore_compat.base import files
from mcore_compat.run import context

pytestmark = pytest.mark.real

CELL = "compat-0.16-modelopt0.41"

INCOMPATIBLE = "compat-0.10-modelopt0.43-te2.5-torch2.8"
"""In which no checkpoint can be saved; that is declared."""

BREAK = {
    "no extension": ["uninstall", "transformer-engine-torch"],
    "another torch": ["install", "--no-deps", "torch==2.10.0"],
    "another CUDA": ["install", "--no-deps", "transformer-engine-cu13==2.11.0"],
    "undeclared": ["uninstall", "psutil"],
    "parts differ": ["install", "--no-deps", "transformer-engine==2.10.0"],
}
SAYS = {
    "no extension": "is installed without its extension for torch",
    "another torch": "extension was built for another torch than 2.10.0",
    "another CUDA": "torch 2.9.1 is built for CUDA 12.8, and Transformer Engine's core library is "
    "transformer-engine-cu13",
    "undeclared": "and does not require it; psutil is not installed",
    "parts differ": "the parts of Transformer Engine have different versions",
}


@pytest.fixture
def python() -> Iterator[Path]:
    """The Python of a copy of the cell's environment, on the same file system."""
    made = environment_of(CELL)
    with tempfile.TemporaryDirectory(dir=files.home()) as folder:
        copy = Path(folder) / "env"
        shutil.copytree(made, copy, symlinks=True, copy_function=_linked)
        yield copy / "bin" / "python"


def _linked(source: str, target: str) -> None:
    Path(target).hardlink_to(source)


def doctor(python: Path, **variables: str) -> tuple[int, str]:
    argv = [sys.executable, "-m", "mcore_compat.cli", "doctor", "--python", python]
    env = {**os.environ, **variables}
    done = subprocess.run(argv, capture_output=True, text=True, cwd=ROOT, timeout=120, env=env)
    return done.returncode, done.stdout


def test_it_is_silent_where_all_is_right() -> None:
    python = environment_of(WHOLE) / "bin" / "python"
    nvidia = next(python.parent.parent.glob("lib/python3*/site-packages")) / "nvidia"
    libraries = ":".join(map(str, sorted(nvidia.glob("*/lib"))))
    # As the head of the cell's constraints file says.
    assert doctor(python, CUDA_HOME=str(nvidia), LD_LIBRARY_PATH=libraries) == (0, "")


def test_it_tells_what_has_to_be_set() -> None:
    variables = ("CUDA_HOME", "LD_LIBRARY_PATH", "CUDNN_HOME", "NVRTC_HOME", "CURAND_HOME")
    code, said = doctor(environment_of(WHOLE) / "bin" / "python", **dict.fromkeys(variables, ""))
    assert code == 0
    assert said.startswith("note: transformer-engine 2.11.0 beside torch 2.9.1 was imported only")
    assert "export CUDA_HOME=" in said


def test_it_says_where_no_checkpoint_restores() -> None:
    code, said = doctor(environment_of(INCOMPATIBLE) / "bin" / "python")
    assert code == 1
    assert said.startswith(f"known to fail: {INCOMPATIBLE} is incompatible")


def test_it_takes_less_than_3_s() -> None:
    python = environment_of(WHOLE) / "bin" / "python"
    doctor(python)
    took = []
    for _ in range(3):  # the fastest: what else the machine does only adds to it
        start = time.monotonic()
        doctor(python)
        took.append(time.monotonic() - start)
    assert min(took) < 3


@pytest.mark.parametrize("how", sorted(BREAK))
def test_it_names_what_is_wrong(how: str, python: Path) -> None:
    if how == "another torch" and list(
        python.parent.parent.glob("lib/python3*/site-packages/transformer_engine_torch.py")
    ):
        pytest.skip("a stand-in takes the place of TE's torch extension, and has no ABI")
    uv = context.find_uv()
    first, *rest = BREAK[how]
    if how == "another CUDA":
        gone = [uv, "pip", "uninstall", "--python", python, "transformer-engine-cu12"]
        subprocess.run(gone, check=True, timeout=60)
    subprocess.run([uv, "pip", first, "--python", python, *rest], check=True, timeout=300)
    code, said = doctor(python)
    assert code == 1
    assert SAYS[how] in said.splitlines()[0]
