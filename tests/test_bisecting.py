"""The command `bisect`: what it takes for known, runs and prints. All results here are made up, and
what runs a cell stands in."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import snapshot
from support import event, stand_in_result

from mcore_compat import cli
from mcore_compat.base import files
from mcore_compat.base.errors import InfrastructureError, InterpreterError
from mcore_compat.core import combinations
from mcore_compat.core.cells import Cell
from mcore_compat.core.workspace import VARIABLE, Workspace
from mcore_compat.index import package_index
from mcore_compat.results import store
from mcore_compat.results.result import Result, result_path
from mcore_compat.run import machine, pipeline
from mcore_compat.run.check_sets import MAIN
from mcore_compat.run.context import Context, Options
from mcore_compat.run.pipeline import Outcome
from mcore_compat.schedule import plan

pytestmark = pytest.mark.usefixtures("on_snapshot")

CHECK = "restore[gpt]"
SERIES = ("0.31", "0.33", "0.35", "0.37", "0.39", "0.40")
GOOD, BAD = (f"compat-0.14-modelopt{series}" for series in ("0.31", "0.40"))
MATRIX, RELEASES = snapshot.matrix(), snapshot.releases()

Outcomes = dict[str, str]
"""By ModelOpt series: how the check ends."""

BROKEN_FROM_37 = {s: "broken" if s >= "0.37" else "works" for s in SERIES}


class World:
    """Cells of which each outcome is settled; `ran` are those that were run, in order."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.outcomes: Outcomes = dict(BROKEN_FROM_37)
        self.ran: list[str] = []
        self.raises: dict[str, Exception] = {}

    def result(self, cell: Cell) -> Result:
        outcome = self.outcomes[".".join(cell.modelopt.split(".")[:2])]
        return self.ran_now(event(CHECK, outcome), event("private-names"), cell=cell)

    def ran_now(self, *events: dict[str, Any], cell: Cell) -> Result:
        """The result of the cell's lock and of the suite as they are."""
        lock = files.sha256_file(self.workspace.lock(cell.name))
        suite = MAIN.digest(self.workspace.suite)
        made = stand_in_result(*events, cell=cell)
        return replace(made, lock=lock, suite=suite, wheels={})

    def save(self, found: Result) -> None:
        store.save(found, self.workspace.results)

    def know(self, *series: str, suite: str | None = None) -> None:
        """Store a result; of another suite where one is named, so that it is out of date."""
        for one in series:
            found = self.result(cell_of(one))
            found = replace(found, suite=suite or found.suite)
            self.save(found)

    def run_cell(self, name: str, options: Options, context: Context) -> Outcome:
        self.ran.append(name)
        if name in self.raises:
            raise self.raises[name]
        found = self.result(pipeline.chosen(name, context))
        self.save(found)
        return Outcome(result=found)


