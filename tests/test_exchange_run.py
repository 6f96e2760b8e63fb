"""Checkpoints across releases: what is run, in which order, and what is kept of it. The suite is a
stand-in here."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support import event, stand_in_cell
from test_exchange import BROKEN, NEW, OLD, WORKS, exchanged, failure, source

from mcore_compat import cli
from mcore_compat.base import processes
from mcore_compat.base.errors import (
    CompatError,
    EvidenceError,
    InfrastructureError,
    Interrupted,
    UsageError,
)
from mcore_compat.core.cells import Cell
from mcore_compat.core.outcomes import CheckOutcome
from mcore_compat.exchange import evidence as results
from mcore_compat.exchange import run
from mcore_compat.exchange.plan import Pair
from mcore_compat.resolve.locks import Lock
from mcore_compat.results.evidence import CheckResult

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
        "failures": {"0123456789ab": failure()},
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
    answers = state.found.sources[OLD].answers
    assert {key: one.outcome.value for key, one in answers.items()} == {
        "gpt:default": "works",
        "gpt:default-to-modelopt": "works",
        "mla-moe:default": "blocked",
        "mla-moe:default-to-modelopt": "blocked",
    }
    assert set(state.found.failures) == {"0123456789ab"}


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
    with pytest.raises(EvidenceError, match="the exchange cannot run: of compat-"):
        loaded(*keys)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of the tool, of which the suite is not run."""
    lock = Lock(cell=NEW, text="", exclude_newer="", axes=CELL.pins, pins=(), source_only=())
    monkeypatch.setenv("MCORE_COMPAT_HOME", str(tmp_path))
    monkeypatch.setattr(run, "lock_of", lambda cell, context: lock)
    return tmp_path


def saves(*families: str) -> Callable[..., None]:
    """Stands for the suite, which saves a checkpoint of each family."""

    def ask(cell: Any, lock: Any, context: Any, builder: Any, variables: Any) -> None:
        for family in families:
            place = Path(variables[run.SAVE_INTO]) / family / "default"
            place.mkdir(parents=True)
            (place / "manifest.json").write_text("{}")
            builder.take(event(f"save-default[{family}]"))

    return ask


def test_nothing_of_what_a_cell_kept_before_is_left(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be saved any more would else be loaded from what lies there."""
    context: Any = SimpleNamespace(say=lambda line: None)
    monkeypatch.setattr(run, "ask", saves("gpt", "mla-moe"))
    before = run.save(CELL, context)
    assert run.kept(CELL, run.lock_of(CELL, context)) == before
    monkeypatch.setattr(run, "ask", saves("gpt"))
    after = run.save(CELL, context)
    assert not (here / "checkpoints" / NEW / "mla-moe").exists()
    assert before.manifests != after.manifests
    assert sorted(after.answers) == ["gpt:default"]


def test_what_a_disk_changed_is_not_kept(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context: Any = SimpleNamespace(say=lambda line: None)
    monkeypatch.setattr(run, "ask", saves("gpt"))
    run.save(CELL, context)
    manifest = here / "checkpoints" / NEW / "gpt" / "default" / "manifest.json"
    manifest.write_text("{ }")
    assert run.kept(CELL, run.lock_of(CELL, context)) is None


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
    monkeypatch.setattr(results, "FOLDER", here / "exchange")
    monkeypatch.setattr(results, "load_all", lambda: ())
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
