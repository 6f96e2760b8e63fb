"""Break a real cell on purpose, and see its checks say so. Slow; selected by `nox -s real`.

Uses the environment that `nox -s compat-0.16-modelopt0.41` made, and stores no result.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support import ROOT

from mcore_compat.base import files, processes
from mcore_compat.core.workspace import Workspace
from mcore_compat.environments import creation, interpreters, process_variables
from mcore_compat.run import context

CELL = "compat-0.16-modelopt0.41"

pytestmark = pytest.mark.real


def asked(kind: str | None, only: str, tmp_path: Path, limit: float = 120) -> dict[str, Any]:
    """Events by check of a run of the suite in the real cell, with one thing sabotaged."""
    folder = files.home() / "envs" / CELL
    assert folder.exists(), f"make the environment first: nox -s {CELL}"
    site = next((folder / "lib").glob("python3*/site-packages"))
    tools = _tools(folder)
    events = tmp_path / "events.jsonl"
    variables = process_variables.variables(
        site, process_variables.driver_stub(site, processes.run)
    )
    if kind:
        variables["MCORE_COMPAT_SABOTAGE"] = kind
    argv = [folder / "bin" / "python", ROOT / "suite" / "run.py", "--tools", tools]
    done = processes.run(
        [*argv, "--events", events, "--only", only, "--timeout", str(limit)],
        timeout=570,
        env=variables,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.output[-3000:]
    rows = [json.loads(line) for line in events.read_text().splitlines()]
    assert rows[0]["sabotage"] == kind
    assert rows[-1]["event"] == "end"
    return {row["check"]: row for row in rows if row["event"] == "check"}


def _tools(folder: Path) -> Path:
    version = next((folder / "lib").glob("python3*")).name.removeprefix("python")
    uv = context.find_uv()
    python = interpreters.find(version, processes.run, uv)
    lock = Workspace(ROOT).suite_tools
    return creation.tools(lock, python=python, uv=uv, run=processes.run, say=print)


def test_unharmed_the_checks_work(tmp_path: Path) -> None:
    found = asked(None, "restore[gpt]", tmp_path)
    assert found["restore[gpt]"]["outcome"] == "works"


@pytest.mark.parametrize("kind", ["drop-key-map", "change-tensor", "rename-parameter"])
def test_a_restore_that_loses_something_is_broken(kind: str, tmp_path: Path) -> None:
    found = asked(kind, "restore[gpt]", tmp_path)
    assert found["restore[gpt]"]["outcome"] == "broken"
    assert found["restore[gpt]"]["failure"]["gpu_independent"]


def test_one_changed_tensor_breaks_every_check_that_restores(tmp_path: Path) -> None:
    names = ["restore[hybrid-mamba]", "restore-state-dict[gpt]", "modelopt-state-fp8[gpt]"]
    found = asked("change-tensor", ",".join(names), tmp_path)
    assert {name: found[name]["outcome"] for name in names} == dict.fromkeys(names, "broken")
    for name in names:
        assert "of other values" in found[name]["failure"]["message"]


def test_a_spec_that_does_not_build_is_broken_and_blocks_what_follows(tmp_path: Path) -> None:
    names = "build-default[gpt],build-modelopt[gpt],restore[gpt]"
    found = asked("refuse-build", names, tmp_path)
    assert found["build-default[gpt]"]["outcome"] == "works"
    assert found["build-modelopt[gpt]"]["outcome"] == "broken"
    assert found["restore[gpt]"]["outcome"] == "blocked"
    assert "build-modelopt[gpt]" in found["restore[gpt]"]["reason"]


def test_a_dropped_key_map_entry_is_seen_in_the_spec(tmp_path: Path) -> None:
    found = asked("drop-key-map", "spec-key-map[gpt]", tmp_path)
    assert found["spec-key-map[gpt]"]["outcome"] == "broken"


def test_a_quantizer_that_is_given_another_tensor_is_broken(tmp_path: Path) -> None:
    name = "te-quantizers-linear-no-grad"
    found = asked("swap-quantizers", name, tmp_path)
    assert found[name]["outcome"] == "broken"
    assert "weight_quantizer is given [8, 32], not [64, 32]" in found[name]["failure"]["message"]


LOGITS = """
import sys, torch
sys.path.append(sys.argv[1])
from suite import check_inference as inference, noise
limit = noise.Distances(1e-3, 1e-3)
judged = lambda *both: noise.beyond(inference.differences(*both), limit)
torch.manual_seed(0)
whole = torch.randn(1, 8, 16)
good = [whole, whole[:, :-1], whole[:, -1:]]
assert judged(good, good) == []
for step in range(3):
    for value in (float("nan"), good[step].flatten()[-1].item() + 0.1):
        bad = [part.clone() for part in good]
        bad[step].view(-1)[-1] = value
        problems = judged(good, bad)
        assert any(inference.STEPS[step] in text for text in problems), (step, value, problems)
"""


def test_logits_that_differ_are_told_whatever_the_step(tmp_path: Path) -> None:
    # The judgement alone, on numbers of ours: the logits themselves need a GPU.
    folder = files.home() / "envs" / CELL
    done = processes.run(
        [folder / "bin" / "python", "-c", LOGITS, ROOT],
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(_tools(folder))},
    )
    assert done.ok, done.output


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
