"""What is known of cells before they run. The wheels and the results here are made up."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import pytest
import snapshot
from support import event, stand_in_result

from mcore_compat.base import files, processes
from mcore_compat.core import combinations
from mcore_compat.core.cells import Cell
from mcore_compat.core.outcomes import CellOutcome
from mcore_compat.core.workspace import Workspace
from mcore_compat.environments import wheelhouse
from mcore_compat.resolve import locks
from mcore_compat.resolve.locks import Pin
from mcore_compat.results import store
from mcore_compat.run.check_sets import GPU, MAIN, RANKS, CheckSet
from mcore_compat.run.context import Context
from mcore_compat.schedule import survey

NAME = "causal_conv1d-1.7.0-py3-none-any.whl"
PIN = Pin(name="causal-conv1d", version="1.7.0", hashes=("0" * 64,))


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Context:
    monkeypatch.setenv("MCORE_COMPAT_HOME", str(tmp_path / "home"))
    return Context(
        workspace=Workspace(tmp_path),
        matrix=snapshot.matrix(),
        releases=snapshot.releases(),
        run=processes.run,
        say=lambda line: None,
        uv=Path("uv"),
    )


def locked(torch: str, context: Context) -> Cell:
    """A cell of that torch whose lock wants `NAME` built."""
    name = f"compat-0.16-modelopt0.41-te2.11-torch{torch}"
    cell = combinations.named(name, context.matrix, context.releases)
    body = f"{PIN.name}=={PIN.version} --hash=sha256:{PIN.hashes[0]}\n"
    head = locks.head(cell, "2026-01-01", [PIN.name], told=("none", "kept to"), body=body)
    files.write_text(context.workspace.lock(cell.name), head + body)
    return cell


def build(cell: Cell, content: str) -> str:
    """The cell's wheel, put into the wheelhouse; its digest."""
    key = wheelhouse.keys_of(PIN, cell)[-1]
    made = wheelhouse.folder() / str(key)
    made.mkdir(parents=True, exist_ok=True)
    (made / NAME).write_text(content)
    digest = files.sha256_file(made / NAME)
    (made / "build.json").write_text(files.dump_json({"wheel": NAME, "sha256": digest}))
    return digest


def ran(
    cell: Cell,
    context: Context,
    digest: str,
    check_set: CheckSet = MAIN,
    device: Literal["host", "gpu"] = "host",
) -> None:
    """A result of a check set in the cell, with a wheel of that digest."""
    workspace = context.workspace
    made = stand_in_result(event("restore[gpt]"), cell=cell)
    found = dataclasses.replace(
        made,
        outcome=made.outcome if check_set is MAIN else CellOutcome.UNTESTED,
        check_set=check_set.name,
        device_class=device,
        lock=files.sha256_file(workspace.lock(cell.name)),
        suite=check_set.digest(workspace.suite),
        wheels={NAME: digest},
    )
    store.save(found, workspace.results)


def state(cell: Cell, context: Context, device: str = "host") -> str:
    (known,) = survey.survey([cell], context, device)
    return known.state


def test_a_wheel_that_this_machine_built_anew_makes_nothing_stale(context: Context) -> None:
    """The same source for the same torch: the bytes differ with every build."""
    cell = locked("2.8", context)
    ran(cell, context, "what was built elsewhere")
    build(cell, "built here")
    assert state(cell, context) == "fresh"


def test_with_a_gpu_a_cell_is_not_fresh_before_all_check_sets_were_asked(context: Context) -> None:
    cell = locked("2.8", context)
    ran(cell, context, "any", device="gpu")
    assert state(cell, context, "gpu") == "its ranks and gpu checks have not run"
    ran(cell, context, "any", RANKS, "gpu")
    assert state(cell, context, "gpu") == "its gpu checks have not run"
    ran(cell, context, "any", GPU, "gpu")
    assert state(cell, context, "gpu") == "fresh"
    ran(cell, context, "any")
    assert state(cell, context) == "fresh"  # on a host they are not wanted


def test_a_wheel_that_is_not_there_is_missing_under_the_key_of_the_cells_own_torch(
    context: Context,
) -> None:
    one, other = locked("2.8", context), locked("2.10", context)
    build(one, "for torch 2.8")
    (known,) = survey.survey([other], context, "host")
    assert known.missing == (str(wheelhouse.keys_of(PIN, other)[-1]),)
