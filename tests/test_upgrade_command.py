"""The command `upgrade`: what it runs, prints and ends with. Cells, suites and exchanges stand in;
the examples in `docs/` are made of the real results."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import snapshot
from loads_support import answer
from rich.console import Console
from support import HOSTILE, event, hostile_event
from test_doctor import changed, record
from upgrade_support import (
    ALL_LOAD,
    BROKEN,
    FROM,
    GOOD,
    TO,
    answered,
    exchanged,
    known,
    recorded,
    shows,
)

from mcore_compat import cli
from mcore_compat.base.errors import CompatError, InfrastructureError, UsageError
from mcore_compat.core.workspace import Workspace
from mcore_compat.environments import scan
from mcore_compat.environments.scan import Installed
from mcore_compat.exchange import drive
from mcore_compat.exchange import run as exchange_run
from mcore_compat.exchange.pairs import Work
from mcore_compat.resolve import locks
from mcore_compat.results import store
from mcore_compat.results.result import Result, result_path
from mcore_compat.run import machine, pipeline
from mcore_compat.run.check_sets import MAIN
from mcore_compat.run.pipeline import Outcome
from mcore_compat.upgrade import data, document, sides
from mcore_compat.upgrade.answer import UpgradeAnswer as Answered

LOST = (GOOD[0], event("modelopt-state-int8[gpt]", "broken"))
ARGV = ["upgrade", "0.16-modelopt0.41", "compat-0.16-modelopt0.42"]


def real(of: Any, *events: dict[str, Any]) -> Result:
    """A made-up result that holds for a real cell's lock and today's suite."""
    lock = locks.read(snapshot.WORKSPACE.lock(of.name))
    return replace(today(of, *events), lock=lock.digest)


def today(of: Any, *events: dict[str, Any]) -> Result:
    """A made-up result of today's suite, of a cell that has no lock."""
    return replace(recorded(shows(of, *events)), suite=MAIN.digest(snapshot.WORKSPACE.suite))


def loads(found: Sequence[Result]) -> Result:
    """FROM's checkpoints, all loaded in TO, with today's checks."""
    digests = {e.cell: e.lock for e in found}
    checks = exchange_run.digest(snapshot.WORKSPACE)
    one = exchanged(TO, FROM, ALL_LOAD, suite=checks, lock=digests[TO.name])
    source = replace(one.sources[FROM.name], lock=digests[FROM.name])
    return replace(one, sources={FROM.name: source})


class Place:
    """The results of a workspace, and what was run: a run shows what lies there."""

    def __init__(self, workspace: Workspace) -> None:
        self.results = workspace.results
        self.ran: list[str] = []
        self.failed: dict[str, CompatError] = {}
        good = real(FROM, *GOOD), real(TO, *GOOD)
        self.keep(*good, loaded=loads(good))

    def keep(self, *found: Result, loaded: Result | None = None) -> None:
        """These are all results there are."""
        shutil.rmtree(self.results, ignore_errors=True)
        for one in found:
            store.save(one, self.results)
        if loaded:
            store.save(loaded, self.results)

    def lose(self) -> None:
        store.save(real(TO, *LOST), self.results)

    def run(self, name: str, *_: Any) -> Outcome:
        self.ran.append(name)
        return Outcome(result=store.load(result_path(name, "host", self.results)))

    def exchange(
        self, work: Work, _: object, tell: Callable[[str], None]
    ) -> dict[str, CompatError]:
        self.ran += [f"{pair.origin} > {pair.target}" for pair in work.pairs]
        tell("what the exchange prints")
        return self.failed


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Place:
    made = Place(snapshot.workspace_in(tmp_path, monkeypatch))
    monkeypatch.setattr(pipeline, "run_cell", made.run)
    monkeypatch.setattr(machine, "device_class", lambda: "host")
    monkeypatch.setattr(drive, "exchange", made.exchange)
    return made


# Exit codes


