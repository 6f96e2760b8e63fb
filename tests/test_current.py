"""`doctor --run`: what it takes, what it writes and where; the suite itself stands in here."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import snapshot
from engine_support import END, SuiteProcess
from support import ROOT, START, event
from test_doctor import KNOWN_CELL

from mcore_compat import cli
from mcore_compat.analysis import doctor as remarks
from mcore_compat.analysis import published
from mcore_compat.base import processes
from mcore_compat.base.errors import InfrastructureError
from mcore_compat.core.outcomes import CellOutcome
from mcore_compat.core.workspace import Workspace
from mcore_compat.environments import creation, interpreters, process_variables, scan
from mcore_compat.environments.scan import Installed
from mcore_compat.results import store
from mcore_compat.results.result import Result
from mcore_compat.run import cells, machine

pytestmark = pytest.mark.usefixtures("on_snapshot")

VERSIONS = {
    "megatron-core": "0.16.1",
    "nvidia-modelopt": "0.41.0",
    "torch": "2.9.1+cu128",
    "transformer-engine": "2.11.0",
}


class Stages:
    """What stands in for the environment and its suite, and what the suite was started with."""

    def __init__(self, site: Path) -> None:
        self.suite = SuiteProcess([START, event("restore[gpt]"), END], returncode=1)
        self.there = Installed(
            python="3.12.1", versions=dict(VERSIONS), requires={}, cuda="12.8", places=(site,)
        )


@pytest.fixture
def stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stages:
    site = tmp_path / "env" / "lib" / "python3.12" / "site-packages"
    (site / "torch").mkdir(parents=True)
    found = Stages(site)
    monkeypatch.setenv("MCORE_COMPAT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    monkeypatch.chdir(tmp_path)
    python = tmp_path / "env" / "bin" / "python"
    monkeypatch.setattr(interpreters, "active", lambda: python)
    monkeypatch.setattr(scan, "inspect", lambda *_: found.there)
    monkeypatch.setattr(remarks, "diagnose", lambda *_, **__: ())
    monkeypatch.setattr(
        published, "load", lambda path: KNOWN_CELL
    )  # the doctor alone looks into it
    monkeypatch.setattr(cells, "other_results", lambda *_: ())
    monkeypatch.setattr(creation, "tools", lambda *_, **__: tmp_path / "tools")
    monkeypatch.setattr(process_variables, "driver_stub", lambda *_: None)
    monkeypatch.setattr(machine, "device_class", lambda: "host")
    monkeypatch.setattr(processes, "run", found.suite)
    return found


def written(path: Path) -> Result:
    """A result from a file of the user's own, in which all values are."""
    return store.parse(path.read_text(), path.name)


def doctor(*options: str) -> int:
    return cli.main(["doctor", "--run", *options])


