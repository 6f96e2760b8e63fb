"""Processes end in time, and nothing that they started is left behind.

The processes are real, and small.
"""

import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcore_compat.base import process_marks, processes

LONG = 20.0
"""A limit that only a hanging test comes to."""


def shell(script: str) -> list[str]:
    return ["sh", "-c", script]


def alive(pid: int) -> bool:
    """Whether a process still runs; one that only waits to be reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def ends(pid: int) -> bool:
    """Whether a process that was killed is gone soon."""
    deadline = time.monotonic() + 5
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not alive(pid)


@pytest.fixture
def started() -> Iterator[list[int]]:
    """Processes that a test knows of; whatever the test shows, none outlives it."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_output_is_in_order_whichever_stream_it_came_by() -> None:
    done = processes.run(shell("echo one; echo two >&2; echo; echo three"), timeout=LONG)
    assert done.output == "one\ntwo\n\nthree"
    assert done.ok
    assert done.argv == ("sh", "-c", "echo one; echo two >&2; echo; echo three")


@pytest.mark.parametrize(
    ("script", "code"), [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", -9)], ids=str
)
def test_the_exit_code_is_told(script: str, code: int) -> None:
    done = processes.run(shell(script), timeout=LONG)
    assert done.returncode == code
    assert done.ok == (code == 0)
    assert not done.timed_out


@pytest.mark.parametrize(
    ("script", "output"),
    [
        ("printf 'no newline at the end'", "no newline at the end"),
        (r"printf 'a\r\nb\n'", "a\nb"),
        (r"printf 'bad \377 byte\n'", "bad \ufffd byte"),
        (r"printf '\303'; sleep 0.05; printf '\251\n'", "\u00e9"),
    ],
    ids=["no newline", "carriage return", "no text", "a letter in two parts"],
)
def test_any_output_is_text(script: str, output: str) -> None:
    assert processes.run(shell(script), timeout=LONG).output == output


def test_what_is_typed_goes_to_no_process() -> None:
    kept = os.dup(0)
    source, sink = os.pipe()
    try:
        os.write(sink, b"typed\n")
        os.close(sink)
        os.dup2(source, 0)
        assert processes.run(["cat"], timeout=LONG).output == ""
    finally:
        os.dup2(kept, 0)
        os.close(kept)
        os.close(source)


def test_who_ended_well_over_its_limit_did_not_end_well() -> None:
    done = processes.Completed(argv=(), returncode=0, output="", seconds=1.0, timed_out=True)
    assert not done.ok


def test_much_output_is_whole() -> None:
    code = "for i in range(30000): print(i, 'x' * 10)"
    lines = processes.run([sys.executable, "-I", "-c", code], timeout=LONG).output.splitlines()
    assert lines == [f"{i} {'x' * 10}" for i in range(30000)]


def test_the_environment_is_replaced_and_the_folder_is_entered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_NAME_OF_THE_TEST", "x")
    program = shutil.which("env")
    assert program
    there = processes.run([program], timeout=LONG, env={"ONLY": "this"}).output.splitlines()
    assert [line for line in there if not line.startswith(process_marks.VARIABLE)] == ["ONLY=this"]
    assert "A_NAME_OF_THE_TEST=x" in processes.run([program], timeout=LONG).output.splitlines()
    where = processes.run(shell("pwd -P"), timeout=LONG, cwd=tmp_path).output
    assert where == str(tmp_path.resolve())


def test_lines_are_handed_on_as_they_come(tmp_path: Path) -> None:
    """The process goes on only once its first line was handed on."""
    seen: list[str] = []
    answer = tmp_path / "answer"

    def on_line(line: str) -> None:
        seen.append(line)
        answer.touch()

    script = f"echo ready; while [ ! -e '{answer}' ]; do sleep 0.01; done; echo went on"
    done = processes.run(shell(script), timeout=LONG, on_line=on_line)
    assert done.ok
    assert seen == ["ready", "went on"]


def test_the_log_is_appended_to_as_lines_come(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("from before\n")
    during: list[str] = []
    processes.run(
        shell("echo one; printf two"),
        timeout=LONG,
        log=log,
        on_line=lambda line: during.append(log.read_text()),
    )
    assert log.read_text() == "from before\none\ntwo\n"
    assert during == ["from before\none\n", "from before\none\ntwo\n"]


def test_a_time_limit_kills_the_whole_group_also_who_ignores_sigterm(started: list[int]) -> None:
    script = "(trap '' TERM; exec sleep 60) & echo $!; wait"
    done = processes.run(shell(script), timeout=0.8, on_line=lambda line: started.append(int(line)))
    assert done.timed_out
    assert not done.ok
    assert done.output == str(started[0])
    assert 0.8 <= done.seconds < 10
    assert ends(started[0])


def test_a_time_limit_holds_for_who_never_stops_talking() -> None:
    done = processes.run(shell("while :; do echo again; sleep 0.01; done"), timeout=0.3)
    assert done.timed_out
    assert done.seconds < 10
    assert set(done.output.splitlines()) == {"again"}


@pytest.mark.parametrize(("script", "timed_out"), [("exit 3", False), ("sleep 60", True)])
def test_who_closes_its_output_early_is_still_waited_for(script: str, timed_out: bool) -> None:
    done = processes.run(
        shell(f"exec >&- 2>&-; sleep 0.1; {script}"), timeout=0.5 if timed_out else LONG
    )
    assert done.timed_out == timed_out
    assert done.returncode == (-signal.SIGKILL if timed_out else 3)


def test_a_grandchild_that_holds_the_pipe_open_is_not_waited_for(started: list[int]) -> None:
    done = processes.run(
        shell("sleep 60 & echo $!"), timeout=LONG, on_line=lambda line: started.append(int(line))
    )
    assert done.ok
    assert done.seconds < 10
    assert ends(started[0])


def test_a_grandchild_that_let_go_of_the_pipe_is_killed_too(started: list[int]) -> None:
    done = processes.run(
        shell("sleep 60 >/dev/null 2>&1 & echo $!"),
        timeout=LONG,
        on_line=lambda line: started.append(int(line)),
    )
    assert done.ok
    assert ends(started[0])


def test_an_interruption_passes_through_and_kills_the_group(
    started: list[int], tmp_path: Path
) -> None:
    def interrupt(line: str) -> None:
        started.append(int(line))
        if len(started) == 2:
            raise KeyboardInterrupt

    log = tmp_path / "log"
    with pytest.raises(KeyboardInterrupt):
        processes.run(
            shell("sleep 60 & echo $$; echo $!; wait"), timeout=LONG, on_line=interrupt, log=log
        )
    assert ends(started[0])
    assert ends(started[1])
    assert log.read_text() == f"{started[0]}\n{started[1]}\n"


def test_a_missing_program_is_a_file_not_found(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        processes.run([tmp_path / "no-such-program"], timeout=LONG)


def test_a_group_that_is_gone_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []

    def gone(group: int, number: int) -> None:
        asked.append((group, number))
        raise ProcessLookupError

    monkeypatch.setattr(os, "killpg", gone)
    processes.kill_group(12345)
    assert asked == [(12345, signal.SIGKILL)]


def test_the_last_words_before_a_time_limit_are_kept() -> None:
    done = processes.run(shell("printf 'now at step 7'; sleep 30"), timeout=0.5)
    assert done.timed_out
    assert done.output == "now at step 7"


def test_who_ended_in_time_is_not_late_for_a_grandchild_that_holds_the_pipe() -> None:
    done = processes.run(shell("sleep 30 & exit 0"), timeout=0.5)
    assert (done.returncode, done.timed_out) == (0, False)


def test_a_log_that_cannot_be_opened_starts_no_process(tmp_path: Path) -> None:
    started = tmp_path / "started"
    with pytest.raises(FileNotFoundError):
        processes.run(shell(f"touch {started}"), timeout=5, log=tmp_path / "no" / "such" / "log")
    time.sleep(0.1)
    assert not started.exists()
