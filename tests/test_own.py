"""A machine's own runs: when the suite is run, where its result lies, and what is said of what is
published. The stages' processes stand in, as in `test_pipeline`."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import replace

import pytest
import test_pipeline
from engine_support import END
from support import CONDITION, START, event, stand_in_result
from test_pipeline import CELL, Stages

from mcore_compat.base.errors import ExitCode, ResultError
from mcore_compat.core.outcomes import CellOutcome
from mcore_compat.core.profiles import DEFAULT, Profile
from mcore_compat.results import store
from mcore_compat.results.result import LEFT_OUT, STAND_IN, Reason, Result, result_path
from mcore_compat.run import cells, own, pipeline
from mcore_compat.run.context import Options

stages = test_pipeline.stages
RESTORES = event("restore[gpt]", feature="restore")


@pytest.fixture
def clone(stages: Stages, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stages]:
    """A workspace in which another machine's result of the cell is published."""
    monkeypatch.setattr(platform, "node", lambda: "another")
    stages.suite.events = [START, RESTORES, END]
    pipeline.run_cell(CELL, Options(publish=True), stages.context())
    stages.suite.runs = 0
    monkeypatch.setattr(platform, "node", lambda: "mine")
    yield stages
    assert stages.workspace.machine == "", "what is published is meant where nobody says otherwise"


def run(stages: Stages, **options: bool) -> int:
    return cells.run_suite(CELL, Options(**options), stages.context())


def texts(stages: Stages) -> dict[str, str]:
    """All that is published."""
    files = [path for path in stages.workspace.reports.rglob("*") if path.is_file()]
    return {str(path): path.read_text() for path in files}


def own_result(stages: Stages, machine: str = "mine") -> Result:
    place = replace(stages.workspace, machine=machine)
    return store.load(result_path(CELL, "host", place.results))


def test_the_first_time_the_suite_is_run_and_what_is_published_stays(
    clone: Stages, capsys: pytest.CaptureFixture[str]
) -> None:
    published = texts(clone)
    assert run(clone) == 0
    assert clone.suite.runs == 1
    assert texts(clone) == published
    assert own_result(clone).outcome is CellOutcome.COMPATIBLE
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == f"same as published on {clone.stored().taken[:10]}"
    assert "nothing changed" not in out


def test_a_second_time_nothing_is_run_and_the_verdict_is_told(
    clone: Stages, capsys: pytest.CaptureFixture[str]
) -> None:
    run(clone)
    capsys.readouterr()
    assert run(clone) == 0
    assert clone.suite.runs == 1
    first, second, *_, last = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{CELL}: nothing changed since this machine's own run of 20")
    assert "compatible for default" in second
    assert last.startswith("same as published on ")
    run(clone, force=True)
    assert clone.suite.runs == 2