def test_its_result_is_written_where_it_is_run(
    stages: Stages, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert doctor() == 0
    found = written(tmp_path / "compat-current.json")
    assert found.cell == "compat-current"
    assert found.outcome is CellOutcome.COMPATIBLE
    assert (found.lock, dict(found.wheels), found.cuda) == ("", {}, 12)
    assert found.pins["torch"] == "2.9.1"
    assert found.pins["python"] == "3.12"
    assert dict(found.installed) == START["installed"]
    assert "PYTHONDONTWRITEBYTECODE" in found.platform["variables_set"]
    said = capsys.readouterr().out
    assert said.startswith("compat-current: ✓ compatible for default (device class host)")
    assert f"result: {tmp_path / 'compat-current.json'}" in said


def test_the_file_is_of_the_users_choice(stages: Stages, tmp_path: Path) -> None:
    assert doctor("--output", "mine.json") == 0
    assert written(tmp_path / "mine.json").complete
    assert not (tmp_path / "compat-current.json").exists()


def test_a_project_that_is_searched_for_packages_may_hold_the_file(
    stages: Stages, tmp_path: Path
) -> None:
    stages.there = replace(stages.there, places=(*stages.there.places, tmp_path))
    assert doctor() == 0
    assert (tmp_path / "compat-current.json").exists()


def test_the_suite_is_run_with_the_environments_own_python(stages: Stages, tmp_path: Path) -> None:
    doctor("--limit", "7", "--only", "restore*")
    assert stages.suite.argv[0] == str(tmp_path / "env" / "bin" / "python")
    assert stages.suite.after("--tools") == str(tmp_path / "tools")
    assert stages.suite.after("--only") == "restore*"
    assert stages.suite.after("--timeout") == "7.0"
    assert stages.suite.options["env"]["PYTHONDONTWRITEBYTECODE"] == "1"
    assert stages.suite.options["log"].is_relative_to(tmp_path / "home")


def test_a_failure_that_nothing_declares_ends_with_1(stages: Stages, tmp_path: Path) -> None:
    stages.suite.events.insert(1, event("build-default[mla-moe]", "broken"))
    assert doctor() == 1
    assert written(tmp_path / "compat-current.json").outcome is CellOutcome.PARTIAL


def test_of_a_part_of_the_suite_nothing_is_written(
    stages: Stages, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(tmp_path.iterdir())
    assert doctor("--only", "restore[gpt]") == 0
    assert sorted(tmp_path.iterdir()) == sorted([*before, tmp_path / "home"])
    assert "result:" not in capsys.readouterr().out


@pytest.mark.parametrize("left", [1, 2])
def test_a_suite_that_ends_early_writes_nothing(
    left: int, stages: Stages, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del stages.suite.events[left:]
    assert doctor() == InfrastructureError.exit_code
    assert not (tmp_path / "compat-current.json").exists()
    error = capsys.readouterr().err
    assert f"the suite ended early in the environment of {tmp_path / 'env'}" in error
    assert "with exit code 1" in error


def test_a_word_that_no_check_has_is_one_line(
    stages: Stages, capsys: pytest.CaptureFixture[str]
) -> None:
    stages.suite.events[:] = [{"event": "error", "message": "--only: no check matches 'x'\nmore"}]
    assert doctor("--only", "x") == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith("--only: no check matches 'x'")


def test_without_tools_and_network_it_says_so_in_one_line(
    stages: Stages, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def tools(*_: object, **__: object) -> Path:
        raise InfrastructureError("the suite's tools were not installed: no route to host")

    monkeypatch.setattr(creation, "tools", tools)
    assert doctor() == 3
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "pytest cannot be downloaded (once, into a separate folder)" in error
    assert stages.suite.runs == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--output", str(snapshot.WORKSPACE.reports / "x.json")], "is in reports/"),
        (["--output", "."], "is a folder"),
        (["--output", "no/where.json"], "does not exist"),
        (["--output", "env/lib/python3.12/site-packages/x.json"], "is in the environment"),
        (["--only", "x", "--output", "y.json"], "some checks give no verdict"),
        (["--limit", "0"], "more than 0 s"),
    ],
)
def test_bad_input_is_one_line_before_anything_runs(
    options: list[str], said: str, stages: Stages, capsys: pytest.CaptureFixture[str]
) -> None:
    assert doctor(*options) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert stages.suite.runs == 0


@pytest.mark.parametrize("options", [["--output", "x"], ["--only", "x"], ["--limit", "3"]])
def test_its_options_go_with_run(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", *options]) == 2
    assert f"{options[0]} goes with --run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"versions": {**VERSIONS, "megatron-core": None}}, "megatron-core not installed"),
        ({"python": "3.9.1"}, "the suite needs 3.10 or newer"),
    ],
)
def test_an_environment_that_cannot_be_asked_is_told_so(
    changed: Mapping[str, Any], said: str, stages: Stages, capsys: pytest.CaptureFixture[str]
) -> None:
    versions = changed.get("versions", VERSIONS)
    stages.there = Installed(
        python=changed.get("python", "3.12.1"),
        versions={n: v for n, v in versions.items() if v},
        requires={},
        places=stages.there.places,
    )
    assert doctor() == 2
    assert said in capsys.readouterr().err
    assert stages.suite.runs == 0


def test_a_transformer_engine_that_is_its_core_alone_has_its_version(
    stages: Stages, tmp_path: Path
) -> None:
    versions = {n: v for n, v in VERSIONS.items() if n != "transformer-engine"}
    stages.there = Installed(
        python="3.12.1",
        versions={**versions, "transformer-engine-cu12": "2.11.0+abc"},
        requires={},
        places=stages.there.places,
    )
    doctor()
    found = written(tmp_path / "compat-current.json")
    assert found.pins["transformer-engine"] == "2.11.0"
    assert found.cuda == 0


# Its variables

PYTHON = Path("/env/bin/python")


def test_what_the_user_has_set_stays(tmp_path: Path) -> None:
    (tmp_path / "nvidia" / "cudnn" / "lib").mkdir(parents=True)
    base = {
        "LD_LIBRARY_PATH": "/mine:/other",
        "CUDA_HOME": "/usr/local/cuda",
        "NVTE_DEBUG": "1",
        "PYTHONPATH": "/megatron",
        "PATH": "/usr/bin",
    }
    found = process_variables.inherited(PYTHON, tmp_path, tmp_path / "stub", base)
    assert found["LD_LIBRARY_PATH"].split(":") == [
        "/mine",
        "/other",
        str(tmp_path / "nvidia" / "cudnn" / "lib"),
        str(tmp_path / "stub"),
    ]
    assert {n: found[n] for n in ("CUDA_HOME", "NVTE_DEBUG", "PYTHONPATH")} == {
        n: base[n] for n in ("CUDA_HOME", "NVTE_DEBUG", "PYTHONPATH")
    }
    assert found["PATH"] == "/env/bin:/usr/bin"
    assert found["PYTHONDONTWRITEBYTECODE"] == "1"


def test_cuda_home_is_never_empty_where_the_packages_bring_cuda(tmp_path: Path) -> None:
    (tmp_path / "nvidia").mkdir()
    given = [{}, {"CUDA_HOME": ""}, {"CUDA_HOME": "", "CUDA_PATH": "/cuda"}]
    found = [
        process_variables.inherited(PYTHON, tmp_path, None, base)["CUDA_HOME"] for base in given
    ]
    assert found == [str(tmp_path / "nvidia"), str(tmp_path / "nvidia"), "/cuda"]


def test_where_nothing_is_brought_nothing_is_set(tmp_path: Path) -> None:
    found = process_variables.inherited(PYTHON, tmp_path, None, {"PATH": "/env/bin:/usr/bin"})
    assert set(found) == {"PATH", "PYTHONDONTWRITEBYTECODE", "HF_HUB_OFFLINE"}
    assert found["PATH"] == "/env/bin:/usr/bin"


def test_to_look_at_an_environment_compiles_nothing_into_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MCORE_COMPAT_HOME", str(tmp_path / "home"))
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "env"], check=True)
    (site,) = (tmp_path / "env" / "lib").glob("python3*/site-packages")
    (site / "mine.py").write_text("")
    (site / "mine.pth").write_text("import mine\n")
    python = tmp_path / "env" / "bin" / "python"

    def run(argv: Any, **options: Any) -> processes.Completed:
        return processes.run(argv, env={"PATH": "/usr/bin:/bin"}, **options)

    there = scan.inspect(python, run)
    assert site in there.places
    with pytest.raises(RuntimeError, match="went on to"):
        creation.tools(
            Workspace(ROOT).suite_tools,
            python=python,
            uv=Path("uv"),
            run=_stops(run),
            say=lambda line: None,
        )
    assert not list(site.rglob("__pycache__"))
    run([python, "-c", ""], timeout=60)
    assert list(site.rglob("__pycache__")), "the proof can fail"


def _stops(run: Any) -> Any:
    """A runner that lets the environment's Python be asked, and ends before uv installs."""

    def first(argv: Any, **options: Any) -> processes.Completed:
        if argv[0] == Path("uv"):
            raise RuntimeError("went on to uv")
        return run(argv, **options)

    return first
