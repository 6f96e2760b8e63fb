"""Nothing is left behind: all that a run has started ends with it, however it ends, and its
temporary folders go with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from process_support import HOST, alive, comes, ended, host, left, pids, tree, watchdogs
from support import ROOT

from mcore_compat.base import process_marks, processes, temporary, watched

LONG = 60.0
"""A limit that only a hanging test comes to."""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where a tree of processes writes their numbers."""
    place = tmp_path / "pids"
    with ended(place):
        yield place


def test_what_is_left_after_a_normal_end_is_ended(folder: Path) -> None:
    done = processes.run(tree(folder, "ends"), timeout=LONG)
    assert done.ok
    assert left(folder) == []


def test_a_time_limit_ends_all(folder: Path) -> None:
    done = processes.run(tree(folder), timeout=3)
    assert done.timed_out
    assert "middle" in pids(folder)
    assert left(folder) == []


def test_an_interruption_ends_all(folder: Path) -> None:
    def interrupt(_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        processes.run(tree(folder), timeout=LONG, on_line=interrupt)
    assert left(folder) == []


def test_sigkill_of_the_process_in_the_middle_ends_all(folder: Path) -> None:
    def kill(_: str) -> None:
        assert comes(lambda: "middle" in pids(folder), LONG)
        os.kill(pids(folder)["middle"], signal.SIGKILL)

    done = processes.run(tree(folder), timeout=LONG, on_line=kill)
    assert done.returncode == -signal.SIGKILL
    assert done.seconds < LONG / 2
    assert left(folder) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
@pytest.mark.parametrize("whole_group", [False, True], ids=["itself", "its group"])
def test_whatever_ends_the_main_process_all_is_gone_soon(
    number: signal.Signals, whole_group: bool, folder: Path, tmp_path: Path
) -> None:
    """Its processes, its temporary folder, its watchdog, and who waits for its output."""
    with host(tmp_path, tree(folder)) as main:
        assert comes(lambda: "middle" in pids(folder), LONG)
        (dog,) = watchdogs(main.pid)
        (own,) = tmp_path.glob("mcore-compat-*")
        (own / "something").mkdir()
        (os.killpg if whole_group else os.kill)(main.pid, number)
        assert left(folder) == []
        assert main.communicate(timeout=LONG)[0] == ""
        assert comes(lambda: not own.exists() and not alive(dog))


def test_a_watchdog_that_is_killed_is_missed_by_nobody(folder: Path, tmp_path: Path) -> None:
    seen: list[str] = []

    def kill(line: str) -> None:
        seen.append(line)
        for dog in watchdogs(os.getpid()):
            os.kill(dog, signal.SIGKILL)

    script = "echo one; sleep 0.2; echo two"
    with temporary.folder(tmp_path) as own:
        done = processes.run(["sh", "-c", script], timeout=LONG, on_line=kill)
        assert done.ok
        assert seen == ["one", "two"]
        # The next has the folders, too.
        assert processes.run(tree(folder, "ends"), timeout=LONG).ok
        assert len(watchdogs(os.getpid())) == 1
        assert left(folder) == []
    assert not own.exists()


def test_the_watchdog_holds_no_file_of_who_started_it() -> None:
    watched.ensure()
    (dog,) = watchdogs(os.getpid())
    assert comes(lambda: b"watchdog" in Path(f"/proc/{dog}/cmdline").read_bytes())
    files = {path.name: os.readlink(path) for path in Path(f"/proc/{dog}/fd").iterdir()}
    assert files.pop("0").startswith("pipe:")
    assert set(files.values()) <= {"/dev/null"}
    assert os.getsid(dog) == dog


def test_a_main_process_that_ends_by_itself_leaves_no_watchdog(tmp_path: Path) -> None:
    with host(tmp_path, ["echo", "ready"]) as main:
        assert main.wait(LONG) == 0
        assert watchdogs(main.pid) == []


def test_processes_of_others_are_never_touched(folder: Path, tmp_path: Path) -> None:
    """Unmarked ones, those of another run, and one whose mark begins alike."""
    others = [{}, {process_marks.VARIABLE: process_marks.new()}]
    sleepers = [
        subprocess.Popen(["sleep", "600"], env={**os.environ, **variables}) for variables in others
    ]
    try:
        with host(tmp_path, tree(folder)) as main:
            alike = {process_marks.VARIABLE: f"{main.pid}0.1.1 {main.pid}.1.1"}
            sleepers.append(subprocess.Popen(["sleep", "600"], env={**os.environ, **alike}))
            main.kill()
            assert left(folder) == []
        assert processes.run(["true"], timeout=LONG).ok
        assert [sleeper.poll() for sleeper in sleepers] == [None] * 3
    finally:
        for sleeper in sleepers:
            sleeper.kill()
            sleeper.wait()


def test_two_runs_in_two_threads_end_each_its_own(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    ready, ends = threading.Event(), list[processes.Completed]()

    def first() -> None:
        argv = tree(other)
        ends.append(processes.run(argv, timeout=LONG, on_line=lambda line: ready.set()))

    with ended(other):
        thread = threading.Thread(target=first)
        thread.start()
        assert ready.wait(LONG)
        assert processes.run(tree(folder, "ends"), timeout=LONG).ok
        assert left(folder) == []
        assert comes(lambda: "middle" in pids(other), LONG)
        assert all(alive(pid) for pid in pids(other).values())
        os.kill(pids(other)["middle"], signal.SIGKILL)
        thread.join(LONG)
        assert ends[0].returncode == -signal.SIGKILL
        assert left(other) == []


def test_a_run_within_a_run_ends_with_the_outer_one(folder: Path, tmp_path: Path) -> None:
    """Also where the inner main process is killed first, and where both are."""
    inner = [sys.executable, "-c", HOST, str(tmp_path), *tree(folder)]
    with host(tmp_path, inner) as outer:
        assert comes(lambda: "middle" in pids(folder), LONG)
        outer.kill()
        assert left(folder) == []
        assert comes(lambda: not list(tmp_path.glob("mcore-compat-*")))


def test_what_is_to_outlive_its_starter_carries_no_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(process_marks.VARIABLE, "1.1.1")
    with process_marks.outlived():
        done = subprocess.run(["env"], capture_output=True, text=True, check=True)
    assert process_marks.VARIABLE not in done.stdout
    assert os.environ[process_marks.VARIABLE] == "1.1.1"


def killed_with_its_watchdog(place: Path) -> Path:
    """The folder of a process that could not clean up, and nobody for it."""
    with host(place, ["sh", "-c", "echo ready; exec sleep 600"]) as main:
        before = {*place.glob("mcore-compat-*")}
        (own,) = [path for path in before if f"-{main.pid}." in path.name]
        for pid in (*watchdogs(main.pid), main.pid):
            os.kill(pid, signal.SIGKILL)
    process_marks.end(own.name.split("-")[2])  # what it ran, which nobody ends now
    (own / "left").mkdir()
    return own


def test_a_folder_of_a_dead_run_is_swept_and_one_of_a_living_is_not(tmp_path: Path) -> None:
    dead = killed_with_its_watchdog(tmp_path)
    others = [
        tmp_path / name for name in ("mcore-compat-0.16-modelopt0.41", "mcore-compat-suite-x")
    ]
    for path in others:
        path.mkdir()
    with host(tmp_path, ["sh", "-c", "echo ready; exec sleep 600"]) as living:
        (own,) = [p for p in tmp_path.glob("mcore-compat-*") if f"-{living.pid}." in p.name]
        assert not dead.exists()
        with temporary.folder(tmp_path) as mine:
            assert own.exists()
            assert mine.exists()
        assert all(path.exists() for path in others)


def test_what_a_suite_of_before_left_is_swept_when_it_is_old(tmp_path: Path) -> None:
    old, new = tmp_path / "mcore-compat-suite-old_", tmp_path / "mcore-compat-suite-new_"
    for path in (old, new):
        path.mkdir()
    os.utime(old, (0, 0))
    temporary.sweep(tmp_path)
    assert not old.exists()
    assert new.exists()


def test_a_folder_whose_owner_is_not_seen_from_here_stays_while_it_holds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one of another container that shares the temporary folder."""
    with temporary.folder(tmp_path) as own:
        monkeypatch.setattr(process_marks, "lives", lambda mark: False)
        temporary._SWEPT.discard(tmp_path)
        temporary.sweep(tmp_path)
        assert own.exists()


WRITER = """\
import sys, time
from pathlib import Path
from mcore_compat.base import files, processes

def pieces():
    yield "first"
    print("ready", flush=True)
    time.sleep(600)

processes.run(["true"], timeout=60)
files.write_text(Path(sys.argv[1]) / "result.json", pieces())
"""


def test_a_kill_while_a_file_is_written_leaves_no_part_of_it(tmp_path: Path) -> None:
    with host(tmp_path, [], WRITER) as main:
        assert [path.name[:13] for path in tmp_path.iterdir()] == [".result.json."]
        main.kill()
        assert comes(lambda: not list(tmp_path.iterdir()))


FORKED = """\
import os, sys, time
from pathlib import Path
from types import SimpleNamespace
from mcore_compat.base import forks
from mcore_compat.resolve import resolvability

def stays(*_):
    place = Path(sys.argv[1]) / f"{os.getpid()}"
    place.write_text(str(os.getpid()))
    time.sleep(600)

def forked():
    with forks.forked(stays) as result:
        print("ready", flush=True)
        result()

def pool():
    resolvability.BATCH, resolvability._batch = 1, stays
    cell = SimpleNamespace(torch="", te="", name="")
    print("ready", flush=True)
    list(resolvability._answered({"a": cell, "b": cell}, None, None, 2, print))

globals()[sys.argv[2]]()
"""


INTERRUPTED = """\
import os, signal, time
from mcore_compat.base import forks
from mcore_compat.base.errors import InfrastructureError

signal.signal(signal.SIGTERM, signal.default_int_handler)  # as the program does
read, write = os.pipe()

def stays():
    os.write(write, str(os.getpid()).encode())
    time.sleep(600)

with forks.forked(stays) as result:
    os.kill(int(os.read(read, 20)), signal.SIGTERM)
    try:
        result()
    except InfrastructureError as error:
        print(error)
"""


def test_a_forked_process_that_is_ended_interrupts_nobody() -> None:
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    argv = [sys.executable, "-c", INTERRUPTED]
    done = subprocess.run(argv, capture_output=True, text=True, env=variables, timeout=60)
    assert "was killed; try again" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(("how", "count"), [("forked", 1), ("pool", 2)])
def test_forked_processes_end_with_a_parent_that_is_killed(
    how: str, count: int, tmp_path: Path
) -> None:
    with ended(tmp_path), host(tmp_path, [how], FORKED) as main:
        assert comes(lambda: len(pids(tmp_path)) == count, LONG)
        main.kill()
        assert left(tmp_path) == []
