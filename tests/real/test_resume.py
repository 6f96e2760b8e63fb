"""Killed at random moments and resumed, a run of many cells ends with what one run would have
come to. Slow; selected by `nox -s real`. Runs real cells and leaves the stored results as they
were."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import ROOT

from mcore_compat.base import files
from mcore_compat.core.workspace import Workspace
from mcore_compat.results import large_values, store
from mcore_compat.results.result import result_path

RESULTS = Workspace(ROOT).results
CELLS = tuple(f"compat-0.16-modelopt{series}" for series in ("0.40", "0.41", "0.42"))
SELECTED = ["--tag", "mcore-0.16", "--tag", "stack-default", "--modelopt", ">=0.40,<0.43"]
KILLS = 10
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
ENDS_S = 30.0
"""How long after a kill nothing of the run may be left."""

pytestmark = pytest.mark.real


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[dict[str, Path]]:
    """Where each cell's result is; none exists, and what was there is put back afterwards."""
    paths = {name: result_path(name, "host", RESULTS) for name in CELLS}
    for name, path in paths.items():
        if path.exists():
            shutil.copy2(path, tmp_path / name)
            path.unlink()
    yield paths
    for name, path in paths.items():
        path.unlink(missing_ok=True)
        if (tmp_path / name).exists():
            files.write_text(path, (tmp_path / name).read_text(encoding="utf-8"))
    large_values.pack(RESULTS)  # drops the values that no result names any more


def hears_ctrl_c() -> None:
    """In the child: a test run that a shell put into the background ignores Ctrl-C for it, too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start() -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-m", "mcore_compat.cli", "matrix", *SELECTED]
    return subprocess.Popen(
        argv,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=hears_ctrl_c,
    )


def left_running() -> list[str]:
    """The command lines of processes that run one of the cells."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if any(f"envs/{name}/" in line for name in CELLS):
            found.append(line)
    return found


def complete(paths: dict[str, Path]) -> dict[str, bytes]:
    """By cell: the result that is there and complete. A half-written file fails here."""
    found = {}
    for name, path in paths.items():
        if path.exists():
            data = path.read_bytes()
            if store.load(path).complete:
                found[name] = data
    return found


def plain(path: Path) -> Any:
    """A result without what differs between any two runs."""
    data = json.loads(store.dumps(store.load(path)))
    data["taken"] = ""
    for check in data["checks"]:
        check["seconds"] = 0
        for own in ("left_behind", "warnings"):
            check["details"].pop(own, None)
    return data


def test_killed_ten_times_it_comes_to_the_same(kept: dict[str, Path]) -> None:
    chance = random.Random(os.environ.get("MCORE_COMPAT_SEED", "0"))
    done: dict[str, bytes] = {}
    for number in range(KILLS):
        run = start()
        time.sleep(chance.uniform(1, 45))
        run.send_signal(SIGNALS[number % len(SIGNALS)])
        run.wait(ENDS_S)
        deadline = time.monotonic() + ENDS_S
        while left_running() and time.monotonic() < deadline:
            time.sleep(0.5)
        assert not left_running()
        now = complete(kept)
        assert {name: now[name] for name in done} == done, "a cell that was done was run again"
        done = now
    last = start()
    assert last.wait(1200) in (0, 1)
    final = complete(kept)
    assert set(final) == set(CELLS)
    assert {name: final[name] for name in done} == done
    resumed = {name: plain(path) for name, path in kept.items()}
    for path in kept.values():
        path.unlink()
    assert start().wait(1200) in (0, 1)
    assert {name: plain(path) for name, path in kept.items()} == resumed
