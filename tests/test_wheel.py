"""The wheel, installed as a user would: it answers everywhere from the snapshot that it carries."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock
from support import ROOT

from mcore_compat.core.workspace import CARRIED, VARIABLE, Workspace
from mcore_compat.run.check_sets import EXCHANGE, MAIN, ON_A_GPU
from mcore_compat.run.context import find_uv

MOST = 9_000_000
"""Bytes of the wheel, which has the results and locks of all cells: about 10 kB each."""

OLDER, CELL = "compat-0.11-modelopt0.25-te2.4-torch2.6", "compat-0.16-modelopt0.41"
DATE = re.compile(r"mcore-compat: using the results up to (\d{4}-\d\d-\d\d) in this package; .*\n")
ONLY_READ = (
    "mcore-compat: this folder is not a workspace, and the package's snapshot is read-only; make "
    "one: mcore-compat init FOLDER, or name one: --workspace FOLDER\n"
)


@dataclass(frozen=True)
class Installed:
    """The wheel, and an environment in which it is installed."""

    wheel: Path
    environment: Path

    @property
    def snapshot(self) -> Path:
        (place,) = self.environment.glob("lib/python3*/site-packages/mcore_compat/snapshot")
        return place

    def run(self, *words: str, folder: Path) -> subprocess.CompletedProcess[str]:
        """A command, typed in a folder by someone who has set nothing."""
        own = ("PYTHONPATH", "VIRTUAL_ENV", VARIABLE)
        variables = {n: v for n, v in os.environ.items() if n not in own}
        return subprocess.run(
            [self.environment / "bin" / "mcore-compat", *words],
            capture_output=True,
            text=True,
            cwd=folder,
            env={**variables, "MCORE_COMPAT_HOME": str(self.environment.with_name("home"))},
            timeout=120,
        )


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Built and installed once, whatever number of processes run these tests."""
    base = tmp_path_factory.getbasetemp()
    place = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "wheel"
    with FileLock(place.with_name("wheel.lock")):
        if not (place / "made").exists():
            made(place)
    (wheel,) = place.glob("*.whl")
    return Installed(wheel=wheel, environment=place / "env")


