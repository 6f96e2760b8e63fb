"""What tests in a real cell share: its environment, made by `nox -s compat-0.16-modelopt0.41`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mcore_compat import environment, files, interpreters, pipeline, proc, runtime

CELL = "compat-0.16-modelopt0.41"


def cell() -> tuple[Path, Path, dict[str, str]]:
    """The cell's Python, the folder of the suite's tools, and the variables of its processes."""
    folder = files.home() / "envs" / CELL
    assert folder.exists(), f"make the environment first: nox -s {CELL}"
    site = next((folder / "lib").glob("python3*/site-packages"))
    uv = pipeline.find_uv()
    python = interpreters.find(site.parent.name.removeprefix("python"), proc.run, uv)
    tools = environment.tools(python=python, uv=uv, run=proc.run, say=print)
    variables = runtime.variables(site, runtime.driver_stub(site, proc.run))
    return folder / "bin" / "python", tools, dict(variables)


def asked(
    part: str, only: str, tmp_path: Path, variables: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Events by check of a run of a part of the suite; no evidence is stored."""
    python, tools, own = cell()
    events = tmp_path / "events.jsonl"
    argv = [python, files.ROOT / "suite" / "run.py", "--tools", tools, "--events", events]
    done = proc.run(
        [*argv, "--checks", files.ROOT / "suite" / part, "--only", only],
        timeout=570,
        env={**own, **(variables or {})},
        cwd=files.ROOT,
    )
    assert done.returncode == 0, done.output[-3000:]
    rows = [json.loads(line) for line in events.read_text().splitlines()]
    assert rows[-1]["event"] == "end"
    return {row["check"]: row for row in rows if row["event"] == "check"}
