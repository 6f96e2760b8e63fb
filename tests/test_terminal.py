"""A table for nobody ends as a line for nobody does."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys

import pytest
from support import ROOT

from mcore_compat import cli
from mcore_compat.base import terminal
from mcore_compat.cli import output
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


@pytest.mark.parametrize("argv", [["list"], ["list", "--help"], ["show", "0.16-modelopt0.41"]])
def test_who_reads_may_have_enough(argv: list[str]) -> None:
    code = f"from mcore_compat import cli; raise SystemExit(cli.main({argv}))"
    reads, writes = os.pipe()
    os.close(reads)
    with open(writes, "wb") as out:
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=out, stderr=subprocess.PIPE, cwd=ROOT, check=False
        )
    assert (done.returncode, done.stderr) == (141, b"")


def test_another_pipe_that_breaks_is_an_error_of_the_machine(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def breaks() -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(output, "prepare", breaks)
    assert cli.main(["list"]) == 3
    assert capfd.readouterr().err == "mcore-compat: Broken pipe\n"
