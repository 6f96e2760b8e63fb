"""A stored `unbuildable` holds as long as its cause is there, and no longer.

Nothing is compiled: the sources and the processes of a build stand in.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import snapshot
from wheelhouse_support import COMPILE_ERROR, TE, StandIn, ended, sources, stand_in, surroundings

from mcore_compat.base import files
from mcore_compat.core import combinations
from mcore_compat.core.cells import Cell
from mcore_compat.core.outcomes import CellOutcome
from mcore_compat.core.workspace import Workspace
from mcore_compat.environments import interpreters, process_variables, toolkits, wheelhouse
from mcore_compat.environments.toolkits import Toolkit
from mcore_compat.resolve import locks
from mcore_compat.results import store
from mcore_compat.run import machine, pipeline
from mcore_compat.run.context import Context, Options
from mcore_compat.schedule import exploration_run, survey

NAME = "compat-0.9-modelopt0.21-te1.13-torch2.5"
GONE = "the cause of its failed build is gone"


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    surroundings(tmp_path, monkeypatch)
    sources(monkeypatch, "setup.py", "csrc/kernel.cu")
    monkeypatch.setattr(machine, "device_class", lambda: "host")
    monkeypatch.setattr(interpreters, "find", lambda *_: Path("/usr/bin/python3"))
    return stand_in(tmp_path)


@pytest.fixture
def context(tools: StandIn, tmp_path: Path) -> Context:
    made = Context(
        workspace=Workspace(tmp_path),
        matrix=snapshot.matrix(),
        releases=snapshot.releases(),
        run=tools,
        say=lambda line: None,
        uv=Path("uv"),
        te_extension="real",
    )
    cell = pipeline.chosen(NAME, made)
    body = f"{TE.name}=={cell.te} --hash=sha256:{TE.hashes[0]}\n"
    head = locks.head(cell, "2026-01-01", [TE.name], told=("none", "kept"), body=body)
    files.write_text(made.workspace.lock(cell.name), head + body)
    return made


def state(context: Context) -> str:
    (known,) = survey.survey([cell_of(context)], context, "host")
    return known.state


def cell_of(context: Context) -> Cell:
    return combinations.named(NAME, context.matrix, context.releases)


def ran(context: Context) -> pipeline.Outcome:
    outcome = pipeline.run_cell(NAME, Options(), context)
    assert outcome.result.outcome is CellOutcome.UNBUILDABLE
    return outcome


def test_it_is_asked_again_once_there_is_a_toolkit(
    tools: StandIn, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ran(context).result.reason
    assert first
    assert "needs nvcc 12.4; found none" in first.message
    assert "mcore-compat toolkit --cuda 12.4" in first.help
    assert ran(context).fresh
    assert state(context) == "fresh"
    there = (Toolkit(home=Path("of-12.4"), version="12.4"),)
    monkeypatch.setattr(toolkits, "found", lambda run: there)
    assert state(context) == GONE
    tools.ends["build"] = ended(COMPILE_ERROR, 1)
    again = ran(context)
    assert not again.fresh
    assert again.result.reason
    assert again.result.reason.message == COMPILE_ERROR
    assert ran(context).fresh
    assert tools.count == 1


def test_it_is_asked_again_once_there_is_a_driver(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran(context)
    monkeypatch.setattr(process_variables, "has_driver", lambda: True)
    assert state(context) == GONE


@pytest.mark.parametrize("number", [0, 1], ids=["one architecture", "all of them"])
def test_it_is_asked_again_once_the_wheel_is_there(number: int, context: Context) -> None:
    ran(context)
    lock = locks.read(context.workspace.lock(NAME))
    (pin,) = lock.source_only
    key = wheelhouse.keys_of(pin, cell_of(context))[number]
    path = wheelhouse.folder() / str(key) / "te.whl"
    files.write_text(path, "a stand-in")
    record = {"wheel": path.name, "sha256": files.sha256_file(path)}
    files.write_text(path.parent / "build.json", files.dump_json(record))
    assert state(context) == GONE
    assert exploration_run.te_key(cell_of(context)) == str(key)


def test_it_is_asked_again_where_a_stand_in_takes_its_place(context: Context) -> None:
    ran(context)
    assert state(context) == "fresh"
    assert state(replace(context, te_extension=None)) == GONE


def test_one_that_does_not_tell_its_cause_is_asked_again(context: Context) -> None:
    ran(context)
    path = context.workspace.results / NAME / "main.host.json"
    text = path.read_text()
    cause = '"cause": "transformer-engine-torch: no toolkit no driver",'
    assert cause in text
    path.write_text(text.replace(cause, ""))
    assert store.load(path).outcome is CellOutcome.UNBUILDABLE
    assert not ran(context).fresh
