"""The fault tests' own judges can fail: each kind of wrong is planted once, and is noticed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from faults import __main__ as program
from faults import hostile_index, judging, score, session, tree
from faults.hostile_index import HostileIndex
from faults.judging import Column, Finding, Golden, Seen
from faults.kinds import REGISTRY
from faults.kinds.results import DAMAGES
from faults.tree import Tree
from faults.trial import Kind, Trial, Verdict
from faults.workshop import COMMANDS, Launch, Workshop
from minimatrix import packages

from mcore_compat.base.errors import InfrastructureError
from mcore_compat.cli import parsing

RESULT = "reports/results/compat-1/main.host.json"


def stored(outcome: str = "compatible", *, complete: bool = True, **checks: str) -> bytes:
    rows = [{"check": name, "outcome": said} for name, said in checks.items()]
    data = {"outcome": outcome, "complete": complete, "taken": "2026-01-01T00:00:00Z"}
    return json.dumps({**data, "checks": rows}).encode()


def golden(before: Tree, after: Tree | None = None, code: int = 0) -> Golden:
    return Golden(
        code=code,
        words=frozenset({"compatible", "works"}),
        seconds=1.0,
        before=before,
        after=before if after is None else after,
        home=frozenset(),
    )


OLD: Tree = {RESULT: stored(a="works"), "constraints/locks/a.txt": b"a==1\n"}
WELL = Seen(code=0, out="compat-1: compatible, works\n", err="", before=OLD, after=OLD)


def columns(findings: list[Finding]) -> set[Column]:
    return {finding.column for finding in findings}


def test_who_does_as_undisturbed_is_found_nothing_against() -> None:
    assert judging.judged(WELL, golden(OLD)) == []
    assert judging.judged_after(WELL, golden(OLD)) == []


def test_who_says_that_the_surroundings_failed_is_found_nothing_against() -> None:
    seen = replace(WELL, code=3, out="", err="mcore-compat: the disk is full\n")
    assert judging.judged(seen, golden(OLD, {**OLD, "reports/more.md": b"new\n"})) == []


@pytest.mark.parametrize(
    ("after", "column"),
    [
        ({**OLD, RESULT: stored(a="broken")}, Column.FALSE),
        ({**OLD, RESULT: stored("untested", a="works")}, Column.FALSE),
        ({**OLD, RESULT: OLD[RESULT].replace(b"[{", b'[{"check": "a"}, {')}, Column.FALSE),
        ({**OLD, "reports/results/compat-2/main.host.json": stored("unresolvable")}, Column.FALSE),
        ({**OLD, RESULT: b"{"}, Column.LOST),
        ({**OLD, RESULT: stored(complete=False, a="works")}, Column.LOST),
        ({"constraints/locks/a.txt": b"a==1\n"}, Column.LOST),
        ({**OLD, "constraints/locks/a.txt": b"a==2\n"}, Column.LOST),
        ({RESULT: OLD[RESULT]}, Column.LOST),
        ({**OLD, "reports/.main.host.json.abcd1234": b""}, Column.FILES),
        ({**OLD, RESULT: OLD[RESULT].replace(b'"a"', b'"\\u001b"')[:-1] + b' "\x1b"}'}, Column.RAW),
    ],
)
@pytest.mark.parametrize("code", [0, 3])
def test_what_is_stored_wrong_is_seen(after: Tree, column: Column, code: int) -> None:
    seen = replace(WELL, after=after, code=code, err="mcore-compat: why\n")
    assert column in columns(judging.judged(seen, golden(OLD)))


def test_part_of_a_first_run_is_no_loss() -> None:
    before = {"constraints/locks/a.txt": b"a==1\n"}
    part = {**before, RESULT: stored(complete=False, a="works")}
    seen = Seen(code=3, out="", err="stopped\n", before=before, after=part)
    whole = golden(before, {**before, RESULT: stored(a="works", b="works")})
    assert judging.judged(seen, whole) == []
    wrong = replace(seen, after={**part, RESULT: stored(complete=False, a="crashed")})
    assert columns(judging.judged(wrong, whole)) == {Column.FALSE}


@pytest.mark.parametrize(
    ("change", "column"),
    [
        ({"code": 1, "err": "why\n"}, Column.FALSE),
        ({"out": "compat-1: broken\n"}, Column.FALSE),
        ({"code": 3, "err": "", "out": ""}, Column.ENDS),
        ({"code": 2, "err": "why\n"}, Column.ENDS),
        ({"code": -9}, Column.ENDS),
        ({"code": None}, Column.HANGS),
        ({"err": "Traceback (most recent call last):\nKeyError\n"}, Column.TRACEBACKS),
        ({"out": "\x1b[31mcompatible"}, Column.RAW),
        ({"err": "\u202ework"}, Column.RAW),
        ({"left": ("the suite",)}, Column.PROCESSES),
        ({"temporary": ("tmpabcdefgh",)}, Column.FILES),
    ],
)
def test_how_it_ends_wrongly_is_seen(change: dict[str, object], column: Column) -> None:
    seen = replace(WELL, **change)  # type: ignore[arg-type]
    assert columns(judging.judged(seen, golden(OLD))) == {column}


def test_a_traceback_of_the_suite_is_handed_on() -> None:
    seen = replace(WELL, err="  Traceback (most recent call last):\n")
    assert judging.judged(seen, golden(OLD)) == []


def test_to_have_done_nothing_is_no_success() -> None:
    new = {**OLD, "reports/table.md": b"new\n"}
    assert columns(judging.judged(WELL, golden(OLD, new))) == {Column.FALSE}


def test_half_of_what_is_published_is_seen() -> None:
    old = {**OLD, "reports/a.md": b"1\n", "reports/b.md": b"1\n"}
    new = {**OLD, "reports/a.md": b"2\n", "reports/b.md": b"2\n"}
    half = replace(WELL, before=old, after={**old, "reports/a.md": b"2\n"}, code=3, err="full\n")
    assert columns(judging.judged(half, golden(old, new))) == {Column.FILES}
    killed = replace(half, killed=True)
    assert judging.judged(killed, golden(old, new)) == []


@pytest.mark.parametrize(
    "change",
    [
        {"code": 1},
        {"out": "untested"},
        {"after": {}},
        {"temporary": ("tmp",)},
        {"left": ("uv",)},
        {"err": "Traceback (most recent call last):"},
    ],
)
def test_what_stays_poisoned_is_seen(change: dict[str, object]) -> None:
    seen = replace(WELL, **change)  # type: ignore[arg-type]
    assert columns(judging.judged_after(seen, golden(OLD))) == {Column.AFTER}


def test_times_do_not_tell_trees_apart_but_facts_of_releases_do() -> None:
    one, other = (
        b'{"taken": "2026-01-01", "seconds": 1.5}',
        b'{"taken": "2026-02-02", "seconds": 2}',
    )
    assert tree.changed({"reports/a.json": one}, {"reports/a.json": other}) == []
    assert tree.changed({"constraints/a.json": one}, {"constraints/a.json": other}) != []


def test_a_finding_has_no_path_and_nothing_random() -> None:
    error = "Traceback (most recent call last):\nOSError: /tmp/x/y: /tmp/tmpabcdefgh 12345\n"
    (found,) = judging.judged(replace(WELL, err=error), golden(OLD))
    assert found.what == "OSError: …: … N"


def test_a_tree_tells_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").symlink_to("a")
    (tmp_path / tree.FILLER).write_text("much")
    (tmp_path / "c").symlink_to(tmp_path)
    assert tree.read(tmp_path) == {
        "a": b"a",
        "b": b"a link to a",
        "c": f"a link to {tmp_path}".encode(),
    }


# What is planted must be seen where processes really run.


PLAY = """\
import json, os, subprocess, sys, time
what = sys.argv[1]
if what == "leaves":
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
elif what == "hangs":
    time.sleep(60)
