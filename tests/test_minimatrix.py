"""The whole program, as processes, on a dozen toy cells.

What is found is compared with `tests/minimatrix/golden/`: fields, without times, digests and
places, and one text of each renderer. Where a change is meant, MINIMATRIX_RENEW=1 writes them
anew; read the difference then.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from minimatrix import scenario
from minimatrix.project import PYTHON
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


def same_as_golden(name: str, seen: Any) -> None:
    """What was seen equals the golden file, on whichever Python the toy project runs."""
    path = GOLDEN / name
    texts = json.dumps(seen).replace(f"-py{PYTHON}-", "-pyPYTHON-")
    seen = json.loads(texts)
    if RENEW:
        data = json.dumps(seen, indent=1, sort_keys=True) + "\n"
        path.write_text(seen if isinstance(seen, str) else data)
    text = path.read_text()
    assert seen == (text if isinstance(seen, str) else json.loads(text))


def changed(played: Played, before: str, after: str) -> set[str]:
    """The cells whose complete result was written between two moments."""
    old, new = played.seen[f"{before}: times"], played.seen[f"{after}: times"]
    return {cell for cell, time in new.items() if old.get(cell) != time}


def one_line(played: Played, step: str, code: int, *words: str) -> None:
    """A step ended with a code and an error that says these words in its last line."""
    ended = played.ended[step]
    assert ended.code == code
    last = ended.err.splitlines()[-1]
    assert last.startswith("mcore-compat: ")
    assert "Traceback" not in ended.err
    for word in words:
        assert word in last


class TestRefresh:
    def test_all_that_the_index_has_is_known(self, played: Played) -> None:
        assert played.ended["refresh"].code == 0
        same_as_golden("releases.json", played.seen["releases"])


class TestRun:
    def test_a_cell_comes_to_its_verdict(self, played: Played) -> None:
        assert played.ended["run"].code == 0
        same_as_golden("run.json", played.seen["run"])

    def test_a_second_time_nothing_is_run(self, played: Played) -> None:
        again = played.ended["run again"]
        assert (again.code, again.err) == (0, "")
        assert "nothing changed since the published result of " in again.out
        assert not changed(played, "run", "run again")

    def test_forced_it_is_run_again(self, played: Played) -> None:
        assert played.ended["forced"].code == 0
        assert changed(played, "matrix", "edges") == {"compat-1.0-modelopt0.50"}

    def test_with_another_suite_it_is_run_again(self, played: Played) -> None:
        ran = changed(played, "edges", "suite changed")
        assert ran == {"compat-1.0-modelopt0.50-torch2.10", "compat-1.1-modelopt0.51"}

    def test_a_part_of_the_suite_is_no_verdict(self, played: Played) -> None:
        assert played.ended["part"].code == 0
        assert "restore[gpt] works" in played.ended["part"].err
        assert "import" not in played.ended["part"].err
        assert played.seen["edges"]["part"] is None

    def test_a_part_that_there_is_not_is_told(self, played: Played) -> None:
        one_line(played, "part of none", 2, "no check matches 'restoer'")

    def test_a_release_that_there_is_not_is_told(self, played: Played) -> None:
        one_line(played, "run of none", 2, "0.59")
        assert played.ended["run of none"].err.count("\n") == 1

    def test_a_suite_that_ends_early_leaves_what_it_learnt(self, played: Played) -> None:
        one_line(played, "ended early", 3, "ended early", "after 2 checks")
        early, ended = played.seen["edges"]["ended early"], played.seen["ended"]
        assert (early["complete"], early["outcome"]) == (False, "error")
        assert early["checks"] == {"import": "works", "restore[gpt]": "works"}
        assert (ended["complete"], ended["outcome"]) == (True, "compatible")

    def test_without_an_index_nothing_is_said_of_the_cell(self, played: Played) -> None:
        one_line(played, "no index", 3, "the index did not answer")
        assert played.seen["edges"]["no index"] is None

    @pytest.mark.parametrize(
        ("step", "file"),
        [("corrupt result", "host.json"), ("corrupt lock", ".txt"), ("other lock", ".txt")],
    )
    def test_a_wrong_file_is_named_with_the_way_out(
        self, played: Played, step: str, file: str
    ) -> None:
        one_line(played, step, 2, file, "nox -s")

    def test_two_runs_of_one_cell_do_not_meet(self, played: Played) -> None:
        one_line(played, "second run", 3, "is being run by another process")

    def test_told_to_end_it_leaves_what_it_learnt(self, played: Played) -> None:
        one_line(played, "first run", 130, "interrupted")
        first = played.seen["first run"]
        assert (first["complete"], first["outcome"]) == (False, "error")
        assert first["checks"] == {"import": "works"}


class TestOwnRun:
    """In a workspace in which results are published, as in a clone."""

    def test_the_suite_is_run_and_held_against_what_is_published(self, played: Played) -> None:
        own = played.ended["own"]
        assert own.code == 0
        assert "restore[gpt] works" in own.err
        assert own.out.splitlines()[-1].startswith("same as published on 20")

    def test_nothing_that_is_published_changes(self, played: Played) -> None:
        assert played.seen["own: changed"] == []

    def test_a_second_time_nothing_is_run(self, played: Played) -> None:
        again = played.ended["own again"]
        assert (again.code, again.err) == (0, "")
        first, *_, last = again.out.splitlines()
        assert "nothing changed since this machine's own run of 20" in first
        assert last.startswith("same as published on 20")

    def test_a_declared_failure_is_one_for_who_relies_on_the_cell(self, played: Played) -> None:
        broken = played.ended["own: broken"]
        assert broken.code == 1
        assert broken.out.splitlines()[-1].startswith("same as published on 20")

    def test_some_checks_are_no_verdict_and_fail_where_one_does(self, played: Played) -> None:
        assert played.ended["own: a part"].code == 1
        assert "published" not in played.ended["own: a part"].out

    def test_what_is_published_is_shown_and_that_the_own_run_ended_alike(
        self, played: Played
    ) -> None:
        shown = played.ended["own: shown"]
        assert (shown.code, shown.err) == (0, "")
        *_, own, results = shown.out.splitlines()
        assert own.startswith("this machine's own run of 20")
        assert ": same as published on 20" in own
        assert results.startswith("results: ")
        assert results.count("/main.host.json") == 2, "the published one, and this machine's"

    def test_of_what_is_not_published_the_own_run_is_shown_and_explained(
        self, played: Played
    ) -> None:
        assert "no result is published" in played.ended["own: alone"].out
        shown = played.ended["own: shown alone"]
        assert shown.code == played.ended["own: alone"].code
        assert "no result is published" in shown.out
        explained = played.ended["own: explained"]
        assert explained.code == 0
        assert explained.out

    def test_a_matrix_with_nothing_to_do_ends_well_but_not_for_who_relies_on_what_fails(
        self, played: Played
    ) -> None:
        assert (played.ended["own: matrix"].code, played.ended["own: matrix"].err) == (0, "")
        assert played.ended["own: for all"].code == 1


class TestBisect:
    def test_the_plan_says_what_may_be_run(self, played: Played) -> None:
        assert played.ended["bisect: dry"].code == 0
        assert not changed(played, "run", "run again")
        same_as_golden("bisect_plan.json", played.seen["bisect: dry"])

    def test_the_release_is_named_and_no_cell_run_twice(self, played: Played) -> None:
        assert played.ended["bisect"].code == 0
        same_as_golden("bisect.json", played.seen["bisect"])

    def test_what_is_known_is_not_asked_again(self, played: Played) -> None:
        assert played.ended["bisect: known"].code == 0
        same_as_golden("bisect.txt", played.seen["bisect: known"])

    def test_what_was_mended_is_found_from_the_other_side(self, played: Played) -> None:
        answer = json.loads(played.ended["bisect: mended"].out)
        assert (answer["last"], answer["first"], answer["ran"]) == ("1.2.0", "1.3.1", [])
        assert answer["failure"]["cell"] == "compat-1.2-modelopt0.50"


class TestMatrix:
    @pytest.mark.parametrize(("signal", "code"), [("SIGTERM", 130), ("SIGKILL", -9)])
    def test_stopped_nothing_of_it_goes_on(self, played: Played, signal: str, code: int) -> None:
        assert played.seen[f"{signal}: came so far"]
        assert played.ended[signal].code == code
        assert played.seen[f"{signal}: nothing goes on"]

    def test_what_was_half_done_is_kept_and_is_no_verdict(self, played: Played) -> None:
        half_done = played.seen["SIGTERM: half done"]
        assert len(half_done) == 2
        for result in half_done:
            assert (result["complete"], result["outcome"]) == (False, "error")
            assert result["checks"]["restore[gpt]"] == "works"

    @pytest.mark.parametrize("signal", ["SIGTERM", "SIGKILL"])
    def test_what_was_done_is_not_run_again(self, played: Played, signal: str) -> None:
        done, later = played.seen[f"{signal}: times"], played.seen["matrix: times"]
        assert {cell: later.get(cell) for cell in done} == done

    def test_the_rest_is_run(self, played: Played) -> None:
        assert changed(played, "SIGKILL", "matrix") == {"compat-1.2-modelopt0.51"}

    def test_every_cell_comes_to_its_verdict(self, played: Played) -> None:
        assert played.ended["matrix"].code == 1
        same_as_golden("matrix.json", played.seen["matrix"])

    def test_all_locks_are_there(self, played: Played) -> None:
        same_as_golden("locks.json", played.seen["locks"])

    def test_a_second_time_nothing_is_run(self, played: Played) -> None:
        again = played.ended["matrix again"]
        assert (again.code, again.err) == (0, "")
        assert not changed(played, "matrix", "matrix again")

    def test_that_no_cell_has_an_outcome_is_said(self, played: Played) -> None:
        none = played.ended["matrix: none"]
        assert none.code == 0
        assert none.err == "no selected cell is timed-out: nothing to run\n"

    def test_a_corrupt_matrix_is_one_line(self, played: Played) -> None:
        one_line(played, "corrupt matrix", 2, "matrix.toml is not valid TOML")


class TestReport:
    def test_the_data_say_what_was_found(self, played: Played) -> None:
        assert played.ended["report"].code == 0
        same_as_golden("published.json", played.seen["published"])

    def test_the_table(self, played: Played) -> None:
        same_as_golden("COMPATIBILITY.md", played.seen["table"])

    def test_nothing_has_drifted(self, played: Played) -> None:
        assert (played.ended["check"].code, played.ended["check"].out) == (0, "")

    def test_an_edited_table_is_named(self, played: Played) -> None:
        edited = played.ended["check: edited"]
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
        for cell, result in played.seen["matrix"].items():
            assert result["outcome"] in lines[cell]


class TestUpgrade:
    def test_what_is_lost_and_why(self, played: Played) -> None:
        assert played.ended["upgrade"].code == 1
        same_as_golden("upgrade.json", played.seen["upgrade"])

    def test_go_where_all_comes_over(self, played: Played) -> None:
        ended = played.ended["upgrade: go"]
        assert (ended.code, json.loads(ended.out)["answer"]) == (0, "go")

    def test_from_what_is_installed(self, played: Played) -> None:
        ended = played.ended["upgrade: current"]
        assert ended.code == 0
        assert "FROM is the installed combination" in ended.out

    def test_a_loss_that_is_accepted_is_none(self, played: Played) -> None:
        assert played.ended["upgrade: accepted"].code == 0

    def test_to_what_cannot_be_installed_nothing_is_exchanged(self, played: Played) -> None:
        ended = played.ended["upgrade: untested"]
        assert (ended.code, json.loads(ended.out)["answer"]) == (1, "no")
        assert "checkpoints" not in ended.err

    def test_a_file_is_written_and_said(self, played: Played) -> None:
        ended = played.ended["upgrade: file"]
        assert ended.code == 1
        assert ended.out.rstrip().endswith("answer.md")
        same_as_golden("upgrade.md", played.seen["upgrade: file"])


class TestNews:
    def test_a_dry_night_names_what_is_new_and_writes_nothing(self, played: Played) -> None:
        dry = played.ended["night: dry"]
        assert dry.code == 0
        for line in (
            "new: megatron-core 1.4.0 of 2025-06-20",
            "compat-1.4-modelopt0.50: untested",
            "compat-1.3-modelopt0.50: megatron-core 1.3.1 is out",
        ):
            assert line in dry.out
        assert "compat-1.2-modelopt0.50" not in dry.out
        assert played.seen["night: dry: wrote"] == []

    def test_a_refresh_says_what_the_matrix_lacks_and_leaves_it(self, played: Played) -> None:
        refresh = played.ended["refresh: news"]
        assert refresh.code == 0
        assert "not in the matrix: megatron-core 1.4 on TE 2.8.0, torch 2.9.0" in refresh.out
        assert played.seen["refresh: news: wrote"] == ["news.json", "releases.json"]

    def test_a_new_series_joins_although_a_refresh_saw_it_before(self, played: Played) -> None:
        assert played.ended["refresh: join"].code == 0
        assert "joins the matrix: megatron-core 1.4" in played.ended["refresh: join"].out
        assert played.seen["refresh: join: wrote"] == ["matrix.toml"]
        same_as_golden("joined.json", played.seen["joined"])

    def test_the_cells_of_a_night_are_listed_in_parts(self, played: Played) -> None:
        whole, *parts = (
            played.ended[f"night: list {part}"].out.split() for part in ("1/1", "1/2", "2/2")
        )
        assert sorted(parts[0] + parts[1]) == sorted(whole)
        assert set(whole) == set(played.seen["night"])
        assert all(parts)


class TestNight:
    def test_what_new_releases_touch_is_run(self, played: Played) -> None:
        assert played.ended["night"].code == 1
        same_as_golden("night.json", played.seen["night"])

    def test_locks_are_of_the_newest_patches_or_gone(self, played: Played) -> None:
        same_as_golden("night_locks.json", played.seen["night: locks"])

    def test_it_tells_what_a_release_broke_and_fixed(self, played: Played) -> None:
        out = played.ended["night"].out
        for word in ("## megatron-core 1.3.1", "fixed: `restore[moe]`", "## megatron-core 1.4.0"):
            assert word in out

    def test_it_compares_with_the_patch_before_too(self, played: Played) -> None:
        assert "`compat-1.3-modelopt0.50` (megatron-core 1.3.0" in played.ended["night"].out

    def test_the_report_is_made(self, played: Played) -> None:
        assert played.ended["night: check"].code == 0

    def test_the_next_night_has_nothing_to_do(self, played: Played) -> None:
        again = played.ended["night again"]
        assert again.code == 0
        assert again.out == "nothing new\nNo new release of megatron-core or ModelOpt.\n"
        assert not changed(played, "night", "night again")
        assert played.seen["night again: wrote"] == []


def test_no_process_is_left(played: Played) -> None:
    assert played.seen["left behind"] == []
