"""The real torch extension of Transformer Engine against its stand-in, in real cells.

The real one's outcomes are those of the published result where it is of the same lock and suite;
else the cell is run with it, whose wheel must be in the wheelhouse. `MCORE_COMPAT_TE_CELLS` names
other cells. What both ran, and how each ended, is written to `MCORE_COMPAT_TE_LOG`, where that is
set.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from support import ROOT

from mcore_compat.base import files, processes
from mcore_compat.core.workspace import Workspace
from mcore_compat.environments import process_variables
from mcore_compat.environments.te_extension import bindings, wheel
from mcore_compat.index import package_index
from mcore_compat.resolve import locks
from mcore_compat.results import store
from mcore_compat.results.result import REAL, STAND_IN, Result, result_path

TEN = (
    "compat-0.9-modelopt0.21 compat-0.10-modelopt0.23 compat-0.11-modelopt0.25 "
    "compat-0.12-modelopt0.25 compat-0.12-modelopt0.29 compat-0.13-modelopt0.33 "
    "compat-0.14-modelopt0.37 compat-0.16-modelopt0.41 compat-0.17-modelopt0.44 "
    "compat-0.19-modelopt0.46"
)
CELLS = os.environ.get("MCORE_COMPAT_TE_CELLS", TEN).split()
ABI = "import-te-abi"
SHARED = ("wheelhouse", "tools", "downloads", "libcuda-stub", "metadata", "plain-import")

pytestmark = pytest.mark.real


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with the wheels of the user's, and environments of its own."""
    users = files.home()
    made = tmp_path / "home"
    made.mkdir()
    for name in SHARED:
        (users / name).mkdir(exist_ok=True)
        (made / name).symlink_to(users / name)
    monkeypatch.setenv("MCORE_COMPAT_HOME", str(made))
    return made


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """The matrix and its locks, without any result."""
    made = Workspace(tmp_path / "workspace")
    shutil.copytree(Workspace(ROOT).constraints, made.constraints)
    return made


def run(cell: str, extension: str, workspace: Workspace, *more: str) -> float:
    """Run a cell with an extension; the seconds that it took."""
    argv = [sys.executable, "-m", "mcore_compat.cli", "run", cell, "--publish"]
    argv += ["--te-extension", extension]
    started = time.monotonic()
    done = subprocess.run(
        [*argv, "--workspace", str(workspace.root), *more],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr[-3000:]
    return time.monotonic() - started


def result(cell: str, workspace: Workspace) -> Result:
    return store.load(result_path(cell, "host", workspace.results))


@pytest.mark.parametrize("cell", CELLS)
def test_both_extensions_give_the_same_outcome_of_every_other_check(
    cell: str, home: Path, workspace: Workspace
) -> None:
    second = run(cell, STAND_IN, workspace)
    stand_in = result(cell, workspace)
    real, first = result(cell, Workspace(ROOT)), 0.0
    if (real.te_extension, real.lock, real.suite) != (REAL, stand_in.lock, stand_in.suite):
        first = run(cell, REAL, workspace)
        real = result(cell, workspace)
    assert (real.te_extension, stand_in.te_extension) == (REAL, STAND_IN)
    outcomes = [{c.check: c.outcome.value for c in e.checks} for e in (real, stand_in)]
    abi = [one.pop(ABI) for one in outcomes]
    differ = {
        check: (outcomes[0].get(check), outcomes[1].get(check))
        for check in outcomes[0].keys() | outcomes[1].keys()
        if outcomes[0].get(check) != outcomes[1].get(check)
    }
    log = os.environ.get("MCORE_COMPAT_TE_LOG")
    if log:
        with Path(log).open("a") as out:
            row = [cell, len(outcomes[0]), differ, abi, round(first, 1), round(second, 1)]
            row += [real.outcome.value, stand_in.outcome.value]
            print(json.dumps(row), file=out)
    assert not differ
    assert abi == ["works", "needs-gpu"]
    assert real.outcome == stand_in.outcome
    assert stand_in.variables is None, "the real one alone needs them"


@pytest.mark.parametrize("cell", CELLS)
def test_the_stand_in_has_the_names_of_the_real_extension(
    cell: str, home: Path, workspace: Workspace, tmp_path: Path
) -> None:
    run(cell, REAL, workspace, "--only", "import-packages")
    lock = locks.read(workspace.lock(cell))
    pin = next(pin for pin in lock.source_only if pin.name == wheel.PACKAGE)
    sdist = package_index.download_sdist(pin.name, pin.version, pin.hashes, tmp_path)
    with zipfile.ZipFile(wheel.make(sdist, pin.version, tmp_path)) as archive:
        module = archive.extract(f"{wheel.MODULE}.py", tmp_path)
    environment = home / "envs" / cell
    site = next((environment / "lib").glob("python3*/site-packages"))
    variables = process_variables.variables(
        site, process_variables.driver_stub(site, processes.run)
    )
    script = Path(__file__).with_name("te_names.py")
    argv = [environment / "bin" / "python", "-W", "ignore", script, module]
    done = subprocess.run(argv, env=variables, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found.pop("compared") > 80
    assert not any(found.values()), found


@pytest.mark.parametrize("version", ["1.9.0", "1.12.0", "2.2.0", "2.11.0", "2.20.2"])
def test_the_sources_of_a_release_tell_all_names_and_numbers(version: str, tmp_path: Path) -> None:
    index = package_index.client()
    for file in index.get_project_page(wheel.PACKAGE).packages:
        if file.package_type == "sdist" and file.version == version:
            path = tmp_path / file.filename
            index.download_package(file, path)
            bound = bindings.read(wheel.sources(path))
            assert len(bound.functions) > 70
            assert {"DType", "FP8FwdTensors", "NVTE_QKV_Layout"} <= bound.enums.keys()
            assert bound.classes["FP8TensorMeta"].plain
            assert "get_cudnn_version" in bound.functions
            return
    raise AssertionError(f"the index has no source of {version}")