def made(place: Path) -> None:
    """Without the network: by the backend that is in this environment, whose packages are reused
    for those that the wheel depends on."""
    env, uv = place / "env", find_uv()
    install = [uv, "pip", "install", "-q", "--no-config", "--offline", "--no-deps", "--no-cache"]
    for argv in (
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", place],
        [uv, "venv", "-q", "--no-config", "-p", sys.executable, env],
        [*install, "-p", env, "--find-links", place, "mcore-compat"],
    ):
        subprocess.run(argv, check=True, cwd=ROOT, timeout=120, stdout=subprocess.DEVNULL)
    (site,) = env.glob("lib/python3*/site-packages")
    # A line of a .pth file is a folder whose own .pth files are not read: no editable project.
    (site / "reused.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (place / "made").touch()


def state(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Each file and folder with its inode, size and time of change."""
    found = {}
    for base, folders, names in os.walk(folder):
        for name in (*folders, *names):
            status = os.lstat(os.path.join(base, name))
            found[os.path.join(base, name)] = (status.st_ino, status.st_size, status.st_mtime_ns)
    return found


@pytest.fixture
def empty(installed: Installed, tmp_path: Path) -> Iterator[Path]:
    """An empty folder. After the test nothing of the snapshot has changed."""
    before = state(installed.snapshot)
    assert str(Workspace(installed.snapshot).matrix) in before
    folder = tmp_path / "empty"
    folder.mkdir()
    yield folder
    assert state(installed.snapshot) == before


def newest() -> str:
    """The day of the newest result that is published here."""
    published = json.loads(Workspace(ROOT).published.read_text(encoding="utf-8"))
    return str(max(cell["taken"] for cell in published["cells"]))[:10]


def test_it_is_small_and_has_what_a_workspace_and_a_run_need(installed: Installed) -> None:
    assert installed.wheel.stat().st_size < MOST
    with zipfile.ZipFile(installed.wheel) as wheel:
        names = set(wheel.namelist())
    assert "mcore_compat/py.typed" in names
    for name in CARRIED:
        within = f"mcore_compat/snapshot/{name}"
        assert any(n == within or n.startswith(f"{within}/") for n in names), name
    carried = installed.snapshot / "suite"
    for check_set in (MAIN, EXCHANGE, *ON_A_GPU.values()):
        assert check_set.digest(carried) == check_set.digest(ROOT / "suite")
    for part in ("constraints", "reports/results"):
        here = {str(p.relative_to(ROOT)) for p in (ROOT / part).rglob("*") if p.is_file()}
        assert {f"mcore_compat/snapshot/{name}" for name in here} <= names
    assert not [n for n in names if "__pycache__" in n or n.startswith(("tests/", "docs/"))]


def answer(installed: Installed, empty: Path, *words: str) -> tuple[int, str]:
    """The exit code and the output of a command, which says of what date that is."""
    done = installed.run(*words, folder=empty)
    date = DATE.fullmatch(done.stderr)
    assert date, done.stderr
    assert date[1] == newest()
    assert list(empty.iterdir()) == []
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    ("words", "codes", "said"),
    [
        (["list"], {0}, f"{CELL}: "),
        (["show", CELL], {0, 1}, f"{CELL}: "),
        (["explain", OLDER], {0}, "restore["),
        (["explain", "--error", "name '_type_utils' from 'torch.onnx'"], {0}, "nvidia-modelopt"),
        (["doctor"], {1}, "megatron-core is not installed"),
        (["upgrade", OLDER, CELL, "--no-run"], {0, 1}, f"Upgrade {OLDER} → {CELL}: "),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_it_answers_in_an_empty_folder_and_says_of_what_date(
    words: list[str], codes: set[int], said: str, installed: Installed, empty: Path
) -> None:
    code, told = answer(installed, empty, *words)
    assert code in codes
    assert said in told


def test_constraints_that_it_recommends_are_there(installed: Installed, empty: Path) -> None:
    code, told = answer(installed, empty, "recommend", "torch")
    assert code == 0
    paths = [Path(path) for path in re.findall(r"pip install -c (\S+)", told)]
    assert paths
    for path in paths:
        assert path.is_relative_to(installed.snapshot)
        assert "torch==" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("words", [["run", CELL], ["upgrade", OLDER, CELL]])
def test_what_would_write_is_refused_with_the_way_out(
    words: list[str], installed: Installed, empty: Path
) -> None:
    done = installed.run(*words, folder=empty)
    assert (done.returncode, done.stdout) == (2, "")
    assert DATE.sub("", done.stderr) == ONLY_READ
    assert list(empty.iterdir()) == []


def test_a_workspace_of_ones_own_has_all_that_the_snapshot_has(
    installed: Installed, empty: Path
) -> None:
    done = installed.run("init", "mine", folder=empty)
    assert (done.returncode, done.stderr) == (0, "")
    assert "created the workspace mine" in done.stdout
    mine = Workspace(empty / "mine")
    assert mine.matrix.read_bytes() == Workspace(ROOT).matrix.read_bytes()
    from_snapshot = installed.run("list", folder=empty)
    named = installed.run("list", "--workspace", "mine", folder=empty)
    inside = installed.run("list", folder=mine.root)
    assert named.stdout == inside.stdout == from_snapshot.stdout != ""
    assert (named.returncode, inside.returncode) == (0, 0)
    assert named.stderr == inside.stderr == "", "no date: it is no snapshot"
    again = installed.run("init", "mine", folder=empty)
    assert again.returncode == 2
    assert "has constraints/ already" in again.stderr
    # What writes is no longer refused: it goes on to its own input.
    told = installed.run("run", "0.99-modelopt0.41", "--workspace", "mine", folder=empty)
    assert told.returncode == 2
    assert "0.99" in told.stderr
