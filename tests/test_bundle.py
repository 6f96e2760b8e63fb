"""Bundles of stand-ins: made, carried, run by a real Python in real environments. What is tested
is that nothing gets lost or in between; no package under test is in them."""

from __future__ import annotations

import ensurepip
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bundle_support
import pytest
from bundle_support import (
    CELL,
    RESULT,
    SERIES,
    StandIn,
    base_python,
    contents_of,
    offline,
    result_of,
    run,
    wheel,
    written,
)

from mcore_compat.base import files
from mcore_compat.offline import archive, contents, node_result
from mcore_compat.run.check_sets import GPU


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> StandIn:
    return bundle_support.stand_in(tmp_path_factory.mktemp("repository"))


@pytest.fixture
def bundle(made: StandIn, tmp_path: Path) -> Path:
    return made.laid_out(tmp_path / "bundle")


def environments(folder: Path) -> list[Path]:
    """What runs have left behind, or are using."""
    return list((folder / "work").glob("*"))


# Run there


def test_it_runs_without_a_network_and_writes_a_result(made: StandIn, bundle: Path) -> None:
    if not offline():
        pytest.skip("this machine makes no network namespace for a test")
    done = run(bundle)
    assert done.returncode == 0, done.stderr
    found = result_of(bundle)
    assert found["lock"] == made.lock.digest
    assert found["suite"] == files.sha256_tree(made.workspace.suite, deep=False)
    assert found["wheels"] == {one.path.name: one.sha256 for one in made.local}
    assert found["base"] is None
    assert found["part"] is None
    events = found["events"]
    assert isinstance(events, list)
    assert [e["event"] for e in events] == ["start", "check", "check", "end"]
    wanted = {pin.name: pin.version for pin in (*made.lock.pins, *made.lock.source_only)}
    assert events[0]["installed"] == wanted
    assert not environments(bundle), "the environment is removed"
    assert "works 2" in done.stdout
    node_result.parse(json.dumps(found), "it")


