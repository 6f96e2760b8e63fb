"""Which check sets a command runs in a cell, with stand-ins for all that runs."""

from __future__ import annotations

from typing import Any

import pytest
from parts_support import ONE, taken
from support import event

from mcore_compat import cli
from mcore_compat.run import cells, machine, pipeline
from mcore_compat.run.check_sets import GPU, ON_A_GPU, CheckSet
from mcore_compat.run.pipeline import Outcome


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch, on_snapshot: None) -> list[str]:
    """What was run, with stand-ins for all that runs."""
    done: list[str] = []

    def main(name: str, *_: Any) -> int:
        done.append("main")
        return 0

    def part(cell: Any, which: CheckSet, *_: Any) -> Outcome:
        done.append(which.name)
        broken = event("x[gpt]", "broken")
        return Outcome(result=taken(broken if which is GPU else ONE, part=which))

    monkeypatch.setattr(cells, "run_suite", main)
    monkeypatch.setattr(pipeline, "run_part", part)
    monkeypatch.setattr(cells, "installed", lambda *_: True)
    return done


def ask(*words: str) -> int:
    return cli.main(["run", "0.16-modelopt0.41", "--limit", "9", *words])


def test_parts_are_chosen_by_name(ran: list[str]) -> None:
    ask("--gpu", "--ranks")
    assert ran == [*ON_A_GPU]


def test_a_part_is_run_in_place_of_the_main_suite(
    ran: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask("--ranks") == 0
    assert ran == ["ranks"]
    assert "ranks, device class host: ✓ works 1" in capsys.readouterr().out
    assert ask("--gpu") == 1


def test_on_a_host_a_whole_run_has_no_parts(
    ran: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "device_class", lambda: "host")
    assert ask() == 0
    assert ran == ["main"]


def test_with_a_gpu_a_whole_run_has_all_parts_but_not_a_run_of_some_checks(
    ran: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "device_class", lambda: "gpu")
    assert ask() == 1
    assert ran == ["main", "ranks", "gpu"]
    ask("--only", "restore")
    assert ran[3:] == ["main"]
    monkeypatch.setattr(cells, "installed", lambda *_: False)
    assert ask() == 0
    assert ran[4:] == ["main"]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["compat-0.99-modelopt0.41"], "0.99"),
        *((["--limit", limit], "--limit: must be a number") for limit in ("0", "nan", "inf")),
    ],
)
def test_a_wrong_name_or_limit_runs_nothing(
    words: list[str], why: str, ran: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["run", "0.16-modelopt0.41", "--gpu", *words]) == 2
    assert why in capsys.readouterr().err
    assert ran == []
