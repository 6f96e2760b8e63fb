"""The whole program, as processes, on a dozen toy cells.

What is found is compared with `tests/minimatrix/golden/`: fields, without times, digests and
places. Where a change is meant, MINIMATRIX_RENEW=1 writes them anew; read the difference then.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from minimatrix import scenario
from minimatrix.scenario import Played

GOLDEN = Path(__file__).parent / "minimatrix" / "golden"
RENEW = bool(os.environ.get("MINIMATRIX_RENEW"))


@pytest.fixture(scope="session")
def played(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Played:
    """Everything was done once, whichever of several test processes came first."""
    base = tmp_path_factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent
    kept = shared / "minimatrix.json"
    with FileLock(kept.with_suffix(".lock")):
        if not kept.exists():
            kept.write_text(scenario.play(shared / "minimatrix").dumps())
    return scenario.loads(kept.read_text())


def golden(name: str, seen: Any) -> Any:
    """What is to be seen."""
    path = GOLDEN / name
    if RENEW:
        as_text = (
            seen if isinstance(seen, str) else json.dumps(seen, indent=1, sort_keys=True) + "\n"
        )
        path.write_text(as_text)
    text = path.read_text()
    return text if isinstance(seen, str) else json.loads(text)


def changed(played: Played, before: str, after: str) -> set[str]:
    """The cells whose complete result was written between two moments."""
    old, new = played.seen[f"{before}: times"], played.seen[f"{after}: times"]
    return {cell for cell, time in new.items() if old.get(cell) != time}


class TestRefresh:
    def test_all_that_the_index_has_is_known(self, played: Played) -> None:
        assert played.ended["refresh"].code == 0
        seen = played.seen["releases"]
        assert seen == golden("releases.json", seen)


class TestRun:
    def test_a_cell_comes_to_its_verdict(self, played: Played) -> None:
        assert played.ended["run"].code == 0
        seen = played.seen["run"]
        assert seen == golden("run.json", seen)

    def test_a_second_time_nothing_is_run(self, played: Played) -> None:
        again = played.ended["run again"]
        assert again.code == 0
        assert "fresh evidence" in again.out
        assert not again.err
        assert not changed(played, "run", "run again")

    def test_a_release_that_there_is_not_is_one_line(self, played: Played) -> None:
        none = played.ended["run of none"]
        assert (none.code, none.out, none.err.count("\n")) == (2, "", 1)
        assert "0.59" in none.err


class TestBisect:
    def test_the_release_is_named_and_no_cell_run_twice(self, played: Played) -> None:
        assert played.ended["bisect"].code == 0
        seen = played.seen["bisect"]
        assert seen == golden("bisect.json", seen)

    def test_what_is_known_is_not_asked_again(self, played: Played) -> None:
        again = played.ended["bisect again"]
        answer = json.loads(again.out)
        assert (again.code, answer["first"], answer["ran"]) == (0, "1.2.0", [])


class TestMatrix:
    @pytest.mark.parametrize(("signal", "code"), [("SIGTERM", 130), ("SIGKILL", -9)])
    def test_stopped_nothing_of_it_goes_on(self, played: Played, signal: str, code: int) -> None:
        assert played.seen[f"{signal}: came so far"]
        assert played.ended[signal].code == code
        assert played.seen[f"{signal}: nothing goes on"]

    @pytest.mark.parametrize("signal", ["SIGTERM", "SIGKILL"])
    def test_what_was_learnt_stays_and_is_not_run_again(self, played: Played, signal: str) -> None:
        learnt, later = played.seen[f"{signal}: times"], played.seen["matrix: times"]
        assert learnt
        assert {cell: later.get(cell) for cell in learnt} == learnt

    def test_what_was_left_is_run(self, played: Played) -> None:
        assert changed(played, "before", "SIGKILL")
        assert changed(played, "SIGKILL", "matrix")

    def test_every_cell_comes_to_its_verdict(self, played: Played) -> None:
        assert played.ended["matrix"].code == 1
        seen = played.seen["matrix"]
        assert seen == golden("matrix.json", seen)

    def test_all_locks_are_there(self, played: Played) -> None:
        seen = played.seen["locks"]
        assert seen == golden("locks.json", seen)

    def test_a_second_time_nothing_is_run(self, played: Played) -> None:
        again = played.ended["matrix again"]
        assert (again.code, again.err) == (1, "")
        assert not changed(played, "matrix", "matrix again")


class TestReport:
    def test_the_data_say_what_was_found(self, played: Played) -> None:
        assert played.ended["report"].code == 0
        seen = played.seen["published"]
        assert seen == golden("published.json", seen)

    def test_the_table(self, played: Played) -> None:
        seen = played.seen["table"]
        assert seen == golden("COMPATIBILITY.md", seen)

    def test_nothing_has_drifted(self, played: Played) -> None:
        assert (played.ended["check"].code, played.ended["check"].out) == (0, "")
        edited = played.ended["check of an edited table"]
        assert edited.code == 1
        assert edited.out.split()[0] == "reports/COMPATIBILITY.md"


class TestAnswers:
    def test_explain_names_cause_and_interval(self, played: Played) -> None:
        ended = played.ended["explain"]
        assert ended.code == 0
        for word in ("restore[moe]", "KeyError: 'moe_router'", "megatron-core>=1.2.0,<=1.3.0"):
            assert word in ended.out

    def test_explain_says_what_cannot_be_installed(self, played: Played) -> None:
        ended = played.ended["explain: unresolvable"]
        assert ended.code == 0
        assert "toy-math>=2" in ended.out

    def test_recommend_names_the_best_first(self, played: Played) -> None:
        ended = played.ended["recommend"]
        assert ended.code == 0
        cells = [line.split()[0] for line in ended.out.splitlines() if line.startswith("compat-")]
        assert cells == ["compat-1.0-modelopt0.50", "compat-1.0-modelopt0.51"]
        assert played.ended["recommend: none"].code == 1

    def test_doctor_knows_the_environment_of_a_cell(self, played: Played) -> None:
        ended = played.ended["doctor"]
        assert ended.code == 1
        assert "compat-1.2-modelopt0.50 is partial" in ended.out

    def test_list_has_each_cell_with_its_verdict(self, played: Played) -> None:
        lines = dict(line.split(": ", 1) for line in played.ended["list"].out.splitlines())
        assert set(lines) == set(played.seen["matrix"])
        for cell, found in played.seen["matrix"].items():
            assert found["outcome"] in lines[cell]


class TestUpgrade:
    def test_what_is_lost_and_why(self, played: Played) -> None:
        assert played.ended["upgrade"].code == 1
        seen = played.seen["upgrade"]
        assert seen == golden("upgrade.json", seen)

    def test_go_where_all_comes_over(self, played: Played) -> None:
        ended = played.ended["upgrade: go"]
        assert (ended.code, json.loads(ended.out)["answer"]) == (0, "go")


class TestNightly:
    def test_dry_it_names_what_is_new_and_writes_nothing(self, played: Played) -> None:
        dry = played.ended["night: dry"]
        assert dry.code == 0
        for word in ("megatron-core 1.3.1", "megatron-core 1.4.0", "compat-1.4-modelopt0.50"):
            assert word in dry.out
        assert played.seen["night: dry wrote"] == []

    def test_what_is_new_joins_and_is_run(self, played: Played) -> None:
        assert played.ended["night"].code == 1
        seen = played.seen["night"]
        assert seen == golden("night.json", seen)

    def test_nothing_else_is_run(self, played: Played) -> None:
        ran = changed(played, "matrix", "night")
        assert {cell.split("-")[1] for cell in ran} == {"1.3", "1.4"}

    def test_it_tells_what_a_release_broke_and_fixed(self, played: Played) -> None:
        out = played.ended["night"].out
        for word in ("## megatron-core 1.3.1", "fixed: `restore[moe]`", "## megatron-core 1.4.0"):
            assert word in out

    def test_the_report_is_made(self, played: Played) -> None:
        assert played.ended["night: check"].code == 0

    def test_the_next_night_has_nothing_to_do(self, played: Played) -> None:
        assert played.ended["night again"].code == 0
        assert not changed(played, "night", "night again")


def test_no_process_is_left(played: Played) -> None:
    assert played.seen["left behind"] == []