def test_go_with_changes_is_1_unless_changes_are_fine(place: Place) -> None:
    place.keep(real(FROM, *GOOD), real(TO, *GOOD))
    assert cli.main([*ARGV, "--no-run"]) == 1
    assert cli.main([*ARGV, "--no-run", "--changes-ok"]) == 0


def test_no_is_1_unless_the_loss_is_accepted(place: Place) -> None:
    place.lose()
    assert cli.main([*ARGV, "--no-run"]) == 1
    assert cli.main([*ARGV, "--no-run", "--changes-ok"]) == 1
    assert cli.main([*ARGV, "--no-run", "--accept", "modelopt-state-int8[gpt]"]) == 0


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "FROM is missing: name a cell"),
        (["0.16-modelopt0.41"], "TO is missing: name a cell"),
        (["nonsense", "0.16-modelopt0.41"], '"compat-nonsense" is not the name of a cell'),
        (["0.16-modelopt0.41", "0.16-modelopt9.9"], "has no release 9.9"),
        (["0.16-modelopt0.41", "0.16-modelopt0.41"], "the same cell"),
        (["0.16-modelopt0.41", "0.16.1-modelopt0.41.0"], "the same cell"),
        (["0.16-modelopt0.41", "current"], "only FROM can be"),
        (["0.16-modelopt0.41", "0.16-modelopt0.42", "--python", "x"], "is only for FROM current"),
        (
            ["current", "0.16-modelopt0.42", "--no-run", "--python", "x"],
            "is not a working Python interpreter",
        ),
        (["0.16-modelopt0.41", "0.16-modelopt0.42", "--no-run", "--blame"], "leave out one"),
        (["0.16-modelopt0.41", "0.16-modelopt0.42", "--device-class", "gpu"], "add --no-run"),
        (["0.16-modelopt0.41", "0.16-modelopt0.42", "--no-run", "--output", "."], "is a folder"),
        (["0.16-modelopt0.41", "0.16-modelopt0.42", "--format", "mardown"], '"markdown"'),
        (
            ["0.16-modelopt0.41", "0.16-modelopt0.42", "--no-run", "--accept", "restor[gpt]"],
            'did you mean "restore[gpt]"',
        ),
    ],
)
def test_bad_input_is_one_line(
    argv: list[str], said: str, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["upgrade", *argv]) == 2
    caught = capsys.readouterr()
    assert said in caught.err
    assert caught.err.startswith("mcore-compat: ")
    assert caught.err.count("\n") == 1
    assert caught.out == ""
    assert place.ran == []


def test_full_versions_mean_the_tested_cell(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["upgrade", "0.16.1-modelopt0.41.0", "0.16.1-modelopt0.42.0", "--no-run"]) == 0
    assert capsys.readouterr().out.startswith(f"Upgrade {FROM.name} → {TO.name}: go, for default\n")


# What is run


def test_without_leave_nothing_is_run(place: Place) -> None:
    cli.main([*ARGV, "--no-run"])
    assert place.ran == []


