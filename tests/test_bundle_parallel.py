"""Cells of a bundle side by side, detached, killed: what was learnt is there at every moment."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import bundle_support
import pytest
from bundle_support import CELL, StandIn, run

from mcore_compat.offline import archive, contents, node_result
from mcore_compat.offline.node import detached, parallel
from mcore_compat.offline.node.environment import NodeRun
from mcore_compat.offline.node.run_script import DONE, LOG, RESULTS, RUNNING, SUMMARY, wait

OTHER = bundle_support.replace(CELL, name="compat-0.16-modelopt0.42")
ENDS_S = 15.0


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> StandIn:
    return bundle_support.stand_in(tmp_path_factory.mktemp("repository"))


@pytest.fixture
def bundle(made: StandIn, tmp_path: Path) -> Path:
    """A bundle of two cells."""
    packed = [made.packed(), made.packed(cell=OTHER)]
    archive.lay_out(contents.bundle_files(packed, made.tools, made.workspace), tmp_path / "bundle")
    return tmp_path / "bundle"


def came_home(folder: Path) -> dict[str, dict[str, Any]]:
    """The results in the archive, by cell."""
    found = {}
    with tarfile.open(folder / RESULTS) as source:
        for member in source:
            if member.name.startswith("results/"):
                found[member.name.split("/")[1]] = json.load(source.extractfile(member))  # type: ignore[arg-type]
    return found


def checks(data: Mapping[str, Any]) -> list[str]:
    return [event["check"] for event in data["events"] if event["event"] == "check"]


def until(true: Callable[[], bool], seconds: float = 60.0) -> bool:
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.1)
    return true()


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def started(bundle: Path, *words: str, **variables: str) -> subprocess.Popen[bytes]:
    path = f"{bundle_support.context.find_uv().parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.Popen(
        [sys.executable, "run.py", *words],
        cwd=bundle,
        env={**os.environ, "PATH": path, **variables},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def test_two_cells_leave_one_archive(bundle: Path, tmp_path: Path) -> None:
    done = run(bundle, "--gpu", "--all", "-j", "2", "--results", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [RESULTS, SUMMARY]
    found = came_home(tmp_path / "out")
    assert sorted(found) == sorted([CELL.name, OTHER.name])
    assert all(data["complete"] and len(checks(data)) == 2 for data in found.values())
    assert f"{OTHER.name}: ended, 2/2 checks, 0 broken" in (tmp_path / "out" / SUMMARY).read_text()
    with tarfile.open(tmp_path / "out" / RESULTS) as source:
        assert f"logs/{CELL.name}.gpu/suite.log" in source.getnames()


def test_another_run_in_the_same_folder_counts_its_own_checks(bundle: Path) -> None:
    words = ("--cell", CELL.name, "--results", "out")
    assert run(bundle, "--gpu", *words).returncode == 0
    (bundle / f".{RESULTS}.1").touch()  # as of a run that was killed while it wrote
    (bundle / "out" / f".{SUMMARY}.1").touch()
    again = run(bundle, "--main", *words)
    assert again.returncode == 0, again.stderr
    assert f"{CELL.name}: ended, 2/2 checks" in again.stdout
    with tarfile.open(bundle / "out" / RESULTS) as source:
        found = [name for name in source.getnames() if name.startswith("results/")]
    assert [name.split("/")[2] for name in found] == ["gpu.host.json", "main.host.json"], "of both"
    (bundle / "out" / "more.py").touch()
    refused = run(bundle, "--main", *words)
    assert refused.returncode == 2
    assert "does not belong to this bundle" in refused.stderr


def test_what_an_earlier_run_learnt_stays_until_another_is_whole(bundle: Path) -> None:
    words = ("--cell", CELL.name)
    place = bundle / "results" / CELL.name
    assert run(bundle, *words).returncode == 0
    taken = json.loads((place / "main.host.json").read_text())["taken"]
    assert run(bundle, *words, "--only", "import-torch").returncode == 0
    aside = place / f"main.host.{taken.replace(':', '')}.json"
    assert json.loads(aside.read_text())["complete"] is True
    assert checks(json.loads((place / "main.host.json").read_text())) == ["import-torch"]
    assert run(bundle, *words).returncode == 0
    assert [path.name for path in place.iterdir()] == ["main.host.json"]


def test_an_archive_goes_through_a_narrow_door(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "ARCHIVE_BYTES", 100_000)
    here = NodeRun(root=tmp_path, digest="", into=tmp_path, args=argparse.Namespace(results=None))
    bundle_support.put(tmp_path / "results" / "compat-a" / "main.host.json", "e" * 60_000)
    for name in "abcd":
        bundle_support.put(tmp_path / "logs" / f"compat-{name}" / "suite.log", "l" * 50_000 + name)
    parallel.keep([], here)
    assert (tmp_path / RESULTS).stat().st_size < 100_000 + 2 * tarfile.RECORDSIZE
    with tarfile.open(tmp_path / RESULTS) as source:
        sizes = {member.name: member.size for member in source}
        last = source.extractfile("logs/compat-d/suite.log")
        assert last is not None
        assert last.read().endswith(b"ld"), "its end"
    assert sizes["results/compat-a/main.host.json"] == 60_000
    assert 5_000 < sizes["logs/compat-a/suite.log"] < 10_000


def test_a_log_that_goes_while_it_is_read_stops_nothing(tmp_path: Path) -> None:
    here = NodeRun(root=tmp_path, digest="", into=tmp_path, args=argparse.Namespace(results=None))
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "gone.log").symlink_to(tmp_path / "nowhere")
    parallel.keep([], here)
    assert (tmp_path / RESULTS).exists()


def test_a_cell_that_fails_stops_no_other(bundle: Path, tmp_path: Path) -> None:
    with started(bundle, "--cell", CELL.name, STAND_IN_HANGS=str(tmp_path / "pid")) as alone:
        assert until((tmp_path / "pid").exists)
        done = run(bundle, "--all", "-j", "2", "--results", str(tmp_path / "out"))
        assert done.returncode == 3
        assert f"{CELL.name}: failed with 3" in done.stdout
        assert "another process already runs" in done.stdout
        assert checks(came_home(tmp_path / "out")[OTHER.name])
        alone.send_signal(signal.SIGTERM)


def test_killed_it_takes_all_with_it_and_leaves_what_was_learnt(
    bundle: Path, tmp_path: Path
) -> None:
    hanging = tmp_path / "hanging"
    hanging.mkdir()
    words = ("--all", "-j", "2", "--results", str(tmp_path / "out"))
    variables = {"STAND_IN_HANGS": str(hanging), "STAND_IN_HANGS_AT": "import-torch"}
    with started(bundle, *words, **variables) as process:
        assert until(lambda: len(list(hanging.iterdir())) == 2)
        assert until(lambda: (tmp_path / "out" / RESULTS).exists() and len(came_home(bundle)) == 2)
        process.send_signal(signal.SIGKILL)
    assert until(lambda: all(gone(int(path.name)) for path in hanging.iterdir()), ENDS_S)
    found = came_home(tmp_path / "out")
    assert sorted(found) == sorted([CELL.name, OTHER.name])
    for data in found.values():
        assert data["complete"] is False
        assert checks(data) == ["import-megatron_core"]


def test_killed_at_any_moment_nothing_goes_on(bundle: Path, tmp_path: Path) -> None:
    """While environments are made, while suites start, while checks run: whenever that is."""
    tells = tmp_path / "tells"
    with started(bundle, "--all", "-j", "2", "--keep", STAND_IN_TELLS=str(tells)) as process:
        time.sleep(random.uniform(0.3, 3))
        process.send_signal(signal.SIGKILL)
    assert until(lambda: not below(bundle), ENDS_S), below(bundle)
    for path in bundle.glob("results/*/*.json"):
        node_result.parse(path.read_text(), path.name)


def below(folder: Path) -> list[str]:
    """The command lines of all processes that name something in a folder, or work there."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            if str(folder) in words or (process / "cwd").resolve().is_relative_to(folder):
                found.append(words)
    return found