def test_another_machine_with_the_same_workspace_runs_for_itself(
    clone: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(clone)
    monkeypatch.setattr(platform, "node", lambda: "../of.a/cluster")
    run(clone)
    assert clone.suite.runs == 2
    assert own_result(clone, "of-a-cluster").complete


def test_what_ends_otherwise_is_asked_once_more_and_told(
    clone: Stages, capsys: pytest.CaptureFixture[str]
) -> None:
    clone.suite.events = [START, event("restore[gpt]", "broken", feature="restore"), END]
    code = run(clone)
    assert clone.suite.runs == 2, "it contradicts a result of the same lock and suite"
    assert isinstance(code, ExitCode)
    assert code == 1
    assert code.why.startswith(f"{CELL}: ✗ incompatible for default: restore of gpt: KeyError")
    *_, head, line = capsys.readouterr().out.splitlines()
    assert head.startswith("unlike the result published on ")
    assert head.endswith(": 1 of 1 checks have another outcome here")
    assert line == "  restore[gpt]: works -> broken"
    assert clone.stored().outcome is CellOutcome.COMPATIBLE


def test_with_publish_it_takes_the_place_of_what_is_published(
    clone: Stages, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(clone, publish=True) == 0
    assert clone.suite.runs == 0
    assert "nothing changed since the published result of 20" in capsys.readouterr().out
    clone.suite.events = [START, event("restore[gpt]", "broken", feature="restore"), END]
    assert run(clone, publish=True, force=True) == 1
    assert clone.stored().outcome is CellOutcome.INCOMPATIBLE
    assert not (clone.workspace.root / "own-results").exists()
    assert "same as published" not in capsys.readouterr().out


def test_a_damaged_own_result_is_made_anew_and_a_damaged_published_one_is_told(
    clone: Stages,
) -> None:
    run(clone)
    place = own.workspace(clone.workspace)
    result_path(CELL, "host", place.results).write_text("{")
    assert run(clone) == 0
    assert clone.suite.runs == 2
    result_path(CELL, "host", clone.workspace.results).write_text("{")
    with pytest.raises(ResultError, match=f"nox -s {CELL} -- --publish --force"):
        run(clone)


def told(mine: Result, published: Result | None) -> list[str]:
    return [*own.compared(mine, published)]


def test_of_many_checks_ten_are_named_and_the_rest_is_counted() -> None:
    names = [f"check{n:02}" for n in range(13)]
    published = stand_in_result(*(event(name) for name in names))
    mine = stand_in_result(*(event(name, "broken") for name in names[:12]), event(names[12]))
    head, *lines = told(mine, published)
    assert "12 of 13 checks have another outcome here" in head
    assert lines == [*(f"  {name}: works -> broken" for name in names[:10]), "  and 2 more"]


def test_another_cause_and_another_condition_are_differences() -> None:
    failing = event("a", "broken")
    other = {**failing, "failure": {**failing["failure"], "message": "'decoder.bias'"}}
    published = stand_in_result(failing, event("b", "works-with"))
    mine = stand_in_result(other, event("b", "works-with", condition=f"{CONDITION}  # so"))
    assert told(mine, published)[1:] == [
        "  a: broken, with another cause",
        "  b: works-with, under another condition",
    ]
    assert told(published, published) == ["same as published on 2026-01-01"]


def test_it_is_said_where_what_is_published_is_of_something_else() -> None:
    published = stand_in_result(event("restore[gpt]"), event("import-te-abi"))
    assert told(replace(published, suite="other"), published) == [
        "same as published on 2026-01-01 (out of date: the suite changed)"
    ]
    abi = event("import-te-abi", "needs-gpu", details={LEFT_OUT: ["x"]})
    mine = replace(stand_in_result(event("restore[gpt]"), abi), te_extension=STAND_IN)
    assert told(mine, published) == [
        "same as published on 2026-01-01 (with the real extension of Transformer Engine)"
    ]


def test_what_did_not_come_to_its_checks_is_compared_by_its_ending() -> None:
    published = stand_in_result(RESTORES)
    reason = Reason(kind="unbuildable", message="no nvcc", help="")
    mine = replace(published, outcome=CellOutcome.UNBUILDABLE, checks=(), reason=reason)
    assert told(mine, published) == [
        "published on 2026-01-01: compatible -> here: unbuildable",
    ]
    assert told(mine, mine) == ["same as published on 2026-01-01"]
    (line,) = told(mine, None)
    assert "no result is published for device class host" in line


def test_of_a_part_counts_what_the_profile_takes() -> None:
    broken = event("restore-tp1-to-tp2[gpt]", "broken", feature="parallel")
    result = stand_in_result(broken, RESTORES)
    assert cells.part_code(result) == 1
    assert cells.part_code(result, DEFAULT) == 0
    code = cells.part_code(result, Profile(name="", features=("parallel",)))
    assert isinstance(code, ExitCode)
    assert code.why.startswith(f"{CELL}: 1 of 2 checks fail: restore-tp1-to-tp2[gpt]: KeyError")


def test_of_several_runs_the_worst_counts_and_the_first_is_told() -> None:
    assert cells.together([]) == cells.together([0, 0]) == 0
    one = ExitCode(1, "a: no")
    assert cells.together([0, one]) is one
    both = cells.together([0, one, ExitCode(1, "b: no")])
    assert isinstance(both, ExitCode)
    assert (both, both.why) == (1, "2 of 3 runs failed; a: no")
