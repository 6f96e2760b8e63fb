"""What is known of cells before they run. The wheels and the evidence here are made up."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import snapshot
from support import event, stand_in_evidence

from mcore_compat.base import files, processes
from mcore_compat.core import combinations
from mcore_compat.core.cells import Cell
from mcore_compat.environments import wheelhouse
from mcore_compat.resolve import locks
from mcore_compat.resolve.locks import Pin
from mcore_compat.results import evidence
from mcore_compat.run import pipeline
from mcore_compat.run.context import Context
from mcore_compat.schedule import survey

NAME = "causal_conv1d-1.7.0-py3-none-any.whl"
PIN = Pin(name="causal-conv1d", version="1.7.0", hashes=("0" * 64,))


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Context:
    monkeypatch.setenv("MCORE_COMPAT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(wheelhouse, "folder", lambda: tmp_path / "wheelhouse")
    monkeypatch.setattr(pipeline, "lock_path", lambda cell: tmp_path / f"{cell.name}.txt")
    monkeypatch.setattr(pipeline, "toolkit_of", lambda context: None)
    path_of = evidence.path_of
    monkeypatch.setattr(
        evidence, "path_of", lambda cell, device: path_of(cell, device, tmp_path / "evidence")
    )
    return Context(
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
    head = locks.head(cell, "2026-01-01", [PIN.name], extras="kept", body=body)
    pipeline.lock_path(cell).write_text(head + body)
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


def ran(cell: Cell, digest: str) -> None:
    """Evidence of the cell with a wheel of that digest."""
    found = dataclasses.replace(
        stand_in_evidence(event("restore[gpt]"), cell=cell),
        lock=files.sha256_file(pipeline.lock_path(cell)),
        suite=pipeline.suite_digest(),
        wheels={NAME: digest},
    )
    path = evidence.path_of(cell.name, "host")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(evidence.dumps(found))


def state(cell: Cell, context: Context) -> str:
    (known,) = survey.survey([cell], context, "host")
    return known.state


def test_a_wheel_that_this_machine_built_anew_makes_nothing_stale(context: Context) -> None:
    """The same source for the same torch: the bytes differ with every build."""
    cell = locked("2.8", context)
    ran(cell, "what was built elsewhere")
    build(cell, "built here")
    assert state(cell, context) == "fresh"


def test_with_a_gpu_a_cell_is_not_fresh_before_all_parts_of_the_suite_were_asked(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = locked("2.8", context)
    ran(cell, "any")
    monkeypatch.setattr(survey.parted, "wanted", lambda device: {"gpu": "g", "ranks": "r"})
    monkeypatch.setattr(survey.parted, "lacking", lambda cell, **_: ("gpu",))
    assert state(cell, context) == "its gpu checks were not asked"
    monkeypatch.setattr(survey.parted, "lacking", lambda cell, **_: ())
    assert state(cell, context) == "fresh"


def test_a_wheel_that_is_not_there_is_missing_under_the_key_of_the_cells_own_torch(
    context: Context,
) -> None:
    one, other = locked("2.8", context), locked("2.10", context)
    build(one, "for torch 2.8")
    (known,) = survey.survey([other], context, "host")
    assert known.missing == (str(wheelhouse.keys_of(PIN, other)[-1]),)
