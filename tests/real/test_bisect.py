"""`bisect` at a real boundary of which the results between the ends are hidden: it has to run cells
and comes to what all of the results say. Slow; selected by `nox -s real`.

Runs in a copy of the repository, so that no stored result is touched.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import ROOT

from mcore_compat.core.workspace import Workspace

pytestmark = pytest.mark.real

GOOD, BAD = "compat-0.16-modelopt0.41", "compat-0.16-modelopt0.33"
BETWEEN = tuple(f"compat-0.16-modelopt{series}" for series in ("0.35", "0.37", "0.39", "0.40"))
CHECK = "modelopt-state-int8[hybrid-mamba]"
MOST = 3
"""ceil(log2(6)): the ends are known."""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """What a run reads of the repository, with the results of this line alone."""
    for name in ("mcore_compat", "suite", "constraints"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in (GOOD, BAD, *BETWEEN):
        shutil.copytree(Workspace(ROOT).results / name, Workspace(tmp_path).results / name)
    return tmp_path


def bisect(root: Path, *options: str) -> tuple[int, dict[str, Any]]:
    argv = [sys.executable, "-m", "mcore_compat.cli", "bisect", "--good", GOOD, "--bad", BAD]
    argv += ["--check", CHECK, "--stale", "--format", "json", *options]
    done = subprocess.run(
        argv,
        capture_output=True,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        timeout=1800,
    )
    assert done.returncode in (0, 1), done.stderr[-2000:]
    return done.returncode, json.loads(done.stdout)


def test_with_what_lies_between_hidden_it_comes_to_what_all_results_say(copy: Path) -> None:
    code, whole = bisect(copy, "--no-run")
    assert (code, whole["ran"]) == (0, [])
    for name in BETWEEN:
        shutil.rmtree(Workspace(copy).results / name)
    code, hidden = bisect(copy, "--no-run")
    assert code == 1
    assert (hidden["last"], hidden["first"]) == (
        whole["points"][0]["version"],
        whole["points"][-1]["version"],
    )
    code, found = bisect(copy)
    assert code == 0
    assert [found[key] for key in ("last", "first")] == [whole[key] for key in ("last", "first")]
    assert 1 <= len(found["ran"]) <= MOST
    assert set(found["ran"]) <= set(BETWEEN)
    assert found["failure"]["fingerprint"] == whole["failure"]["fingerprint"]
    stored = {path.parent.name for path in Workspace(copy).results.glob("compat-*/main.host.json")}
    assert stored == {GOOD, BAD, *found["ran"]}
    assert bisect(copy)[1]["ran"] == []  # what was run is kept