def cell_of(series: str) -> Cell:
    return combinations.named(f"compat-0.14-modelopt{series}", MATRIX, RELEASES)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    shutil.copytree(snapshot.WORKSPACE.constraints, tmp_path / "constraints")
    found = World(Workspace(tmp_path))
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    monkeypatch.setattr(machine, "device_class", lambda: "host")
    monkeypatch.setattr(pipeline, "run_cell", found.run_cell)
    monkeypatch.setenv("MCORE_COMPAT_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return found


def bisect(*options: str, good: str = GOOD, bad: str = BAD, check: str = CHECK) -> int:
    return cli.main(["bisect", "--good", good, "--bad", bad, "--check", check, *options])


def said_of(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_it_runs_what_the_answer_needs_and_tells_it(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.know("0.31", "0.40")
    assert bisect() == 0
    assert world.ran == ["compat-0.14-modelopt0.37", "compat-0.14-modelopt0.35"]
    said = capsys.readouterr().out.splitlines()
    assert said[0] == (
        "restore[gpt] changes at nvidia-modelopt 0.37.0: works at 0.35.1, broken at 0.37.0"
    )
    assert "2 of 6 points were not run: it is assumed that nothing else changes there" in said
    assert "cells run: compat-0.14-modelopt0.37, compat-0.14-modelopt0.35" in said
    table = [" ".join(line.split()) for line in said]
    assert any(
        line.startswith("0.31.0 ✓ works compat-0.14-modelopt0.31 result of 20") for line in table
    )
    assert "0.37.0 ✗ broken compat-0.14-modelopt0.37 run now" in table
    assert "0.39.0 · not run compat-0.14-modelopt0.39" in table
    assert "why it fails in compat-0.14-modelopt0.37: restore[gpt]" in said
    assert "  KeyError: 'decoder.weight'" in said


def test_points_that_cannot_be_asked_make_it_a_range(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.outcomes.update({"0.35": "blocked", "0.37": "needs-gpu"})
    world.know("0.31", "0.40")
    assert bisect("--format", "json") == 1
    said = said_of(capsys)
    assert (said["exact"], said["last"], said["first"]) == (False, "0.33.1", "0.39.0")
    assert "no answer at: 0.35.1, 0.37.0" in said["answer"]
    assert len(world.ran) <= 3 + 2


def test_without_a_run_the_range_is_what_is_known(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.know("0.31", "0.35", "0.40")
    assert bisect("--no-run", "--format", "json") == 1
    assert world.ran == []
    said = said_of(capsys)
    assert (said["last"], said["first"]) == ("0.35.1", "0.40.0")
    assert "not run: 0.37.0, 0.39.0" in said["answer"]


def test_an_outdated_result_counts_only_where_it_is_asked_for(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.know(*SERIES, suite="another")
    assert bisect("--no-run") == 2
    assert f"no result of {CHECK} that is up to date" in capsys.readouterr().err
    assert bisect("--no-run", "--stale", "--format", "json") == 0
    sources = {point["source"].partition(", ")[2] for point in said_of(capsys)["points"]}
    assert sources == {"out of date: the suite changed"}


def test_a_dry_run_runs_nothing_and_tells_the_cost(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.know("0.31")
    assert bisect("--dry-run", "--format", "json") == 0
    said = said_of(capsys)
    assert said["ends_to_run"] == [BAD]
    assert said["may_be_run"] == [f"compat-0.14-modelopt{s}" for s in SERIES[1:-1]]
    assert said["most_runs"] == 1 + 3
    assert said["most_minutes"] > 0
    assert bisect("--dry-run") == 0
    lines = capsys.readouterr().out
    assert f"would run, to confirm this end: {BAD}" in lines
    assert "would run at most 4 cells, about " in lines
    assert world.ran == []


def test_a_wheel_that_is_not_built_yet_is_part_of_the_cost(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = (f"compat-0.17-modelopt0.41-te2.{n}-torch2.9" for n in (9, 11))
    for name, outcome in ((good, "works"), (bad, "broken")):
        cell = combinations.named(name, MATRIX, RELEASES)
        world.save(world.ran_now(event(CHECK, outcome), cell=cell))
    assert bisect("--dry-run", "--format", "json", good=good, bad=bad) == 0
    said = said_of(capsys)
    assert said["may_be_run"] == ["compat-0.17-modelopt0.41-te2.10-torch2.9"]
    (key,) = said["may_be_built"]
    assert key.startswith("transformer-engine-torch-2.10.0-torch2.9.1-py3.12")
    assert said["most_minutes"] > plan.BUILD_S["transformer-engine-torch"] / 60


def test_where_all_is_known_a_dry_run_says_so(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.know(*SERIES)
    assert bisect("--dry-run") == 0
    assert "nothing to run: the results answer it already" in capsys.readouterr().out


def test_changes_that_are_more_than_one_are_all_told(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.outcomes = dict(
        zip(SERIES, ("works", "broken", "works", "works", "broken", "broken"), strict=True)
    )
    world.know(*SERIES)
    assert bisect() == 1
    said = capsys.readouterr().out.splitlines()
    assert "there is more than one change: 0.35.1, 0.37.0 contradict a single one" in said
    changes = "0.31.0 -> 0.33.1, 0.33.1 -> 0.35.1, 0.37.0 -> 0.39.0"
    assert f"changes seen: {changes}" in said


def test_where_there_is_more_than_one_change_nothing_is_assumed_of_the_rest(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.outcomes = dict(
        zip(SERIES, ("works", "works", "broken", "broken", "works", "broken"), strict=True)
    )
    world.know(*(SERIES[place] for place in (0, 2, 4, 5)))
    assert bisect() == 1
    said = capsys.readouterr().out.splitlines()
    assert "1 of 6 points were not run: there may be more changes there" in said


def test_hostile_text_is_shown_as_text(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.know("0.31", "0.40")
    hostile = "a\x1b[31m\u202eb"
    world.raises["compat-0.14-modelopt0.37"] = InterpreterError(hostile)
    assert bisect() == 1
    lines = capsys.readouterr().out.splitlines()
    assert any(line.endswith("run now: a\ufffd[31m\ufffdb") for line in lines)


def test_a_missing_python_is_a_point_that_cannot_be_asked(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.know("0.31", "0.40")
    world.raises["compat-0.14-modelopt0.37"] = InterpreterError("python 3.12 was found nowhere")
    assert bisect("--format", "json") == 1
    rows = {point["version"]: point for point in said_of(capsys)["points"]}
    assert rows["0.37.0"]["why"] == "python 3.12 was found nowhere"


def test_where_the_surroundings_fail_it_ends_and_what_was_run_is_kept(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.know("0.31", "0.40")
    world.raises["compat-0.14-modelopt0.35"] = InfrastructureError("no network")
    assert bisect() == 3
    assert capsys.readouterr().err.endswith("mcore-compat: no network\n")
    assert result_path("compat-0.14-modelopt0.37", "host", world.workspace.results).exists()


def test_a_declared_failure_is_told_with_its_rule(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.know(*SERIES)
    bisect("--format", "json")
    failure = said_of(capsys)["failure"]
    assert failure["declared"] is None
    assert failure["rules"] == [
        "nvidia-modelopt>=0.37.0,<=0.40.0 (3 cells fail, 3 work; "
        "nvidia-modelopt: works at 0.35.1, not tested above)"
    ]
    assert failure["text_for_upstream"] is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"good": "compat-0.14"}, "is not the name of a cell"),
        ({"bad": "0.14-modelopt0.99"}, "nvidia-modelopt has no release 0.99"),
        ({"bad": GOOD}, "are the same combination"),
        ({"check": "restor[gpt]"}, 'did you mean "restore[gpt]"'),
        ({"check": "private-names"}, "--bad compat-0.14-modelopt0.40: private-names works there"),
        ({"good": BAD, "bad": GOOD}, "are --good and --bad the wrong way round?"),
        ({"options": ["--axis", "tech"]}, 'has no "tech"; did you mean "torch"'),
        ({"options": ["--axis", "torch"]}, "have the same torch"),
        ({"options": ["--hold", "mcore"]}, "--hold: megatron-core is not part of a stack"),
        ({"options": ["--limit", "0"]}, "more than 0 s"),
        ({"options": ["--format", "yaml"]}, "no such choice"),
        ({"options": ["--no-run", "--dry-run"]}, "not allowed with"),
    ],
)
def test_bad_input_is_one_line_and_nothing_runs(
    change: dict[str, Any], said: str, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.know(*SERIES)
    options = change.pop("options", [])
    assert bisect(*options, **change) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.startswith("mcore-compat: ")
    assert error.count("\n") == 1
    assert world.ran == []


@pytest.fixture
def transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The index, as far as a line of transformers needs it."""
    listed = ["4.55.0", "4.55.4", "4.56.2", "4.57.0", "4.57.1"]
    monkeypatch.setattr(package_index, "resolvers_client", lambda: None)
    monkeypatch.setattr(package_index, "installable", lambda *_: listed)


@pytest.mark.usefixtures("world", "transformers")
@pytest.mark.parametrize("pin", ["4.55.x", "4.55.4"])
def test_the_newest_release_stands_for_a_series_without_a_lock(
    pin: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ends = {"good": f"{GOOD}-with-transformers@{pin}", "bad": f"{GOOD}-with-transformers@4.57.x"}
    assert bisect("--axis", "transformers", "--dry-run", "--format", "json", **ends) == 0
    cells = [point["cell"].partition("@")[2] for point in said_of(capsys)["points"]]
    assert cells == ["4.55.4", "4.56.2", "4.57.1"]


@pytest.mark.usefixtures("world", "transformers")
def test_a_series_that_does_not_exist_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    ends = {"good": f"{GOOD}-with-transformers@4.58.x", "bad": GOOD}
    assert bisect("--axis", "transformers", "--dry-run", **ends) == 2
    said = 'transformers==4.58.*: the index has no such release with a wheel; did you mean "4.5'
    assert said in capsys.readouterr().err


def test_over_megatron_core_what_moves_with_it_is_told(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = "compat-0.14-modelopt0.41", "compat-0.16-modelopt0.41"
    outcomes = {"0.14.0": "works", "0.15.3": "works", "0.16.1": "broken"}
    for name in (good, "compat-0.15-modelopt0.41", bad):
        cell = combinations.named(name, MATRIX, RELEASES)
        world.save(world.ran_now(event(CHECK, outcomes[cell.mcore]), cell=cell))
    assert bisect(good=good, bad=bad) == 0
    said = capsys.readouterr().out
    assert "changes at megatron-core 0.16.1" in said
    assert "the same step also changes transformer-engine 2.9.0 -> 2.11.0" in said
    assert said.splitlines()[1].startswith(
        "between them are also 0.16.0, not run: the change may be among them"
    )
    assert (
        "changing with megatron-core, by each series' default stack: transformer-engine, torch"
        in said
    )