def test_a_detached_run_tells_what_it_fell_over(tmp_path: Path) -> None:
    def fails() -> int:
        raise ZeroDivisionError("a stand-in")

    assert detached.detach(tmp_path, fails) == 0
    assert until(lambda: (tmp_path / DONE).exists())
    assert wait(tmp_path, 10, None) == 3
    assert "ZeroDivisionError: a stand-in" in (tmp_path / LOG).read_text()


def test_detached_it_is_asked_again(bundle: Path, tmp_path: Path) -> None:
    hanging = tmp_path / "hanging"
    hanging.mkdir()
    words = ("--cell", CELL.name, "--results", str(tmp_path / "first"), "--detach")
    variables = {"STAND_IN_HANGS": str(hanging), "STAND_IN_HANGS_AT": "import-torch"}
    assert run(bundle, *words, **variables).returncode == 0
    assert until(lambda: len(list(hanging.iterdir())) == 1)
    again = run(bundle, *words)
    assert again.returncode == 2
    assert "a run is already active" in again.stderr
    asked = run(bundle, "--wait", "0.5", "--results", str(tmp_path / "second"))
    assert asked.returncode == RUNNING, asked.stderr
    (pid,) = (int(path.name) for path in hanging.iterdir())
    os.kill(pid, signal.SIGKILL)
    ended = run(bundle, "--wait", "60", "--results", str(tmp_path / "second"))
    assert ended.returncode == 3, "the suite was killed"
    assert f"{CELL.name}: failed with 3, 1/2 checks" in ended.stdout
    assert checks(came_home(tmp_path / "second")[CELL.name]) == ["import-megatron_core"]


def test_nothing_to_wait_for_is_said(bundle: Path) -> None:
    done = run(bundle, "--wait", "1")
    assert done.returncode == 2
    assert "there is no detached run" in done.stderr


def test_all_and_some_exclude_each_other(bundle: Path) -> None:
    done = run(bundle, "--all", "--cell", CELL.name)
    assert done.returncode == 2
    assert done.stderr == "run.py: --all and --cell exclude each other\n"
