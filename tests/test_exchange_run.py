"""Checkpoints across releases: what is run, in which order, and what is kept of it. The suite is a
stand-in here."""

from __future__ import annotations

import contextlib
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import snapshot
from engine_support import END, SuiteProcess
from loads_support import CAUSE
from support import START, event, stand_in_cell
from test_exchange import BROKEN, NEW, OLD, WORKS, exchanged, source

from mcore_compat import cli
from mcore_compat.base import processes
from mcore_compat.base.errors import (
    CompatError,
    InfrastructureError,
    Interrupted,
    ResultError,
    UsageError,
)
from mcore_compat.base.processes import Runner
from mcore_compat.core.cells import Cell
from mcore_compat.core.outcomes import CheckOutcome
from mcore_compat.core.workspace import VARIABLE, Workspace
from mcore_compat.environments import creation
from mcore_compat.exchange import run
from mcore_compat.exchange import transfer_results as results
from mcore_compat.exchange.plan import Pair
from mcore_compat.resolve.locks import Lock
from mcore_compat.results import store
from mcore_compat.results.result import CheckResult
from mcore_compat.run import machine, pipeline
from mcore_compat.run.context import Context
from mcore_compat.run.engine import ResolvedCell

pytestmark = pytest.mark.usefixtures("on_snapshot")

CELL = stand_in_cell()


def kept_of(**fields: Any) -> run.Saved:
    given: dict[str, Any] = {
        "cell": OLD,
        "lock": "lock",
        "exchange": "e",
        "device_class": "host",
        "pins": source().pins,
        "manifests": "m",
        "contents": "c",
        "answers": {"gpt:default": WORKS, "mla-moe:default": BROKEN},
        **fields,
    }
    return run.Saved(**given)


def loaded(*keys: str) -> run.Loading:
    """What came of a run that asked these of what `kept_of` has."""
    pair = Pair(target=NEW, origin=OLD, ways=("default", "default-to-modelopt"))
    state = run.Loading(exchanged(), {OLD: pair}, {OLD: kept_of()})
    checks = [f"restore-from[{OLD}:{key}]" for key in keys]
    state.expect(checks)
    for check in checks:
        state.take(checked(check))
    state.finish()
    return state


def checked(check: str) -> CheckResult:
    return CheckResult(
        check=check,
        kind=check,
        family=None,
        outcome=CheckOutcome.WORKS,
        seconds=1.0,
        reason=None,
        failure=None,
        details={},
    )


def test_all_that_was_saved_is_an_answer() -> None:
    state = loaded("gpt:default", "gpt:default-to-modelopt")
    answers = results.answers(state.result)[OLD]
    assert {key: one.outcome.value for key, one in answers.items()} == {
        "gpt:default": "works",
        "gpt:default-to-modelopt": "works",
        "mla-moe:default": "blocked",
        "mla-moe:default-to-modelopt": "blocked",
    }
    assert {c.failure.fingerprint for c in answers.values() if c.failure} == {CAUSE}


