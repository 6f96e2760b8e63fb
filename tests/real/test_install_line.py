"""The line that `recommend` gives, pasted into a shell with a fresh environment: what it makes is
what was tested, and nothing has to be added.

What the line compiles (Transformer Engine's extension, causal-conv1d, mamba-ssm) is not compiled
here: that takes nvcc of each torch's CUDA, and a quarter of an hour for each. `PIP_FIND_LINKS`
names, as a user may, a folder of wheels: of the extension its stand-in for hosts, made in a second
of the release's sources, of the two others the wheelhouse's, of their Python files. That everything
else came from the line alone is asserted: each package that is installed is of the version that the
constraints file pins, from the index, or one of these.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import ROOT

from mcore_compat.analysis import install_line
from mcore_compat.base import files, processes
from mcore_compat.core.workspace import Workspace
from mcore_compat.environments import interpreters, process_variables
from mcore_compat.environments.te_extension import stand_in, wheel
from mcore_compat.resolve import locks
from mcore_compat.run import context, pipeline

pytestmark = pytest.mark.real

PROFILES = {
    "default": "",
    "restore gpt": "--for restore --families gpt",
    "fp8 mla-moe": "--for restore,quantize:fp8 --families mla-moe",
}
CHECKS = """
import modelopt.torch.quantization
from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_with_transformer_engine_spec
from megatron.core.inference.modelopt_support.gpt.model_specs import get_gpt_layer_modelopt_spec
get_gpt_layer_with_transformer_engine_spec(), get_gpt_layer_modelopt_spec()
"""
OF_PIP = {"pip", "setuptools", "wheel", "pybind11", "ninja", "packaging"}
"""What is there, or is installed to build with, and pinned only where something needs it."""

OF_ALPHAS = {"tomli"}
"""Locked because coverage needs it on the alphas of Python 3.11, which uv counts to 3.11."""

HERE = Workspace(ROOT)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Gigabytes, gone afterwards."""
    with tempfile.TemporaryDirectory(dir=files.home()) as made:
        yield Path(made)


def recommended(profile: str) -> tuple[str, str, str]:
    """The best cell for a profile, its Python, and the line."""
    argv = [sys.executable, "-m", "mcore_compat.cli", "recommend", "-n", "1", *profile.split()]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(argv, capture_output=True, text=True, cwd=ROOT, timeout=120, env=env)
    first, line, *_ = done.stdout.splitlines()
    python = re.search(r"python (\S+),", first)
    assert python, done.stderr
    return first.split()[0], python[1], line.strip()


def wheels_of(cell: str, folder: Path) -> Path:
    """A folder with a wheel of each package that the cell's lock has as source only."""
    here = context.context()
    folder.mkdir()
    chosen = pipeline.chosen(cell, here)
    lock = locks.read(HERE.lock(cell))
    python = interpreters.find(chosen.python, processes.run, context.find_uv())
    for pin in lock.source_only:
        if pin.name == wheel.PACKAGE:
            made = [stand_in.ensure(pin, print)]
        else:
            built = pipeline.wheels_of(chosen, lock, python, here, only=pin.name)
            assert isinstance(built, (list, tuple)), built
            made = [one for one in built if one.key.package == pin.name]
        for one in made:
            shutil.copy(one.path, folder)
    return folder


def shell(line: str, environment: Path, folder: Path, **more: str) -> str:
    """What a shell prints in which the environment is active and nothing of ours is set."""
    unset = re.compile(r"PYTHON|CUDA|NVTE|PIP_|UV_|LD_LIBRARY_PATH|VIRTUAL_ENV|MCORE|CPATH")
    env = {k: v for k, v in os.environ.items() if not unset.match(k)} | more
    pip = {k: v for k, v in os.environ.items() if k in ("PIP_INDEX_URL", "PIP_CONFIG_FILE")}
    env |= {**pip, "PATH": f"{environment}/bin:{env['PATH']}", "PIP_NO_CACHE_DIR": "1"}
    script = folder / "line.sh"
    script.write_text(f"set -e\n{line}\n")
    with (folder / "out.txt").open("w") as out:
        done = subprocess.run(
            ["bash", script], stdout=out, stderr=subprocess.STDOUT, cwd=ROOT, env=env, timeout=1800
        )
    said = (folder / "out.txt").read_text()
    assert done.returncode == 0, said[-3000:]
    return said


def distributions(python: Path) -> dict[str, str]:
    argv = [python, "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=120)
    return {
        row["name"].lower().replace("_", "-"): row["version"] for row in json.loads(done.stdout)
    }


@pytest.mark.parametrize("name", PROFILES)
def test_the_line_alone_gives_the_tested_environment(name: str, folder: Path) -> None:
    profile = PROFILES[name]
    cell, series, line = recommended(profile)
    assert line.startswith("pip install -c ")
    links = wheels_of(cell, folder / "wheels")
    uv = context.find_uv()
    base = interpreters.find(series, processes.run, uv)
    environment = folder / "env"
    made = [uv, "venv", "--quiet", "--seed", "--python", base, environment]
    subprocess.run(made, check=True, timeout=300)
    python = environment / "bin" / "python"

    ours = f"{sys.executable} -m mcore_compat.cli doctor {profile} --python {python}"
    site = next((environment / "lib").glob("python3*/site-packages"))
    shell(f"{line} && env > {folder}/env.txt", environment, folder, PIP_FIND_LINKS=str(links))
    there = distributions(python)
    said = (folder / "out.txt").read_text()

    pins = install_line.pins_of((HERE.reports / "constraints" / f"{cell}.txt").read_text())
    other = {n: v for n, v in there.items() if v != pins.get(n) and n not in OF_PIP}
    assert not other, "not as pinned"
    if not profile:
        assert sorted(pins.keys() - there.keys() - OF_ALPHAS) == [], "of the tested environment"
    else:
        assert "mamba-ssm" not in there
    local = set(re.findall(r"Processing (\S+/wheels/\S+\.whl)", said))
    names = {Path(path).name.partition("-")[0].replace("_", "-") for path in local}
    compiled = line.split(" && ")[1].partition("--no-deps -c ")[2].split()[1:]
    assert wheel.PACKAGE in compiled
    assert names == {*compiled}, "from the folder of wheels comes what the line compiles, alone"

    rows = (folder / "env.txt").read_text().splitlines()
    values = dict(row.split("=", 1) for row in rows if "=" in row)
    set_by_line = {k: values[k] for k in ("CUDA_HOME", "LD_LIBRARY_PATH") if k in values}
    doctored = subprocess.run(
        ours.split(),
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
        env={**os.environ, **set_by_line, "PYTHONPATH": str(ROOT)},
    )
    assert (doctored.returncode, doctored.stdout) == (0, "")
    # The driver's library is found where there is a GPU; here its stand-in takes its place.
    driver = process_variables.driver_stub(site, processes.run)
    path = ":".join(filter(None, (set_by_line.get("LD_LIBRARY_PATH"), str(driver or ""))))
    checked = subprocess.run(
        [python, "-W", "ignore", "-c", CHECKS],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=600,
        env={**os.environ, **set_by_line, "LD_LIBRARY_PATH": path, "PYTHONPATH": ""},
    )
    assert checked.returncode == 0, checked.stderr[-3000:]
