"""A run of many cells on this machine: in what order, how often, and what it says of failures."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support import event, stand_in_cell, stand_in_result

from mcore_compat.base import files, processes
from mcore_compat.base.errors import ExitCode, InfrastructureError
from mcore_compat.core.cells import Cell
from mcore_compat.core.outcomes import CellOutcome
from mcore_compat.core.workspace import Workspace
from mcore_compat.resolve import locks
from mcore_compat.results import agreement, store
from mcore_compat.results.result import Reason, Result
from mcore_compat.run import machine
from mcore_compat.run.context import Context
from mcore_compat.schedule import matrix_run
from mcore_compat.schedule.jobs import records
from mcore_compat.schedule.jobs.job_options import JobOptions
from mcore_compat.schedule.matrix_run import MatrixResult
from mcore_compat.schedule.plan import CellStatus

TE = "transformer-engine-torch-2.11.0-torch2.9.1"
MAMBA = "mamba-ssm-2.3.0-torch2.9.1"

COMMAND = """\
import pathlib, sys
log, exits, what = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
with log.open("a") as out:
    out.write(" ".join(what) + "\\n")
codes = dict(pair.split("=") for pair in exits.split())
tries = log.read_text().splitlines().count(" ".join(what))
print("mcore-compat: the disk is full")
sys.exit(int(codes.get(what[1].removeprefix("compat-"), "0")[tries - 1 :][:1] or "0"))
"""


@pytest.fixture(autouse=True)
def made_up_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cells here are called a, b, c: results would be refused for that."""
    monkeypatch.setattr(agreement, "refuse_name", lambda _: None)


def state(name: str, *missing: str) -> CellStatus:
    cell = dataclasses.replace(stand_in_cell(), name=f"compat-{name}")
    return CellStatus(cell=cell, state="untested", missing=missing)