@pytest.mark.parametrize(
    "keys",
    [
        (),
        ("gpt:default",),
        ("gpt:default", "gpt:default-to-modelopt", "mla-moe:default"),
    ],
)
def test_what_was_not_compared_or_not_saved_is_no_answer(
    keys: tuple[str, ...],
) -> None:
    with pytest.raises(ResultError, match="the exchange cannot run: for compat-"):
        loaded(*keys)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of the tool; in it a workspace with constraints and no result, which is meant."""
    place = Workspace(tmp_path / "workspace")
    shutil.copytree(snapshot.WORKSPACE.constraints, place.constraints)
    monkeypatch.setenv(VARIABLE, str(place.root))
    monkeypatch.setenv("MCORE_COMPAT_HOME", str(tmp_path))
    return tmp_path


LOCK = Lock(cell=NEW, text="", exclude_newer="", axes=CELL.pins, pins=(), source_only=())


@pytest.fixture
def cell(here: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Runner], Context]:
    """A cell that is resolved and has an environment; its suite is the process that is given."""
    python = here / "python"
    there = creation.Environment(python=python, site=here, variables={}, reused=True)
    ready = ResolvedCell(cell=CELL, lock=LOCK, python=python, wheels=())
    monkeypatch.setattr(machine, "device_class", lambda: "host")
    monkeypatch.setattr(pipeline, "resolved_cell", lambda *_: ready)
    monkeypatch.setattr(creation, "ensure", lambda *_, **__: there)
    monkeypatch.setattr(creation, "tools", lambda *_, **__: here)
    (here / "envs").mkdir()

    def make(suite: Runner) -> Context:
        return Context(
            workspace=Workspace(here / "workspace"),
            matrix=snapshot.matrix(),
            releases=snapshot.releases(),
            run=suite,
            say=lambda line: None,
            uv=Path("uv"),
        )

    return make


def saves(*families: str) -> Runner:
    """Stands for the suite, which saves a checkpoint of each family."""
    process = SuiteProcess([START, *(event(f"save-default[{name}]") for name in families), END])

    def suite(argv: Any, **options: Any) -> processes.Completed:
        for name in families:
            place = Path(options["env"][run.SAVE_INTO]) / name / "default"
            place.mkdir(parents=True)
            (place / "manifest.json").write_text("{}")
        return process(argv, **options)

    return suite


def test_nothing_of_what_a_cell_kept_before_is_left(
    here: Path, cell: Callable[[Runner], Context]
) -> None:
    """What cannot be saved any more would else be loaded from what lies there."""
    context = cell(saves("gpt", "mla-moe"))
    before = run.save(CELL, context)
    assert run.kept(CELL, LOCK, context.workspace) == before
    after = run.save(CELL, cell(saves("gpt")))
    assert not (here / "checkpoints" / NEW / "mla-moe").exists()
    assert before.manifests != after.manifests
    assert sorted(after.answers) == ["gpt:default"]


def test_what_a_disk_changed_is_not_kept(here: Path, cell: Callable[[Runner], Context]) -> None:
    context = cell(saves("gpt"))
    run.save(CELL, context)
    manifest = here / "checkpoints" / NEW / "gpt" / "default" / "manifest.json"
    manifest.write_text("{ }")
    assert run.kept(CELL, LOCK, context.workspace) is None


def test_what_was_not_saved_to_its_end_is_not_kept(
    here: Path, cell: Callable[[Runner], Context]
) -> None:
    context = cell(saves("gpt"))
    run.save(CELL, context)
    with pytest.raises(InfrastructureError, match="exchange ended early"):
        run.save(CELL, cell(SuiteProcess([START, event("save-default[gpt]")])))
    assert run.kept(CELL, LOCK, context.workspace) is None


OTHER = "compat-0.10-modelopt0.23"


@pytest.mark.parametrize(("whole", "stored"), [(True, [OTHER, OLD]), (False, [OLD])])
def test_all_that_one_cell_saved_is_stored_as_soon_as_it_was_loaded(
    whole: bool, stored: list[str], cell: Callable[[Runner], Context]
) -> None:
    checks = [f"restore-from[{origin}:gpt:default]" for origin in (OLD, OTHER)]
    process = SuiteProcess(
        [{**START, "checks": checks}, event(checks[0]), event(checks[1], "broken"), END]
    )
    if not whole:
        process.events[2:] = []
        process.raises = KeyboardInterrupt()
    context = cell(process)
    pairs = [Pair(target=NEW, origin=origin, ways=("default",)) for origin in (OLD, OTHER)]
    saved = {p.origin: kept_of(cell=p.origin, answers={"gpt:default": WORKS}) for p in pairs}
    with contextlib.nullcontext() if whole else pytest.raises(KeyboardInterrupt):
        run.load(CELL, pairs, saved, context)
    env = process.options["env"]
    assert env[run.LOAD_FROM] == str(run.folder())
    assert env[run.LOADED].split(",") == sorted(f"{origin}:default" for origin in (OLD, OTHER))
    assert process.after("--checks") == str(context.workspace.suite / "exchange")
    (found,) = store.load_all(context.workspace.results, "exchange")
    assert sorted(found.sources) == stored
    assert (found.cell, found.lock, found.cuda) == (NEW, LOCK.digest, CELL.cuda)
    answers = results.answers(found)
    assert answers[OLD]["gpt:default"].outcome is CheckOutcome.WORKS
    if whole:
        failed = answers[OTHER]["gpt:default"].failure
        assert failed is not None
        assert failed.type == "KeyError"
    assert store.load_all(context.workspace.results) == (), "no verdict on the cell"


class Ran:
    """What is saved and loaded, in order; `fails` by cell."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.fails: dict[str, CompatError] = {}

    def save(self, cell: Cell, context: Any) -> run.Saved:
        self.done.append(f"save {cell.name}")
        if cell.name in self.fails:
            raise self.fails[cell.name]
        return kept_of(cell=cell.name)

    def load(self, cell: Cell, pairs: Any, saved: Any, context: Any) -> None:
        self.done.append(f"load {cell.name} of {' '.join(p.origin for p in pairs)}")