elif what == "raises":
    raise OSError("no space")
print("compatible")
"""


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Workshop]:
    """A workshop whose program is one that does wrong on purpose."""
    place = tmp_path / "shop"
    place.mkdir()
    made = Workshop(place, HostileIndex(()))
    script = tmp_path / "program.py"
    script.write_text(PLAY)
    made.toy = replace(made.toy, program=(sys.executable, str(script)))
    yield made
    made.kill_all()


def test_a_process_that_is_left_is_seen_and_ended(shop: Workshop) -> None:
    ended = shop.run(("leaves",), Launch())
    assert ended.code == 0
    assert len(shop.left()) == 1
    assert shop.toy.processes() == set()


def test_a_hang_is_seen_and_ended(shop: Workshop) -> None:
    shop.limit = 0.5
    ended = shop.run(("hangs",), Launch())
    assert ended.code is None
    assert shop.toy.processes() == set()


def test_a_traceback_is_seen(shop: Workshop) -> None:
    ended = shop.run(("raises",), Launch())
    seen = Seen(code=ended.code, out=ended.out, err=ended.err, before={}, after={})
    assert columns(judging.judged(seen, golden({}))) == {Column.TRACEBACKS}


def test_streams_can_be_closed_and_full(shop: Workshop) -> None:
    assert shop.run(("well",), Launch()).out == "compatible\n"
    assert shop.run(("well",), Launch(out="/dev/full")).out == ""
    assert shop.run(("well",), Launch(closed=(1,))).out == ""


# The kinds.


def test_there_are_forty_kinds_and_all_of_real_commands() -> None:
    assert len(REGISTRY) >= 40
    for kind in REGISTRY.values():
        assert {*kind.commands, *kind.also} <= {*COMMANDS}, kind.name


def test_the_page_has_the_kinds_in_their_words_of_now() -> None:
    stored: score.Score = json.loads(score.SCORE.read_text())
    for name in stored["kinds"].keys() & REGISTRY.keys():  # the rest: after the next session
        assert stored["kinds"][name]["what"] == REGISTRY[name].what
    assert score.PAGE.read_text() == score.rendered(stored)


def test_a_removed_folder_is_told_in_the_words_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tmp_path.rmdir()
    with pytest.raises(InfrastructureError, match=REGISTRY["folder-working-deleted"].what):
        parsing.parse(["list"])


def test_each_damage_changes_a_result() -> None:
    row = {"check": "a", "kind": "a", "family": None, "outcome": "works", "seconds": 0.0}
    data = {"cell": "compat-1.0-modelopt0.50", "outcome": "compatible", "complete": True}
    rest = {"lock": "1", "suite": "2", "taken": "x", "reason": None, "installed": {}}
    content = json.dumps({**data, **rest, "checks": [row, {**row, "check": "b"}]}).encode()
    for name, (_, damage) in DAMAGES.items():
        assert damage(content) != content, name


def test_injections_are_spread_over_all_kinds_and_the_seed_decides() -> None:
    kinds = [*REGISTRY.values()]
    todo = session.planned(kinds, 1000, 1)
    assert len(todo) == 1000
    assert {kind.name for kind, _ in todo} == {*REGISTRY}
    names = [(kind.name, number) for kind, number in todo]
    assert len(set(names)) == 1000
    assert names == [(kind.name, number) for kind, number in session.planned(kinds, 1000, 1)]
    assert names != [(kind.name, number) for kind, number in session.planned(kinds, 1000, 2)]
    assert len(session.planned(kinds, 7, 1)) == 7


def kind(name: str = "planted") -> Kind:
    @contextmanager
    def place(trial: Trial) -> Iterator[Launch]:
        yield Launch()

    return Kind(name=name, what="a planted fault", commands=("run",), place=place)


def test_the_score_counts_each_column_and_is_not_0() -> None:
    wrong = (Finding(Column.FALSE, "a | b"), Finding(Column.FALSE, "c"))
    late = Verdict(kind="planted", number=2, command="run", findings=(), placed=False)
    verdicts = [
        late,
        Verdict(kind="planted", number=1, command="run", findings=wrong),
        Verdict(kind="planted", number=0, command="run", findings=()),
    ]
    made = score.of(verdicts, {"planted": kind(), "other": kind("other")}, {"other": "no root"}, 7)
    assert (made["tried"], made["kinds"]["planted"]["late"]) == (2, 1)
    assert score.totals(made)[Column.FALSE] == 1
    assert score.failed(made)
    assert not score.failed(score.of([late], {"planted": kind()}, {}, 7))
    page = score.rendered(made)
    assert "| `planted` | a planted fault | 2 | 1 | 0 |" in page
    assert "a \\| b (`--again planted/1`; 1 of 2)" in page
    assert "no root" in page
    assert page == score.rendered(json.loads(score.dumped(made)))
    assert "planted" in score.shown(made)


def test_kinds_that_were_asked_again_have_their_rows_anew(tmp_path: Path) -> None:
    wrong = (Finding(Column.FALSE, "a"),)
    kinds = {"planted": kind(), "other": kind("other")}
    first = [
        Verdict(kind="planted", number=0, command="run", findings=wrong),
        Verdict(kind="other", number=0, command="run", findings=()),
    ]
    path = tmp_path / "score.json"
    path.write_text(score.dumped(score.of(first, kinds, {}, 7)))
    well = [Verdict(kind="planted", number=0, command="run", findings=())]
    made = score.renewed(score.of(well, {"planted": kind()}, {}, 7), path)
    assert (made["tried"], made["again"], score.failed(made)) == (2, ["planted"], False)
    assert "run again after all others, as often: `planted`" in score.rendered(made)
    assert "again" not in score.rendered(score.of(first[1:], {"other": kind("other")}, {}, 7))[600:]
    for later in (score.of(well, {"planted": kind()}, {}, 8), score.of([], {"x": kind()}, {}, 7)):
        with pytest.raises(ValueError, match="run all of them"):
            score.renewed(later, path)


def test_a_name_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["--kinds", "nonsense-*"]) == program.USAGE
    assert program.main(["--again", "nonsense/1"]) == program.USAGE
    assert "nonsense" in capsys.readouterr().err


@pytest.mark.parametrize(
    "bad", [hostile_index.html, hostile_index.empty_list, hostile_index.forgets, hostile_index.lies]
)
def test_the_index_answers_badly_until_it_is_mended(bad: hostile_index.Bad) -> None:
    import socket

    one, other = socket.socketpair()
    index = HostileIndex(packages.RELEASES)
    good = index.answered("/projects/torch/", one)
    index.spoil(bad, after=1)
    assert index.answered("/projects/torch/", one) == good
    assert index.answered("/projects/torch/", one) != good
    assert index.did_bad == 1
    index.mend()
    assert index.answered("/projects/torch/", one) == good
    one.close()
    other.close()


def test_an_interruption_of_the_fault_tests_ends_them() -> None:
    """Nothing of them goes on."""
    argv = [sys.executable, "-m", "faults", "--kinds", "result-empty", "--jobs", "1"]
    here = Path(__file__).resolve().parent
    env = {"PYTHONPATH": f"{here}:{here.parent}", "PATH": "/usr/bin:/bin"}
    process = subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    timer = threading.Timer(20.0, process.kill)
    timer.start()
    assert "seed 17" in process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == program.INTERRUPTED
    timer.cancel()
