"""What tests in a real cell share: its environment, made by `nox -s compat-0.16-modelopt0.41`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from support import ROOT

from mcore_compat.base import files, processes
from mcore_compat.core.workspace import Workspace
from mcore_compat.environments import creation, interpreters, process_variables
from mcore_compat.run import context

CELL = "compat-0.16-modelopt0.41"


def cell() -> tuple[Path, Path, dict[str, str]]:
    """The cell's Python, the folder of the suite's tools, and the variables of its processes."""
    folder = files.home() / "envs" / CELL
    assert folder.exists(), f"make the environment first: nox -s {CELL}"
    site = next((folder / "lib").glob("python3*/site-packages"))
    uv = context.find_uv()
    python = interpreters.find(site.parent.name.removeprefix("python"), processes.run, uv)
    lock = Workspace(ROOT).suite_tools
    tools = creation.tools(lock, python=python, uv=uv, run=processes.run, say=print)
    variables = process_variables.variables(
        site, process_variables.driver_stub(site, processes.run)
    )
    return folder / "bin" / "python", tools, dict(variables)


def asked(
    part: str, only: str, tmp_path: Path, variables: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Events by check of a run of a part of the suite; no result is stored."""
    python, tools, own = cell()
    events = tmp_path / "events.jsonl"
    argv = [python, ROOT / "suite" / "run.py", "--tools", tools, "--events", events]
    done = processes.run(
        [*argv, "--checks", ROOT / "suite" / part, "--only", only],
        timeout=570,
        env={**own, **(variables or {})},
        cwd=ROOT,
    )
    assert done.returncode == 0, done.output[-3000:]
    rows = [json.loads(line) for line in events.read_text().splitlines()]
    assert rows[-1]["event"] == "end"
    return {row["check"]: row for row in rows if row["event"] == "check"}
