"""Real processes that leave others behind in every way there is, and how soon those are gone."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from support import ROOT

SOON_S = 2.0
"""So soon all is gone."""

TREE = """\
import os, sys, time

def note(name):
    path = os.path.join(sys.argv[1], name)
    with open(path + ".part", "w") as out:
        out.write(str(os.getpid()))
    os.rename(path + ".part", path)

def stays(name):
    note(name)
    time.sleep(600)

def forked(*lives):
    if os.fork() == 0:
        for life in lives:
            life()
        os._exit(0)

def alone():
    for number in range(3):
        os.close(number)

# As ninja's children are: in a process group of their own, of a parent who lives.
forked(lambda: os.setpgid(0, 0), lambda: stays("compiler"))
# As a daemon is: a session of its own, no parent, no pipe of ours.
forked(os.setsid, lambda: forked(os.setsid, alone, lambda: stays("daemon")))
# As a program that is started with an environment of its own, and whose parent is gone.
code = "import time; time.sleep(600)"
forked(lambda: forked(lambda: os.setpgid(0, 0), lambda: note("guard"), lambda: os.execve(
    sys.executable, [sys.executable, "-I", "-S", "-c", code], {})))
names = ("compiler", "daemon", "guard")
while not all(os.path.exists(os.path.join(sys.argv[1], name)) for name in names):
    time.sleep(0.01)
print("ready", flush=True)
if sys.argv[2] == "stays":
    stays("middle")
"""

HOST = """\
import sys
from pathlib import Path
from mcore_compat.base import processes, temporary
with temporary.folder(Path(sys.argv[1])) as folder:
    processes.run(sys.argv[2:], timeout=600, on_line=lambda line: print(line, flush=True))
"""


def tree(folder: Path, then: str = "stays") -> list[str]:
    """What starts processes of three kinds, whose numbers are files in `folder`."""
    folder.mkdir(exist_ok=True)
    return [sys.executable, "-I", "-S", "-c", TREE, str(folder), then]


def pids(folder: Path) -> dict[str, int]:
    texts = {path.name: path.read_text() for path in folder.iterdir() if path.suffix == ""}
    return {name: int(text) for name, text in texts.items() if text}  # one is just being written


def alive(pid: int) -> bool:
    """Whether a process still runs; one that only waits to be reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def watchdogs(pid: int) -> list[int]:
    """The watchdogs of a process, told by what they were started with."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().split(b"\0")
            if any(b"watchdog" in w for w in words) and any(
                w.startswith(f"{pid}.".encode()) for w in words
            ):
                found.append(int(path.parent.name))
    return found


def comes(holds: Callable[[], object], limit: float = SOON_S) -> bool:
    """Whether something holds within `limit` seconds."""
    deadline = time.monotonic() + limit
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def left(folder: Path, limit: float = SOON_S) -> list[str]:
    """Which processes of a tree are still there after `limit` seconds."""
    known = pids(folder)
    comes(lambda: not any(alive(pid) for pid in known.values()), limit)
    return [name for name, pid in known.items() if alive(pid)]


def _hears_all() -> None:
    """In the child: a test run in a shell's background ignores Ctrl-C for it, too, and one that
    outlives its terminal (`nohup`) the end of that."""
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


@contextlib.contextmanager
def host(folder: Path, argv: Sequence[str], code: str = HOST) -> Iterator[subprocess.Popen[str]]:
    """A process of ours that has a temporary folder in `folder` and runs `argv`, which has said
    that it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder), *argv],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=_hears_all,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@contextlib.contextmanager
def ended(*folders: Path) -> Iterator[None]:
    """Whatever a test shows, nothing that trees in `folders` started outlives it."""
    try:
        yield
    finally:
        for pid in [pid for folder in folders if folder.exists() for pid in pids(folder).values()]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
