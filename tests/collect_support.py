"""A result as a bundle's run brings it back, made up, and what it is compared with."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import snapshot
from support import event

from mcore_compat.core import combinations
from mcore_compat.core.cells import Cell
from mcore_compat.core.workspace import Workspace
from mcore_compat.offline.verification import SUBJECTS, Reference
from mcore_compat.resolve import locks
from mcore_compat.resolve.locks import Lock

NAME = "compat-0.16-modelopt0.41"
SUITE, TIER = "5" * 64, "9" * 64
TE_TORCH = "transformer_engine_torch-2.11.0-cp312-cp312-linux_x86_64.whl"
VENDOR = "2.8.0a0+5228986c39.nv25.6"

TAKEN, BEFORE = "2021-06-01T10:00:00Z", "2021-05-01T10:00:00Z"
LATER, AT_LAST = "2021-07-01T10:00:00Z", "2021-08-01T10:00:00Z"

Carried = dict[str, Any]
Write = Callable[..., Path]


@pytest.fixture(name="cell", scope="module")
def cell_() -> Cell:
    return combinations.named(NAME, snapshot.matrix(), snapshot.releases())


@pytest.fixture(name="lock", scope="module")
def lock_(cell: Cell) -> Lock:
    """Of a few packages; the real one has more."""
    pins = {name: cell.pins[name] for name in SUBJECTS}
    pins |= {"torch": cell.torch, "transformer-engine": cell.te, "numpy": "2.4.4"}
    pins["transformer-engine-torch"] = cell.te
    body = "".join(f"{n}=={v} \\\n    --hash=sha256:{'ab' * 32}\n" for n, v in sorted(pins.items()))
    head = locks.head(
        cell, "2026-01-01", ["transformer-engine-torch"], told=("none", "kept to"), body=body
    )
    return locks.parse(head + body, f"{NAME}.txt")


@pytest.fixture(name="known")
def known_(lock: Lock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reference:
    """What is compared with; the workspace has the lock, and no results yet."""
    monkeypatch.setenv("MCORE_COMPAT_HOME", str(tmp_path / "home"))
    workspace = Workspace(tmp_path / "workspace")
    workspace.locks.mkdir(parents=True)
    workspace.lock(NAME).write_text(lock.text)
    return Reference(
        workspace=workspace,
        matrix=snapshot.matrix(),
        releases=snapshot.releases(),
        suite=SUITE,
        parts={"gpu": TIER},
    )


@pytest.fixture(name="carried")
def carried_(lock: Lock, cell: Cell) -> Carried:
    """What a run of the cell brings back."""
    start = {
        "event": "start",
        "suite": 1,
        "device_class": "host",
        "platform": {"python": f"{cell.python}.1", "cuda": "12.8", "gpu": None},
        "installed": {pin.name: pin.version for pin in (*lock.pins, *lock.source_only)},
        "checks": ["restore[gpt]"],
    }
    return {
        "base": None,
        "bundle": "b" * 64,
        "cell": NAME,
        "complete": True,
        "events": [start, event("restore[gpt]"), {"event": "end", "seconds": 1.0}],
        "folders": ["/srv/node/bundle"],
        "lock": lock.digest,
        "part": None,
        "schema": 1,
        "suite": SUITE,
        "taken": TAKEN,
        "wheels": {TE_TORCH: "e" * 64},
    }


@pytest.fixture(name="write")
def write_(tmp_path: Path) -> Write:
    def put(data: Carried, name: str = "main.host", folder: str = "back") -> Path:
        path = tmp_path / folder / "results" / NAME / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(data))
        return path

    return put


def over_base(data: Carried, te: str = "2.4.0+3cd6870", torch: str = VENDOR) -> Carried:
    """The same, over a vendor's torch and TE."""
    data = copy.deepcopy(data)
    data["base"] = {
        "changed": {},
        "installed": ["megatron-core"],
        "toolkit": "12.8",
        "unmet": [],
        "without": ["torch"],
    }
    there = data["events"][0]["installed"]
    there.update({"torch": torch, "transformer-engine": te, "apex": "0.1"})
    del there["transformer-engine-torch"]
    data["wheels"] = {}
    return data


def ask(data: Carried, one: dict[str, Any]) -> None:
    """Let the suite have asked this as well."""
    data["events"].insert(2, one)
    data["events"][0]["checks"].append(one["check"])


def on_a_gpu(data: Carried) -> Carried:
    """The same, of a machine with a GPU."""
    data = copy.deepcopy(data)
    start = data["events"][0]
    start["device_class"] = "gpu"
    start["platform"].update(gpu="a stand-in", capability="9.0", driver="1.0")
    return data


def of_a_part(data: Carried) -> Carried:
    """The same, of the GPU tier."""
    return {**copy.deepcopy(data), "part": {"name": "gpu", "digest": TIER}}


def stored(known: Reference) -> list[str]:
    """The results that were taken, below `reports/`."""
    reports = known.workspace.reports
    return sorted(p.relative_to(reports).as_posix() for p in reports.glob("*/compat-*/*.json"))