def test_a_failure_of_the_surroundings_answers_nothing(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    place.failed = {FROM.name: InfrastructureError("the disk is full")}
    assert cli.main(ARGV) == 3
    assert f"{FROM.name} > {TO.name}" in place.ran
    assert capsys.readouterr().out == ""


def test_blame_runs_what_is_open_and_answers_with_what_that_showed(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From one cell to another with ModelOpt and TE moved; one of the two in between is known."""
    far = replace(FROM, name="compat-0.16-modelopt0.42-te2.9", modelopt="0.42.0", te="2.9.0")
    alone = replace(FROM, name="compat-0.16-modelopt0.41-te2.9", te="2.9.0")
    monkeypatch.setattr(pipeline, "chosen", lambda name, here: {FROM.name: FROM}.get(name, far))
    good = real(FROM, *GOOD), real(TO, *GOOD)
    place.keep(*good, today(far, *LOST), loaded=loads(good))

    def run(name: str, *_: Any) -> Outcome:
        if name == alone.name:
            store.save(today(alone, *LOST), place.results)
        return Place.run(place, name)

    monkeypatch.setattr(pipeline, "run_cell", run)
    argv = ["upgrade", "0.16-modelopt0.41", far.name, "--format", "json"]
    assert cli.main(argv) == 1
    (loss,) = json.loads(capsys.readouterr().out)["losses"]
    assert loss["blame"]["open"] == [alone.name]
    assert alone.name not in place.ran
    assert cli.main([*argv, "--blame"]) == 1
    caught = capsys.readouterr()
    assert "--blame: running at most 1 cells" in caught.err
    assert place.ran[-1] == alone.name
    (loss,) = json.loads(caught.out)["losses"]
    assert [c["axes"] for c in loss["blame"]["culprits"]] == [["transformer-engine"]]
    assert loss["blame"]["open"] == []


def test_what_is_known_of_another_device_class_is_told_as_such(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    there = store.load_all(place.results)
    place.keep(*(replace(e, device_class="gpu") for e in there))
    cli.main([*ARGV, "--no-run", "--format", "json"])
    assert json.loads(capsys.readouterr().out)["device_class"] == "gpu"


def test_a_device_class_that_is_asked_for_is_not_replaced_by_another(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*ARGV, "--no-run", "--device-class", "gpu", "--format", "json"]) == 1
    made = json.loads(capsys.readouterr().out)
    assert (made["answer"], made["device_class"]) == ("no", "gpu")
    assert made["from"]["state"] == made["to"]["state"] == "untested"


# What is printed


def test_a_file_is_written_and_said(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for form in ("terminal", "markdown", "json"):
        out = tmp_path / form
        assert cli.main([*ARGV, "--no-run", "--format", form, "--output", str(out)]) == 0
        assert capsys.readouterr().out.endswith(f": go; {out}\n")
        assert out.read_text(encoding="utf-8").endswith("\n")
    whole = (tmp_path / "terminal").read_text(encoding="utf-8")
    assert not any(line != line.rstrip() for line in whole.splitlines())


def full_answer() -> Answered:
    """One with something in every part."""
    refused = {**ALL_LOAD, "gpt:quantized": answer(BROKEN)}
    return answered(known([shows(FROM, *GOOD), shows(TO, *LOST)], [exchanged(TO, FROM, refused)]))


def test_the_json_is_sorted_the_same_each_time_and_as_documented() -> None:
    one, other = data.text(full_answer()), data.text(full_answer())
    assert one == other
    made = json.loads(one)
    assert list(made) == sorted(made)
    assert data.__doc__ is not None
    for key in [*made, *made["losses"][0], *made["checkpoints"]["routes"][0], *made["pins"]]:
        assert f"`{key}`" in data.__doc__, key


def hostile() -> Answered:
    bad = replace(shows(TO, GOOD[0], hostile_event("modelopt-state-int8[gpt]")))
    return answered(known([shows(FROM, *GOOD), bad], [exchanged(TO, FROM, ALL_LOAD)]))


def test_hostile_text_shows_as_text() -> None:
    made = document.markdown(hostile())
    assert "owned" in made
    outside = [part for line in made.splitlines() for part in line.split("`")[::2]]
    assert not any("<script" in part or "<img" in part for part in outside)
    assert "\x1b" not in made
    assert "\u202e" not in made
    out = io.StringIO()
    document.show(hostile(), Console(file=out, highlight=False, width=80))
    assert "\x1b" not in out.getvalue()
    assert "\u202e" not in out.getvalue()
    json.loads(data.text(hostile()))


@pytest.mark.parametrize("name", ["a`b|c\nd", HOSTILE])
def test_a_name_in_a_cell_of_a_table_stays_one(name: str) -> None:
    answer = full_answer()
    target = replace(answer.target, cell=replace(answer.target.cell, name=name))
    lines = document.markdown(replace(answer, target=target))
    (row,) = (line for line in lines.splitlines() if line.startswith("| TO |"))
    assert row.replace("\\|", "").count("|") == 6
    if "`b" in name:
        assert row.startswith("| TO | ``a`b\\|c d`` |")


# What is installed


THERE = Installed(
    python="3.12.1",
    versions={**FROM.pins, "torch": "2.9.1+cu128"},
    requires={},
)


def test_what_is_installed_is_the_very_cell() -> None:
    chosen = sides.installed(THERE, [record()])
    assert chosen == ("compat-0.16-modelopt0.41", "FROM is the installed combination", "")


def test_the_nearest_stands_for_what_was_not_tested() -> None:
    other = replace(THERE, versions={**THERE.versions, "torch": "2.9.0"})
    chosen = sides.installed(other, [record()])
    assert chosen.name == "compat-0.16-modelopt0.41"
    assert chosen.note.endswith("with torch 2.9.1 (not 2.9.0)")
    assert chosen.stands_in


def test_the_core_library_alone_tells_the_version_of_te() -> None:
    versions = {k: v for k, v in THERE.versions.items() if k != "transformer-engine"}
    core = replace(THERE, versions={**versions, "transformer-engine-cu12": "2.11.0"})
    assert sides.installed(core, [record()])[1] == "FROM is the installed combination"


@pytest.mark.parametrize(
    ("versions", "said"),
    [
        ({"megatron-core": None}, "megatron-core is not installed in this environment"),
        ({"torch": "main"}, 'torch has no valid version: "main"'),
    ],
)
def test_what_cannot_stand_for_a_cell_is_told(versions: dict[str, str | None], said: str) -> None:
    there = {k: v for k, v in {**THERE.versions, **versions}.items() if v is not None}
    with pytest.raises(UsageError, match=said):
        sides.installed(replace(THERE, versions=there), [record()])
    with pytest.raises(UsageError, match="no tested cell is near"):
        sides.installed(THERE, [changed(record({**FROM.pins, "torch": "2.8.0"}), checks={})])


def test_where_another_cell_stands_for_what_is_installed_it_is_no_go(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = replace(THERE, versions={**THERE.versions, "torch": "2.9.0"})
    monkeypatch.setattr(scan, "inspect", lambda python, run: other)
    assert cli.main(["upgrade", "current", TO.name, "--no-run"]) == 1
    out = capsys.readouterr().out
    assert out.startswith(f"Upgrade {FROM.name} → {TO.name}: go with changes, for default\n")
    assert "the installed combination was not tested" in out


# For whom


def asked_of(check: str, outcome: str = "works") -> dict[str, Any]:
    return event(check, outcome, feature="restore" if "restore" in check else "quantize-te")


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ([], 0),
        (["--for", "restore"], 0),
        (["--for", "quantize-te"], 1),
        (["--for", "restore,quantize-te"], 1),
        (["--for", "restore,quantize-te", "--accept", "te-quantizers*"], 0),
        (["--for", "all", "--families", "gpt"], 1),
    ],
)
def test_the_exit_code_is_that_of_the_profile(
    place: Place, options: list[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    good = [asked_of("restore[gpt]"), asked_of("te-quantizers")]
    bad = [good[0], asked_of("te-quantizers", "broken")]
    found = real(FROM, *good), real(TO, *bad)
    place.keep(*found, loaded=loads(found))
    assert cli.main([*ARGV, "--no-run", "--format", "json", *options]) == code
    made = json.loads(capsys.readouterr().out)
    assert made["answer"] == ("no" if code else "go")
    assert made["losses"][0]["counts"] is ("quantize-te" in made["profile"]["features"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--for", "restor"], 'did you mean "restore"'),
        (["--for", "restore", "--families", "mla"], 'no family "mla"'),
        (["--for", "quantize:fp7"], 'no format "fp7"'),
    ],
)
def test_unknown_words_of_a_profile_are_one_line(
    place: Place, options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*ARGV, "--no-run", *options]) == 2
    caught = capsys.readouterr()
    assert said in caught.err
    assert caught.err.count("\n") == 1
    assert caught.out == ""