@pytest.fixture
def ran(here: Path, monkeypatch: pytest.MonkeyPatch) -> Ran:
    made = Ran()
    monkeypatch.setattr(run, "save", made.save)
    monkeypatch.setattr(run, "load", made.load)
    return made


BOTH = ["exchange", "--from", OLD, NEW, "--to", OLD, "--force"]
"""Of what is stored nothing counts, whatever that is."""


def test_a_cell_that_cannot_be_run_does_not_end_the_others(
    ran: Ran, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(BOTH) == 0
    assert ran.done == [f"save {NEW}", f"save {OLD}", f"load {OLD} of {NEW} {OLD}"]
    ran.done.clear()
    ran.fails = {NEW: UsageError("it cannot be built")}
    assert cli.main(BOTH) == 2
    assert ran.done == [f"save {NEW}", f"save {OLD}", f"load {OLD} of {OLD}"]
    assert f"{NEW}: not done: it cannot be built" in capsys.readouterr().out
    ran.fails = {NEW: InfrastructureError("the disk is full")}
    assert cli.main(BOTH) == 3


def test_an_interruption_ends_all_of_it(ran: Ran) -> None:
    ran.fails = {NEW: Interrupted("interrupted")}
    assert cli.main(BOTH) == 130
    assert ran.done == [f"save {NEW}"]


def test_several_cells_at_once_are_all_saved_before_any_is_loaded(
    ran: Ran, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = threading.Barrier(2)
    alone = ran.save

    def save(cell: Cell, context: Any) -> run.Saved:
        together.wait(10)
        return alone(cell, context)

    monkeypatch.setattr(run, "save", save)
    assert cli.main([*BOTH, "-j", "2"]) == 0
    assert sorted(ran.done[:2]) == [f"save {NEW}", f"save {OLD}"]
    assert ran.done[2:] == [f"load {OLD} of {NEW} {OLD}"]


def test_of_several_cells_an_interruption_ends_all_processes(
    ran: Ran, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that is not told of it waits for a process that would take a minute."""
    began = threading.Event()

    def save(cell: Cell, context: Any) -> run.Saved:
        if cell.name == NEW:
            began.wait(10)
            raise Interrupted("interrupted")
        ended = processes.run(["sleep", "60"], timeout=60, on_line=None, log=here / "log")
        ran.done.append(f"{cell.name} {ended.returncode}")
        raise InfrastructureError("it ended early")

    running = processes._pump
    monkeypatch.setattr(run, "save", save)
    monkeypatch.setattr(processes, "_pump", lambda *words: began.set() or running(*words))
    start = time.monotonic()
    assert cli.main([*BOTH, "-j", "2"]) == 130
    assert time.monotonic() - start < 20
    assert ran.done == [f"{OLD} {-signal.SIGKILL}"]


@pytest.mark.parametrize("jobs", ["0", "-1"])
def test_less_than_one_cell_at_a_time_is_refused(
    ran: Ran, jobs: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*BOTH, "-j", jobs]) == 2
    assert "-j: at least one must run at a time" in capsys.readouterr().err
    assert ran.done == []


def test_two_exchanges_at_once_are_refused(here: Path) -> None:
    busy = pytest.raises(InfrastructureError, match="another exchange is running")
    with run.alone(), busy, run.alone():
        pass
    with run.alone():
        pass
