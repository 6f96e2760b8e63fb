"""Break a real cell on purpose, and see its checks say so. Slow; selected by `nox -s real`.

Uses the environment that `nox -s compat-0.16-modelopt0.41` made, and stores no evidence.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mcore_compat import environment, files, interpreters, pipeline, proc, runtime

CELL = "compat-0.16-modelopt0.41"

pytestmark = pytest.mark.real


def asked(kind: str | None, only: str, tmp_path: Path, limit: float = 120) -> dict[str, Any]:
    """Events by check of a run of the suite in the real cell, with one thing sabotaged."""
    folder = files.home() / "envs" / CELL
    assert folder.exists(), f"make the environment first: nox -s {CELL}"
    site = next((folder / "lib").glob("python3*/site-packages"))
    uv = pipeline.find_uv()
    python = interpreters.find(site.parent.name.removeprefix("python"), proc.run, uv)
    tools = environment.tools(python=python, uv=uv, run=proc.run, say=print)
    events = tmp_path / "events.jsonl"
    variables = runtime.variables(site, runtime.driver_stub(site, proc.run))
    if kind:
        variables["MCORE_COMPAT_SABOTAGE"] = kind
    argv = [folder / "bin" / "python", files.ROOT / "suite" / "run.py", "--tools", tools]
    done = proc.run(
        [*argv, "--events", events, "--only", only, "--timeout", str(limit)],
        timeout=570,
        env=variables,
        cwd=files.ROOT,
    )
    assert done.returncode == 0, done.output[-3000:]
    rows = [json.loads(line) for line in events.read_text().splitlines()]
    assert rows[0]["sabotage"] == kind
    assert rows[-1]["event"] == "end"
    return {row["check"]: row for row in rows if row["event"] == "check"}


def test_unharmed_the_checks_work(tmp_path: Path) -> None:
    found = asked(None, "restore[gpt]", tmp_path)
    assert found["restore[gpt]"]["outcome"] == "works"


@pytest.mark.parametrize("kind", ["drop-key-map", "change-tensor", "rename-parameter"])
def test_a_restore_that_loses_something_is_broken(kind: str, tmp_path: Path) -> None:
    found = asked(kind, "restore[gpt]", tmp_path)
    assert found["restore[gpt]"]["outcome"] == "broken"
    assert found["restore[gpt]"]["failure"]["gpu_independent"]


def test_a_segfault_costs_only_its_own_check(tmp_path: Path) -> None:
    found = asked(
        "segfault-restore", "restore[gpt],build-default[gpt],build-modelopt[gpt]", tmp_path
    )
    assert found["restore[gpt]"]["outcome"] == "crashed"
    assert "SIGSEGV" in found["restore[gpt]"]["reason"]
    assert found["build-default[gpt]"]["outcome"] == "works"
    assert found["build-modelopt[gpt]"]["outcome"] == "works"


def test_a_writer_that_hangs_is_timed_out_and_leaves_no_process(tmp_path: Path) -> None:
    found = asked("hang-writer", "restore[gpt]", tmp_path, limit=20)
    assert found["restore[gpt]"]["outcome"] == "timed-out"
    left = subprocess.run(["pgrep", "-f", "suite/run.py"], capture_output=True, text=True).stdout
    assert not [pid for pid in left.split() if str(tmp_path) in _command(pid)]


def _command(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except FileNotFoundError:
        return ""
