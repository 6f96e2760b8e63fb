"""Which TE extension a cell is run with, what of the other's result stays, and how that is told."""

from __future__ import annotations

import dataclasses
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import snapshot
from engine_support import END, SuiteProcess
from rich.console import Console
from support import START, event, stand_in_cell

from mcore_compat.base.errors import UsageError
from mcore_compat.base.processes import Completed
from mcore_compat.core.outcomes import CellOutcome
from mcore_compat.core.workspace import Workspace
from mcore_compat.environments import creation, wheelhouse
from mcore_compat.environments.te_extension import stand_in
from mcore_compat.environments.wheelhouse import Key, Wheel
from mcore_compat.resolve.locks import Lock, Pin
from mcore_compat.results import comparison, store, terminal_verdict, verdict
from mcore_compat.results.result import LEFT_OUT, REAL, STAND_IN, Result, result_path
from mcore_compat.run import machine, pipeline, te_extension
from mcore_compat.run.context import Context, Options

CELL = stand_in_cell()
TE = Pin(name="transformer-engine-torch", version="2.11.0", hashes=())
LOCK = Lock(
    cell=CELL.name, text="a stand-in", exclude_newer="", axes=CELL.pins, pins=(), source_only=(TE,)
)
ABI = event("import-te-abi", "needs-gpu", reason="a stand-in", details={LEFT_OUT: ["x"]})


class Cells:
    """One cell, its wheelhouse and its suite, standing in."""

    def __init__(self, folder: Path) -> None:
        self.workspace = Workspace(folder)
        self.said: list[str] = []
        self.built = False
        self.suite = SuiteProcess([START, event("restore[gpt]"), END])

    def run(self, argv: Sequence[str | os.PathLike[str]], **options: Any) -> Completed:
        return self.suite(argv, **options)

    def context(self, asked: str | None = None) -> Context:
        return Context(
            workspace=self.workspace,
            matrix=snapshot.matrix(),
            releases=snapshot.releases(),
            run=self.run,
            say=self.said.append,
            uv=Path("uv"),
            te_extension=asked,
        )

    def ran(self, asked: str | None = None, **options: Any) -> pipeline.Outcome:
        return pipeline.run_cell(CELL.name, Options(**options), self.context(asked))

    def stored(self) -> str:
        path = result_path(CELL.name, "host", self.workspace.results)
        return store.load(path).te_extension


@pytest.fixture
def cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cells:
    found = Cells(tmp_path / "workspace")
    real = Key(package=TE.name, version=TE.version, torch="2.9.1", python="3.12", cuda=12)

    def wheel(key: Key) -> Wheel:
        return Wheel(key=key, path=Path(f"{key}.whl"), sha256="ab" * 32)

    monkeypatch.setenv("MCORE_COMPAT_HOME", str(tmp_path / "home"))
    (tmp_path / "home" / "envs").mkdir(parents=True)
    monkeypatch.setattr(machine, "device_class", lambda: "host")
    monkeypatch.setattr(pipeline, "chosen", lambda *_: CELL)
    monkeypatch.setattr(pipeline, "lock_of", lambda *_, **__: LOCK)
    monkeypatch.setattr(pipeline.interpreters, "find", lambda *_: Path("python"))
    monkeypatch.setattr(wheelhouse, "lookup", lambda key: wheel(real) if found.built else None)
    monkeypatch.setattr(wheelhouse, "ensure", lambda *_: wheel(real))
    monkeypatch.setattr(stand_in, "ensure", lambda *_: wheel(stand_in.key_of(TE.version)))
    monkeypatch.setattr(pipeline.plain_import, "needed", lambda *_: {})
    there = creation.Environment(python=Path("python"), site=tmp_path, variables={}, reused=False)
    monkeypatch.setattr(creation, "ensure", lambda *_, **__: there)
    monkeypatch.setattr(creation, "tools", lambda *_, **__: tmp_path)
    return found


def test_the_real_one_is_taken_where_it_is_built_or_asked_for(cells: Cells) -> None:
    assert te_extension.chosen(CELL, LOCK, cells.context()) == STAND_IN
    assert "--te-extension real builds it" in cells.said[-1]
    assert te_extension.chosen(CELL, LOCK, cells.context(REAL)) == REAL
    cells.built = True
    assert te_extension.chosen(CELL, LOCK, cells.context()) == REAL
    assert te_extension.chosen(CELL, LOCK, cells.context(STAND_IN)) == STAND_IN
    assert len(cells.said) == 1, "nothing is said where nothing is left to choose"


def test_a_gpu_is_not_asked_with_a_stand_in(cells: Cells, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "device_class", lambda: "gpu")
    assert te_extension.chosen(CELL, LOCK, cells.context()) == REAL
    with pytest.raises(UsageError, match="use real"):
        te_extension.chosen(CELL, LOCK, cells.context(STAND_IN))


def test_a_result_says_which_ran_and_gives_way_to_the_real_one_alone(cells: Cells) -> None:
    assert cells.ran().result.te_extension == STAND_IN
    assert cells.stored() == STAND_IN
    assert cells.ran().fresh
    assert cells.ran(REAL).result.te_extension == REAL, "it is not what was asked for"
    assert cells.stored() == REAL
    assert cells.ran().fresh, "what the real one showed holds for whoever does not choose"
    assert cells.ran(force=True).result.te_extension == STAND_IN
    assert cells.stored() == REAL
    assert "and stays" in " ".join(cells.said)
    cells.ran(STAND_IN)
    assert cells.stored() == STAND_IN


def test_what_tells_more_gives_way_where_it_does_not_hold(
    cells: Cells, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells.ran(REAL)
    monkeypatch.setattr(pipeline, "lock_of", lambda *_, **__: dataclasses.replace(LOCK, text="x"))
    cells.ran()
    assert cells.stored() == STAND_IN


def test_only_the_real_one_tells_what_must_be_set(cells: Cells) -> None:
    assert cells.ran().result.variables is None
    assert cells.ran(REAL).result.variables == {}


def test_a_file_names_the_extension_only_where_it_is_a_stand_in(
    made: Callable[..., Result],
) -> None:
    real = made(event("restore[gpt]"))
    assert "te_extension" not in store.dumps(real)
    other = dataclasses.replace(real, te_extension=STAND_IN)
    assert store.parse(store.dumps(other), "x").te_extension == STAND_IN


def test_what_a_stand_in_is_not_asked_is_no_difference(made: Callable[..., Result]) -> None:
    real = made(event("restore[gpt]"), event("import-te-abi"))
    other = dataclasses.replace(made(event("restore[gpt]"), ABI), te_extension=STAND_IN)
    nothing = comparison.Difference()
    assert comparison.difference(real, other) == nothing
    assert comparison.difference(other, real) == nothing
    assert other.outcome is CellOutcome.COMPATIBLE


def test_a_verdict_tells_what_stands_in_and_counts_it_for_no_gpu(
    made: Callable[..., Result],
) -> None:
    result = made(event("restore[gpt]"), event("inference[gpt]", "needs-gpu"), ABI)
    out = io.StringIO()
    other = dataclasses.replace(result, te_extension=STAND_IN)
    terminal_verdict.show(other, None, Console(file=out, width=200))
    assert "not run: other: needs a GPU" in out.getvalue()
    assert "ran with a stand-in without kernels for TE's torch extension" in out.getvalue()
    assert "not run on it: import-te-abi" in out.getvalue()
    assert verdict.stood_in(result) == ""