def lock(cell: Cell, workspace: Workspace) -> None:
    """A lock of no packages."""
    head = locks.head(cell, "2026-01-01", [], told=("none", "kept to"), body="")
    files.write_text(workspace.lock(cell.name), head)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Cells whose commands write down that they ran, and end with the codes of `exits`."""
    workspace = Workspace(tmp_path / "workspace")
    world = SimpleNamespace(
        log=tmp_path / "log", exits="", said=[], states=(), unlocked=(), workspace=workspace
    )
    monkeypatch.setenv("MCORE_COMPAT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(machine, "device_class", lambda: "host")
    monkeypatch.setattr(matrix_run, "survey", lambda cells, here, device: world.states)
    monkeypatch.setattr(
        matrix_run,
        "_command",
        lambda *words: (sys.executable, "-c", COMMAND, str(world.log), world.exits, *words),
    )

    def run(*states: CellStatus, **more: Any) -> MatrixResult:
        world.states = states
        for each in states:
            if each.cell.name not in world.unlocked:
                lock(each.cell, workspace)
        nothing: Any = None
        here = Context(
            workspace=workspace,
            matrix=nothing,
            releases=nothing,
            run=processes.run,
            say=world.said.append,
            uv=tmp_path / "uv",
        )
        return matrix_run.run(states, here, JobOptions(parallel=2, poll=0.05), **more)

    world.run = run
    world.errors = lambda: {
        each.cell: each.reason.message for each in store.load_all(workspace.results)
    }
    world.ran = lambda: world.log.read_text().splitlines() if world.log.exists() else []
    return world


def test_each_wheel_is_built_once_and_before_any_cell(world: SimpleNamespace) -> None:
    result = world.run(state("a", TE), state("b", TE, MAMBA), state("c"))
    assert result.failed == {}
    ran = world.ran()
    assert ran[:2] == ["build compat-b mamba-ssm", "build compat-a transformer-engine-torch"]
    assert sorted(ran[2:]) == [
        "run compat-a --publish",
        "run compat-b --publish",
        "run compat-c --publish",
    ]
    assert any(line.startswith("running 3 cells; their output is in ") for line in world.said)


def test_what_is_fresh_is_not_run_unless_forced(world: SimpleNamespace) -> None:
    fresh = dataclasses.replace(state("a"), state="fresh")
    assert world.run(fresh) == MatrixResult(states=(fresh,))
    assert world.ran() == []
    world.run(fresh, force=True)
    assert world.ran() == ["run compat-a --publish --force"]


def test_failed_surroundings_are_tried_again_and_verdicts_and_bad_input_are_not(
    world: SimpleNamespace,
) -> None:
    world.exits = "a=30 b=333 c=1 d=2"
    result = world.run(*map(state, "abcd"))
    ran = world.ran()
    assert {name: ran.count(f"run compat-{name} --publish") for name in "abcd"} == {
        "a": 2,
        "b": 3,
        "c": 1,
        "d": 1,
    }
    assert result.failed == {"compat-b": "the disk is full", "compat-d": "the disk is full"}
    assert world.errors() == result.failed
    assert "compat-a: job 1: the disk is full; attempt 1 of 3, will retry" in world.said


def test_a_cell_that_cannot_be_locked_for_the_index_is_said_and_the_others_run(
    world: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lock_of(cell: Cell, _: Context) -> None:
        raise InfrastructureError("the index did not answer")

    world.unlocked = ("compat-a",)
    monkeypatch.setattr(matrix_run.pipeline, "lock_of", lock_of)
    result = world.run(state("a"), state("b"))
    assert result.failed == {"compat-a": "the index did not answer"}
    assert world.ran() == ["run compat-b --publish"]


def test_no_later_run_takes_over_what_ended_with_its_submitter(world: SimpleNamespace) -> None:
    world.run(state("a"))
    assert records.open_batches(records.folder(), "local") == ()
    world.run(state("a"))
    assert world.ran() == ["run compat-a --publish"] * 2


def of(cell: str, *events: dict[str, Any]) -> Result:
    stored = stand_in_result(*events)
    return dataclasses.replace(stored, cell=cell)


def reported(
    world: SimpleNamespace, published: Result | None, now: Result, *, ran: bool = True
) -> int:
    """The exit code of a run of one cell, of which `published` was there."""
    store.save(now, world.workspace.results)
    fresh = CellStatus(cell=dataclasses.replace(stand_in_cell(), name=now.cell), state="fresh")
    result = MatrixResult(states=(fresh,), before={now.cell: published} if ran else {})
    here: Any = SimpleNamespace(
        workspace=world.workspace, profile=None, matrix=SimpleNamespace(expected=[], expired=())
    )
    return matrix_run.report(result, here, "host")


BROKEN = event("restore[gpt]", "broken")


def test_with_nothing_to_do_all_is_well(world: SimpleNamespace) -> None:
    assert reported(world, None, of("compat-a", BROKEN), ran=False) == 0


def test_what_fails_as_was_published_is_no_news_and_what_did_not_is(
    world: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = of("compat-a", BROKEN)
    assert reported(world, broken, broken) == 0
    for before in (None, of("compat-a", event("restore[gpt]"))):
        code = reported(world, before, broken)
        assert isinstance(code, ExitCode)
        assert code == 1
        why = "compat-a: restore[gpt] is broken: KeyError: 'decoder.weight'"
        assert code.why == f"1 of 1 cells that ran have a new failure; the first: {why}"
        assert f"new failure: {why}\n" in capsys.readouterr().out
    assert reported(world, broken, of("compat-a", event("restore[gpt]"))) == 0


def test_a_cell_that_does_not_come_to_its_checks_any_more_is_news(world: SimpleNamespace) -> None:
    before = of("compat-a", event("restore[gpt]"))
    reason = Reason(kind="unresolvable", message="no such release", help="")
    now = dataclasses.replace(before, checks=(), outcome=CellOutcome.UNRESOLVABLE, reason=reason)
    assert reported(world, before, now) == 1
    assert reported(world, now, now) == reported(world, None, now) == 0
