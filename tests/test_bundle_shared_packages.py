"""What cells share is installed once, and found as if it were their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import bundle_support
import pytest
from bundle_support import CELL, StandIn, base_python, contents_of, run, wheel

from mcore_compat.base import files
from mcore_compat.offline import archive, contents
from mcore_compat.offline.node import install, shared_packages
from mcore_compat.run import context

OTHER = bundle_support.replace(CELL, name="compat-0.16-modelopt0.42")
LARGE = 60_000_000


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> StandIn:
    """One whose TE has a core that is worth a layer."""
    return bundle_support.stand_in(tmp_path_factory.mktemp("repository"), core=b"\0" * LARGE)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path


def package(root: Path, name: str, version: str = "1.0", **inside: str) -> dict[str, Any]:
    """As a cell's JSON has it, with its wheel; `inside`: more files, `__` for `/`."""
    path = wheel(root / "wheels", name, version)
    with zipfile.ZipFile(path, "a") as out:
        for place, text in inside.items():
            out.writestr(place.replace("__", "/"), text)
    digest = files.sha256_file(path)
    return {
        "files": {f"wheels/{path.name}": digest},
        "local": False,
        "name": name,
        "version": version,
    }


def named(found: list[list[dict[str, Any]]]) -> list[list[str]]:
    return [sorted(one["name"] for one in mine) for mine in found]


def test_what_lies_in_one_folder_stays_together(root: Path) -> None:
    packages = [
        package(root, "engine"),
        package(root, "engine-core", **{"engine__core.so": "c"}),
        package(root, "numpy"),
        package(root, "bridge", engine_core__x="", numpy__y=""),
    ]
    assert named(shared_packages.groups(root, packages[:3])) == [
        ["engine", "engine-core"],
        ["numpy"],
    ]
    every = shared_packages.groups(root, packages)
    assert named(every) == [["bridge", "engine", "engine-core", "numpy"]]


def test_only_what_is_large_and_has_no_commands_is_shared(root: Path) -> None:
    entry = {"tool-1.0.dist-info__entry_points.txt": "[console_scripts]\n"}
    tool = package(root, "tool", **{"tool__data": "t" * 5000, **entry})
    script = package(root, "script", **{"script-1.0.data__scripts__x": "s" * 5000})
    large = package(root, "large", large__data="l" * 5000)
    small = package(root, "small")
    every = [tool, script, large, small]
    assert named(shared_packages.shared(root, every, least=5000)) == [["large"]]
    assert shared_packages.shared(root, every) == []


def test_a_layer_is_made_once_and_by_what_is_in_it(root: Path) -> None:
    installer = install.Installer(root=root, uv=context.find_uv())
    packages = [package(root, "large")]
    python = Path(sys.executable)
    first = shared_packages.layer(installer, python, packages, root / "layers")
    before = contents_of(first)
    assert "large/__init__.py" in before
    (root / "wheels" / "large-1.0-py3-none-any.whl").rename(root / "away")
    assert shared_packages.layer(installer, python, packages, root / "layers") == first, (
        "none is needed"
    )
    assert contents_of(first) == before
    other = [package(root, "large", "2.0")]
    assert shared_packages.layer(installer, python, other, root / "layers") != first


def test_what_an_installation_that_was_killed_left_is_no_layer(root: Path) -> None:
    installer = install.Installer(root=root, uv=context.find_uv())
    packages = [package(root, "large")]
    first = shared_packages.layer(installer, Path(sys.executable), packages, root / "layers")
    first.rename(first.with_suffix(".part"))
    shutil.rmtree(first.with_suffix(".part") / "large")
    again = shared_packages.layer(installer, Path(sys.executable), packages, root / "layers")
    assert (again / "large" / "__init__.py").is_file()


def test_two_cells_over_a_base_share_what_is_large(made: StandIn, tmp_path: Path) -> None:
    base = base_python(
        tmp_path / "base",
        wheel(tmp_path, "torch", CELL.torch),
        wheel(tmp_path, "transformer-engine-cu12", "1.0"),
    )
    bundle = tmp_path / "bundle"
    packed = [made.packed(["torch"], cell) for cell in (CELL, OTHER)]
    archive.lay_out(contents.bundle_files(packed, made.tools, made.workspace), bundle)
    before = contents_of(tmp_path / "base")
    # The base's TE is not the cell's: what would stay is taken away, and TE of the bundle comes.
    shutil.rmtree(next((tmp_path / "base").glob("lib/*/site-packages/transformer_engine_cu12-*")))
    done = run(bundle, "--base", "current", "--all", "-j", "2", "--keep", python=base)
    assert done.returncode == 0, done.stdout + done.stderr
    (layer,) = (p for p in (bundle / "work" / "layers").iterdir() if p.is_dir())
    assert (layer / "transformer_engine_cu12" / "core.bin").stat().st_size == LARGE
    for cell in (CELL, OTHER):
        data = json.loads((bundle / "results" / cell.name / "main.host-base.json").read_text())
        assert data["events"][0]["installed"]["transformer-engine-cu12"] == CELL.te
        assert "transformer-engine-cu12" in data["base"]["installed"]
        environment = bundle / "work" / cell.name / "environment-base"
        assert not list(environment.rglob("core.bin"))
        where = "import transformer_engine_cu12 as it; print(it.__file__)"
        argv = [environment / "bin" / "python", "-c", where]
        found = subprocess.run(argv, capture_output=True, text=True, check=True, env=bare()).stdout
        assert Path(found.strip()).is_relative_to(layer), "before what the base has of it"
    after = contents_of(tmp_path / "base")
    assert after.items() <= before.items(), "nothing is changed there"


def bare() -> dict[str, str]:
    return {n: v for n, v in os.environ.items() if not n.startswith("PYTHON")}
