"""The headline's ladder: what lifts a pair, what does not, and what is said once for a row."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support import event, stand_in_cell, stand_in_result

from mcore_compat.core.outcomes import CellOutcome
from mcore_compat.results import levels
from mcore_compat.results.levels import Level
from mcore_compat.results.result import Reason, Result

OF = {"R": "restore", "Q": "quantize", "T": "quantize-te", "G": "inference"}
ENDS = {"+": "works", "-": "broken", "0": "unsupported", "?": "needs-gpu", "b": "blocked"}


def made(text: str, modelopt: str = "0.41.0") -> Result:
    """A result of `R+ R- Q+`: a check of each feature, how it ends, each of a family of its own."""
    rows: list[dict[str, Any]] = []
    for number, (letter, end) in enumerate(text.split()):
        check = f"{OF[letter]}-check[family{number}]"
        rows.append(event(check, ENDS[end], feature=OF[letter]))
    return stand_in_result(*rows, cell=stand_in_cell(modelopt=modelopt))


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("R-", Level.NOTHING),
        ("R- Q+", Level.NOTHING),
        ("R+", Level.RESTORES),
        ("R+ Q-", Level.RESTORES),
        ("R+ Q0 T+", Level.RESTORES),
        ("R+ Qb Q0", Level.NO_IMPORT),
        ("R+ Qb Q-", Level.RESTORES),
        ("R- Qb", Level.NOTHING),
        ("R+ Q+ Q-", Level.SOME),
        ("R+ Q+", Level.QUANTIZES),
        ("R+ R- Q+", Level.QUANTIZES),
        ("R+ Q+ Q0", Level.QUANTIZES),
        ("R+ Q+ T-", Level.QUANTIZES),
        ("R+ Q+ T+ T-", Level.TE_SOME),
        ("R+ Q+ T+ T0 G?", Level.TE),
        ("R+ Q+ T+ G+", Level.GPU),
        ("R+ Q+ T+ G+ G-", Level.TE),
    ],
)
def test_how_far_a_pair_gets(text: str, level: Level) -> None:
    assert levels.square(made(text)).level is level


def test_a_square_counts_what_holds_and_says_what_cannot_be_told() -> None:
    square = levels.square(made("R+ R- Q+ Q0 G?"))
    assert square.text() == "◑ R 1/2 · Q 1/1 · TE none · GPU –"
    assert "restore of family1: KeyError" in square.says
    assert not square.good
    assert levels.square(made("R+ Q+")).good


def test_the_one_to_take_is_the_newest_good_or_else_the_newest_that_gets_furthest() -> None:
    def best(*squares: str) -> str:
        table = {("0.16", f"0.4{n}"): levels.square(made(text)) for n, text in enumerate(squares)}
        return levels.best_of(table, "0.16", [f"0.4{n}" for n in range(len(squares) + 1)])

    assert best("R+ Q+", "R+ Q+", "R+ Q-") == "0.41"
    assert best("R+ R- Q+", "R+ R- Q+ T+", "R+ R- Q+ T+", "R+ Q-") == "0.42"
    assert best("R+ Q-", "R-") == ""
    assert best() == ""


def test_what_did_not_come_to_its_checks_has_no_level() -> None:
    assert levels.square(None).level is Level.UNTESTED
    why = Reason(kind="unresolvable", message="numpy", help="")
    no = replace(made("R+"), checks=(), outcome=CellOutcome.UNRESOLVABLE, reason=why)
    square = levels.square(no)
    assert (square.level, square.says, square.level.number) == (Level.UNRESOLVABLE, "numpy", "")


def test_stale_and_stand_in_are_remarked() -> None:
    e = replace(made("R+"), te_extension="stand-in")
    assert levels.square(e, stale="the suite changed").remarks == ("stale", "stand-in")


def test_what_is_alike_in_all_pairs_is_a_note() -> None:
    alike = [made("R+ R-", f"0.{n}.0") for n in (41, 42, 43)]
    (note,) = levels.notes(alike, ())
    assert note.text == "restore of family1: KeyError: 'decoder.weight'"
    assert levels.notes([*alike, made("R+ R+")], ()) == ()
    assert levels.notes(alike[:2], ()) == ()


def test_marks_and_words_tell_every_level_apart() -> None:
    for what in ("key", "mark", "words"):
        assert len({getattr(level, what) for level in Level}) == len(Level)


def test_neighbours_that_are_alike_are_told_together() -> None:
    words = [("a", "1"), ("a", "2"), ("b", "3"), ("a", "4")]
    assert levels.runs(words) == [("a", "1 to 2"), ("b", "3"), ("a", "4")]


def test_a_line_says_how_a_cell_ends_and_how_far_it_gets() -> None:
    line = levels.line(made("R+ R- Q+ Q0 G?"))
    assert line == "partial ◑ level 3: R 1/2 · Q 1/1 · TE none · GPU –"
    interrupted = replace(made("R+"), outcome=CellOutcome.ERROR)
    assert levels.line(interrupted) == "error"
    none = replace(made("R+"), outcome=CellOutcome.UNRESOLVABLE, checks=())
    assert levels.line(none) == "unresolvable"
