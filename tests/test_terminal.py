"""A table for nobody ends as a line for nobody does."""

from __future__ import annotations

import io

import pytest

from mcore_compat.base import terminal
from mcore_compat.run import context


class Closed(io.StringIO):
    """A pipe that nobody reads."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_a_pipe_that_nobody_reads_is_no_end_of_the_process() -> None:
    with pytest.raises(BrokenPipeError):
        terminal.console(file=Closed()).print("a table")


def test_names_and_numbers_have_no_colours_of_their_own() -> None:
    out = io.StringIO()
    terminal.console(file=out, force_terminal=True).print("compat-0.16 works 12")
    assert out.getvalue() == "compat-0.16 works 12\n"


def test_progress_does_not_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    context.say("  building \x1b[31mred\x07: 3 s")
    assert capsys.readouterr().err == "  building �[31mred�: 3 s\n"


def test_progress_that_nobody_can_read_ends_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", Closed())
    context.say("  building")
