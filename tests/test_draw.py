"""Outcomes that are drawn to be repeated by hand."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from referee import draw
from support import ROOT, event, stand_in_cell, stand_in_result

from mcore_compat.results import store

ROWS = [(f"compat-{c}", f"{kind}[{c}]", "works") for c in range(5) for kind in ("a", "b", "c")]


@given(seed=st.integers(), count=st.integers(0, 20))
def test_a_draw_is_that_of_its_seed_and_takes_each_kind_in_turn(seed: int, count: int) -> None:
    taken = draw.drawn(ROWS, seed, count)
    assert taken == draw.drawn(reversed(ROWS), seed, count)
    assert len(set(taken)) == len(taken) == min(count, len(ROWS))
    of_kind = [sum(row[1].startswith(kind) for row in taken) for kind in "abc"]
    assert max(of_kind) - min(of_kind) <= 1


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Results of two cells, by an older suite and by a newer one."""
    for mcore, suite, taken in (
        ("0.15.0", "old", "2026-01-01T00:00:00Z"),
        ("0.16.1", "new", "2026-02-02T00:00:00Z"),
    ):
        events = [event(f"k[{outcome}]", outcome) for outcome in ("works", "works-with", "broken")]
        events += [event(f"l[{outcome}]", outcome) for outcome in ("blocked", "needs-gpu")]
        found = stand_in_result(*events, cell=stand_in_cell(mcore))
        store.save(replace(found, suite=suite, taken=taken), tmp_path)
    return tmp_path


def test_what_the_newest_suite_asked_is_drawn_from(results: Path) -> None:
    cell = "compat-0.16-modelopt0.41"
    assert draw.newest(results) == "new"
    assert list(draw.published(results, "new")) == [
        (cell, "k[broken]", "broken"),
        (cell, "k[works-with]", "works-with"),
        (cell, "k[works]", "works"),
    ]
    assert len(list(draw.published(results))) == 6


@pytest.mark.parametrize(
    "argv", [[], ["1"], ["1", "x"], ["1", "0"], ["1", "-2"], ["1", "2", "a", "b"]]
)
def test_wrong_arguments_are_told_the_usage(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert draw.main(argv) == 2
    assert capsys.readouterr().err == f"{draw.USAGE}\n"


def test_what_cannot_be_drawn_from_is_one_line(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert draw.main(["1", "2", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err == f"draw.py: no result below {tmp_path / 'none'}\n"
    (results / "compat-0.16-modelopt0.41/main.host.json").write_text("{}")
    assert draw.main(["1", "2", str(results)]) == 2
    assert capsys.readouterr().err.startswith("draw.py: compat-0.16-modelopt0.41/main.host.json: ")


def test_it_runs_as_a_program(results: Path) -> None:
    argv = [sys.executable, str(ROOT / "tests/referee/draw.py"), "1", "9", str(results)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "compat-0.16-modelopt0.41 k[works] works"
