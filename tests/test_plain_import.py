"""What Transformer Engine needs set to be imported is found by trying, once, and told where it is
of use. The processes are made up."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from support import ROOT, event, stand_in_result

from mcore_compat.analysis import doctor
from mcore_compat.analysis.published import Compatibility
from mcore_compat.base.processes import Completed
from mcore_compat.core import matrix
from mcore_compat.environments import plain_import, process_variables
from mcore_compat.environments.plain_import import SITE
from mcore_compat.environments.scan import Installed
from mcore_compat.publish import cell_records

PINS = {
    "python": "3.12",
    "torch": "2.9.1",
    "transformer-engine": "2.11.0",
    "nvidia-cudnn-cu12": "9.10",
    "nvidia-modelopt": "0.41.0",
    "numpy": "2.0",
}
NEEDED = {"CUDA_HOME": f"{SITE}/nvidia", "LD_LIBRARY_PATH": f"{SITE}/nvidia/*/lib"}


class Machine:
    """A machine on which TE is imported where `enough` are set, or always; `hangs`: it never is;
    `after_torch`: it always is once torch was."""

    def __init__(
        self, enough: Collection[str] | None, hangs: bool = False, after_torch: bool = False
    ) -> None:
        self.enough = enough
        self.hangs = hangs
        self.after_torch = after_torch
        self.asked: list[Mapping[str, str]] = []

    def __call__(self, argv: Any, *, timeout: float, env: Any = None, **_: Any) -> Completed:
        bare = not {"CUDA_HOME", "CUDNN_HOME", "NVRTC_HOME"} & {*env} and "nvidia" not in env.get(
            "LD_LIBRARY_PATH", ""
        )
        assert argv[-1] == (plain_import.AFTER_TORCH if bare else plain_import.IMPORT)
        assert timeout <= 180
        self.asked.append(env)
        ok = self.enough is not None and all("nvidia" in env.get(n, "") for n in self.enough)
        ok = ok or (self.after_torch and argv[-1] == plain_import.AFTER_TORCH)
        return Completed(
            argv=tuple(map(str, argv)),
            returncode=0 if ok else 1,
            output="",
            seconds=1.0,
            timed_out=self.hangs,
        )


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MCORE_COMPAT_HOME", str(tmp_path / "home"))
    return tmp_path


@pytest.fixture
def needed(home: Path) -> Callable[..., dict[str, str] | None]:
    site = home / "env" / "lib" / "python3.12" / "site-packages"
    for name in ("cudnn", "cuda_nvrtc"):
        (site / "nvidia" / name / "lib").mkdir(parents=True)
    (site / "nvidia" / "cuda_nvrtc" / "lib" / "libnvrtc.so.12").touch()
    stub = home / "stub"
    stub.mkdir()
    (stub / process_variables.DRIVER).touch()
    there = {"PATH": "/opt/cuda/bin:/bin", "PYTHONPATH": "/mine", "CUDA_HOME": "/opt/cuda"}
    variables = process_variables.variables(site, stub, there)

    def ask(run: Machine, pins: Mapping[str, str] = PINS) -> dict[str, str] | None:
        python = home / "env" / "bin" / "python"
        return plain_import.needed(python, variables, pins, run, lambda line: None)

    return ask


Needed = Callable[..., dict[str, str] | None]


def test_nothing_is_needed_where_a_plain_environment_is_enough(needed: Needed) -> None:
    run = Machine(enough=())
    assert needed(run) == {}
    assert len(run.asked) == 1
    names = {"CUDA_HOME", "CUDNN_HOME", "NVRTC_HOME", "PYTHONPATH"}
    assert not names & {*run.asked[0]}
    assert run.asked[0]["LD_LIBRARY_PATH"].endswith("/stub")  # a machine with a GPU has the driver
    assert "/opt/cuda" not in run.asked[0]["PATH"]  # nor the toolkit of this machine


def test_a_te_that_is_imported_after_torch_needs_nothing(needed: Needed) -> None:
    run = Machine(enough=("LD_LIBRARY_PATH",), after_torch=True)
    assert needed(run) == {}
    assert len(run.asked) == 1


@pytest.mark.parametrize(
    ("enough", "names"),
    [
        (("CUDA_HOME", "LD_LIBRARY_PATH"), ["CUDA_HOME", "LD_LIBRARY_PATH"]),
        (("LD_LIBRARY_PATH",), ["LD_LIBRARY_PATH"]),
        (("NVRTC_HOME",), ["NVRTC_HOME"]),
    ],
)
def test_the_fewest_are_found(needed: Needed, enough: tuple[str, ...], names: list[str]) -> None:
    found = needed(Machine(enough))
    assert found is not None
    assert sorted(found) == names
    assert {name: found[name] for name in NEEDED if name in found} == {
        name: value for name, value in NEEDED.items() if name in found
    }
    assert all(value.startswith(SITE) for value in found.values())


def test_what_is_imported_with_nothing_is_not_known_and_asked_again(needed: Needed) -> None:
    for run in (Machine(None), Machine((), hangs=True)):
        assert needed(run) is None
    assert needed(Machine(())) == {}


def test_it_is_tried_once_for_what_decides(needed: Needed) -> None:
    assert needed(Machine(("CUDA_HOME",))) == {"CUDA_HOME": NEEDED["CUDA_HOME"]}
    again = Machine(())
    assert needed(again, {**PINS, "nvidia-modelopt": "0.43.0", "numpy": "2.1"}) == {
        "CUDA_HOME": NEEDED["CUDA_HOME"]
    }
    assert again.asked == []
    for name in ("transformer-engine", "torch", "python", "nvidia-cudnn-cu12"):
        assert needed(again, {**PINS, name: "0"}) == {}


def test_the_lines_work_in_a_shell(tmp_path: Path) -> None:
    site = tmp_path / "site"
    for name in ("cublas", "cudnn"):
        (site / "nvidia" / name / "lib").mkdir(parents=True)
    python = tmp_path / "python"
    python.write_text(
        "#!/bin/sh\nshift\nexec python3 -c 'import sys, sysconfig\n"
        f'sysconfig.get_path = lambda name: "{site}"\nexec(sys.argv[1])\' "$1"\n'
    )
    python.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    script = "\n".join([*plain_import.exports(NEEDED), "echo $CUDA_HOME; echo $LD_LIBRARY_PATH"])
    for before, after in (("", ""), ("/mine", ":/mine")):
        env = {"PATH": path, "LD_LIBRARY_PATH": before}
        done = subprocess.run(
            ["bash", "-euc", script],
            capture_output=True,
            text=True,
            env=env,
            timeout=60,
            check=True,
        )
        libraries = f"{site}/nvidia/cublas/lib:{site}/nvidia/cudnn/lib{after}"
        assert done.stdout.splitlines() == [f"{site}/nvidia", libraries]


def known(variables: Mapping[str, str] | None) -> Compatibility:
    declared = matrix.load(ROOT / "constraints" / "matrix.toml")
    found = replace(stand_in_result(event("restore[gpt]")), variables=variables)
    return Compatibility(
        schema="1.0.0",
        made_by="a test",
        axes={},
        cells=(cell_records.record(found, declared),),
        causes=(),
        findings=(),
        intervals=(),
        drift=(),
        over_base=(),
    )


def told(there: Installed, environ: Mapping[str, str], variables: Any = NEEDED) -> list[str]:
    declared = matrix.load(ROOT / "constraints" / "matrix.toml")
    remarks = doctor.diagnose(there, declared, known(variables), environ)
    return [f"{r.kind}: {r.text} {r.help}" for r in remarks if "was imported only with" in r.text]


def test_doctor_tells_what_is_not_set(tmp_path: Path) -> None:
    (tmp_path / "nvidia").mkdir()
    versions = {"torch": "2.9.1", "transformer-engine": "2.11.0", "nvidia-modelopt": "0.43.0"}
    there = Installed(
        python="3.12.1", versions=versions, requires={}, places=(tmp_path,), cuda="12.8"
    )
    (line,) = told(there, {})
    assert line.startswith(f"{doctor.NOTE}: transformer-engine 2.11.0 beside torch 2.9.1")
    assert "CUDA_HOME and LD_LIBRARY_PATH set" in line
    assert "export LD_LIBRARY_PATH=" in line
    right = {"CUDA_HOME": "/x", "LD_LIBRARY_PATH": f"/y:{tmp_path}/nvidia/cudnn/lib"}
    assert told(there, right) == []
    (line,) = told(there, {**right, "LD_LIBRARY_PATH": "/y"})
    assert line.startswith(f"{doctor.NOTE}:")  # a toolkit elsewhere may be enough
    assert "CUDA_HOME" not in line
    for nothing in ({}, None):
        assert told(there, {}, nothing) == []
    other = replace(there, versions={**versions, "torch": "2.10.0"})
    assert told(other, {}) == []
    assert told(replace(there, cuda="13.0"), {}) == []
    assert told(replace(there, cuda=None, unread="it is editable"), {}) != []


def test_doctor_says_nothing_where_a_cell_of_these_versions_needs_none(tmp_path: Path) -> None:
    (tmp_path / "nvidia").mkdir()
    versions = {"torch": "2.9.1", "transformer-engine": "2.11.0"}
    there = Installed(
        python="3.12.1", versions=versions, requires={}, places=(tmp_path,), cuda="12.8"
    )
    both = known(NEEDED)
    both = structs.replace(both, cells=(*both.cells, *known({}).cells))
    declared = matrix.load(ROOT / "constraints" / "matrix.toml")
    remarks = doctor.diagnose(there, declared, both, {})
    assert not any("was imported only with" in r.text for r in remarks)