def test_pip_of_the_bundle_does_it_as_well(bundle: Path, made: StandIn, tmp_path: Path) -> None:
    bundled = sorted((Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl"))
    if not bundled:
        pytest.skip("this Python comes without the wheel of pip that the test takes")
    tools = {**made.tools, files.sha256_file(bundled[0]): bundled[0]}
    archive.lay_out(
        contents.bundle_files([made.packed()], tools, made.workspace), tmp_path / "with-pip"
    )
    done = run(tmp_path / "with-pip", "--installer", "pip", PIP_INDEX_URL="http://index.invalid")
    assert done.returncode == 0, done.stderr
    assert run(bundle, "--installer", "uv").returncode == 0
    both = [result_of(folder)["events"] for folder in (bundle, tmp_path / "with-pip")]
    assert [e["installed"] for e in (both[0][0], both[1][0])] == [both[0][0]["installed"]] * 2  # type: ignore[index]


def test_a_machine_without_a_loopback_is_refused(bundle: Path) -> None:
    if not offline():
        pytest.skip("this machine makes no network namespace for a test")
    argv = ["unshare", "-rn", sys.executable, "run.py"]
    done = subprocess.run(argv, cwd=bundle, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "no loopback interface" in done.stderr


def test_an_old_python_starts_it(bundle: Path) -> None:
    old = next((p for p in Path.home().glob(".pyenv/versions/3.10.*/bin/python")), None)
    old = old or (Path(found) if (found := shutil.which("python3.10")) else None)
    if old is None:
        pytest.skip("there is no Python 3.10 on this machine")
    done = run(bundle, "--python", sys.executable, python=old)
    assert done.returncode == 0, done.stderr
    assert result_of(bundle)["cell"] == CELL.name


def test_of_some_checks_the_result_is_not_complete(bundle: Path) -> None:
    done = run(bundle, "--only", "import-torch")
    assert done.returncode == 0, done.stderr
    assert "works 1" in done.stdout
    found = result_of(bundle)
    assert found["complete"] is False
    node_result.parse(json.dumps(found), "it")


def test_a_part_of_the_suite_is_run_in_its_place(bundle: Path, made: StandIn) -> None:
    done = run(bundle, "--gpu")
    assert done.returncode == 0, done.stderr
    assert f"{CELL.name}.gpu (host): works 2" in done.stdout
    assert written(bundle) == ["gpu.host.json"]
    found = result_of(bundle, RESULT.with_name("gpu.host.json"))
    node_result.parse(json.dumps(found), "it")
    assert found["suite"] == files.sha256_tree(made.workspace.suite, deep=False)
    assert found["part"] == {"name": "gpu", "digest": GPU.digest(made.workspace.suite)}
    assert [e.get("check") for e in found["events"]][1] == "gpu-megatron_core"  # type: ignore[attr-defined]


def test_with_a_gpu_a_whole_run_has_all_parts(bundle: Path) -> None:
    done = run(bundle, "--only", "import-torch", STAND_IN_DEVICE="gpu")
    assert done.returncode == 0, done.stderr
    assert written(bundle) == ["main.gpu.json"]
    done = run(bundle, STAND_IN_DEVICE="gpu")
    assert done.returncode == 0, done.stderr
    assert written(bundle) == ["gpu.gpu.json", "main.gpu.json", "ranks.gpu.json"]


def test_two_cells_of_a_bundle_run_at_the_same_time(made: StandIn, tmp_path: Path) -> None:
    other = bundle_support.replace(CELL, name="compat-0.16-modelopt0.42")
    packed = [made.packed(), made.packed(cell=other)]
    bundle = tmp_path / "bundle"
    archive.lay_out(contents.bundle_files(packed, made.tools, made.workspace), bundle)
    with hanging(bundle, tmp_path / "pid", "--cell", CELL.name):
        used = environments(bundle)
        done = run(bundle, "--cell", other.name)
        assert done.returncode == 0, done.stderr
        assert environments(bundle) == used == [bundle / "work" / CELL.name]
        refused = run(bundle, "--cell", CELL.name)
        assert refused.returncode == 3
        last = refused.stderr.splitlines()[-1]
        assert f"another process already runs {CELL.name} in {bundle}" in last
        assert environments(bundle) == used
        assert (used[0] / "environment" / "bin" / "python").exists()


def test_a_kept_environment_is_taken_again(bundle: Path) -> None:
    assert "creating the environment" in run(bundle, "--keep").stderr
    again = run(bundle, "--keep")
    assert again.returncode == 0, again.stderr
    assert "creating the environment" not in again.stderr
    site = next((bundle / "work" / CELL.name).glob("environment/lib/python3*/site-packages"))
    shutil.rmtree(next(site.glob("numpy-*.dist-info")))
    assert "creating the environment" in run(bundle).stderr


@pytest.mark.parametrize("words", [["--cell", "compat-0.9-modelopt0.21"], ["--limit", "0"]])
def test_what_is_wrong_is_said_in_one_line(bundle: Path, words: list[str]) -> None:
    done = run(bundle, *words)
    assert done.returncode == 2
    assert words[0].strip("-") in done.stderr.splitlines()[-1]
    assert not (bundle / "results").exists()


def test_a_suite_that_ends_early_leaves_what_it_learnt(bundle: Path) -> None:
    done = run(bundle, STAND_IN_ENDS_EARLY="1")
    assert done.returncode == 3
    assert "ended early" in done.stderr
    found = result_of(bundle)
    assert found["complete"] is False
    assert outcomes(found) == {"import-megatron_core": "works", "import-torch": "works"}
    node_result.parse(json.dumps(found), "it")


def outcomes(found: Mapping[str, Any]) -> dict[str, str]:
    return {e["check"]: e["outcome"] for e in found["events"] if e["event"] == "check"}


def alive(pid: int) -> bool:
    try:
        return (Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]) != "Z"
    except OSError:
        return False


def test_a_suite_past_its_limit_is_killed(bundle: Path, tmp_path: Path) -> None:
    hangs = {"STAND_IN_HANGS": str(tmp_path / "pid"), "STAND_IN_HANGS_AT": "import-torch"}
    done = run(bundle, "--suite-limit", "2", **hangs)
    assert done.returncode == 3
    assert "passed its limit of 2 s" in done.stderr
    assert outcomes(result_of(bundle)) == {"import-megatron_core": "works"}
    assert not alive(int((tmp_path / "pid").read_text()))
    assert not environments(bundle)


@contextmanager
def hanging(bundle: Path, pid: Path, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A run whose suite hangs, from then on; it is ended with the block."""
    path = f"{bundle_support.context.find_uv().parent}{os.pathsep}{os.environ['PATH']}"
    with subprocess.Popen(
        [sys.executable, "run.py", *words],
        cwd=bundle,
        env={**os.environ, "PATH": path, "STAND_IN_HANGS": str(pid)},
        stderr=subprocess.PIPE,
    ) as started:
        try:
            deadline = time.monotonic() + 60
            while not pid.exists() and time.monotonic() < deadline:
                time.sleep(0.1)
            yield started
        finally:
            if started.poll() is None:
                started.send_signal(signal.SIGTERM)
                started.communicate(timeout=30)


def test_an_interruption_ends_everything(bundle: Path, tmp_path: Path) -> None:
    with hanging(bundle, tmp_path / "pid") as started:
        started.send_signal(signal.SIGTERM)
        assert started.communicate(timeout=30)[1].endswith(b"run.py: interrupted\n")
    assert started.returncode == 130
    assert not alive(int((tmp_path / "pid").read_text()))
    assert not environments(bundle)


# Over what is there


def test_over_the_torch_that_is_there(made: StandIn, tmp_path: Path) -> None:
    python = base_python(
        tmp_path / "base",
        wheel(tmp_path, "torch", "2.8.0a0+5228986c39.nv25.6"),
        wheel(tmp_path, "transformer-engine", "2.4.0+3cd6870"),
        wheel(tmp_path, "numpy", "1.26.4"),
        wheel(tmp_path, "filelock", "3.18.0"),
        wheel(tmp_path, "nvidia-ml-py", "13.5"),
        wheel(tmp_path, "megatron-core", "0.13.0"),
    )
    before = contents_of(tmp_path / "base")
    bundle = made.laid_out(tmp_path / "bundle", ["torch", "nvidia-*"])
    assert not list(bundle.glob("wheels/torch-*"))
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    done = run(bundle, "--base", "current", python=python, TMPDIR=str(temporary))
    assert done.returncode == 0, done.stderr
    found = result_of(bundle, RESULT.with_name("main.host-base.json"))
    # numpy 1.26 is there, and ModelOpt does not admit it; the rest stays.
    short = "2.8.0a0+5228986c39.nv25.6"
    node_result.parse(json.dumps(found), "it")
    assert found["base"] == {
        "changed": {},
        "installed": ["megatron-core", "numpy", "nvidia-modelopt"],
        "toolkit": None,
        "unmet": [
            f"megatron-core {CELL.mcore} requires torch>=2.9, {short} is there",
            f"mamba-ssm was compiled for torch {CELL.torch}, this Python has {short}",
        ],
        "without": ["torch", "nvidia-*"],
    }
    start_, *checks, _ = found["events"]  # type: ignore[misc]
    there = start_["installed"]
    assert there["torch"] == "2.8.0a0+5228986c39.nv25.6"
    assert there["transformer-engine"] == "2.4.0+3cd6870"
    assert (there["megatron-core"], there["numpy"]) == (CELL.mcore, "2.4.4")
    assert {c["details"]["version"] for c in checks} == {CELL.mcore, "2.8.0a0+5228986c39.nv25.6"}
    assert contents_of(tmp_path / "base") == before, "nothing is changed there"
    assert not list(temporary.iterdir()), "the environment is removed"


def test_over_a_base_parts_of_the_suite_tell_so_as_well(made: StandIn, tmp_path: Path) -> None:
    python = base_python(
        tmp_path / "base",
        *(wheel(tmp_path, name, "2.8.0a0") for name in ("torch", "transformer-engine")),
    )
    bundle = made.laid_out(tmp_path / "bundle", ["torch", "nvidia-*", "mamba-ssm"])
    done = run(bundle, "--base", "current", "--ranks", python=python)
    assert done.returncode == 0, done.stderr
    assert written(bundle) == ["ranks.host-base.json"]
    found = result_of(bundle, RESULT.with_name("ranks.host-base.json"))
    node_result.parse(json.dumps(found), "it")
    assert isinstance(found["base"], dict)
    assert "mamba-ssm was left out, and this Python does not have it" in found["base"]["unmet"]


def test_a_bundle_without_torch_needs_one(made: StandIn, tmp_path: Path) -> None:
    bundle = made.laid_out(tmp_path / "bundle", ["torch"])
    python = base_python(tmp_path / "base", wheel(tmp_path, "numpy", "2.4.4"))
    done = run(bundle, python=python)
    assert done.returncode == 2
    assert "this Python has no torch" in done.stderr.splitlines()[-1]


def test_what_was_compiled_for_another_torch_is_refused(made: StandIn, tmp_path: Path) -> None:
    bundle = made.laid_out(tmp_path / "bundle", ["torch"])
    python = base_python(tmp_path / "base", wheel(tmp_path, "torch", "2.8.0"))
    done = run(bundle, python=python)
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert "transformer-engine-torch of this bundle was compiled for torch 2.9.1" in last
    assert "this Python has 2.8.0" in last


def test_another_python_cannot_be_the_base(made: StandIn, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    made.laid_out(folder, ["torch"])
    path = folder / "cells" / f"{CELL.name}.json"
    text = path.read_text().replace(f'"python": "{SERIES}"', '"python": "3.9"')
    entries = [e for e in made.bundle_files(["torch"]) if not e.name.startswith("cells/")]
    shutil.rmtree(folder)
    entry = archive.BundleFile(name=f"cells/{CELL.name}.json", source=text.encode())
    archive.lay_out([*entries, entry], folder)
    done = run(folder)
    assert done.returncode == 2
    assert f"with -py{SERIES} in its name" in done.stderr


def test_a_wheel_that_was_changed_for_its_size_is_told(made: StandIn, tmp_path: Path) -> None:
    python = base_python(
        tmp_path / "base",
        *(wheel(tmp_path, name, "2.8.0") for name in ("torch", "transformer-engine")),
    )
    place, text = f"cells/{CELL.name}.json", "GPU code of sm_90 only"
    entries = {entry.name: entry for entry in made.bundle_files(["torch", "mamba-ssm"])}
    source = entries[place].source
    assert isinstance(source, bytes)
    cell = json.loads(source)
    for package in cell["packages"]:
        if package["name"] in ("nvidia-modelopt", "numpy", "transformer-engine-cu12"):
            package["changed"] = text
    entries[place] = archive.BundleFile(name=place, source=json.dumps(cell).encode())
    archive.lay_out(list(entries.values()), tmp_path / "bundle")
    done = run(tmp_path / "bundle", "--base", "current", python=python)
    assert done.returncode == 0, done.stderr
    found = result_of(tmp_path / "bundle", RESULT.with_name("main.host-base.json"))
    node_result.parse(json.dumps(found), "it")
    assert isinstance(found["base"], dict)
    assert found["base"]["changed"] == {"numpy": text, "nvidia-modelopt": text}, "of what is used"
