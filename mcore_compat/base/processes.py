"""The one module that runs processes: each has a time limit and ends with all its children."""

from __future__ import annotations

import contextlib
import ctypes
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mcore_compat.base import process_marks, watched
from mcore_compat.base.errors import InfrastructureError


@dataclass(frozen=True, kw_only=True)
class Completed:
    """A process that ended. `output` is stdout and stderr together, in order."""

    argv: tuple[str, ...]
    returncode: int
    output: str
    seconds: float
    timed_out: bool = False

    @property
    def ok(self) -> bool:
        return self.returncode == 0 and not self.timed_out


def undisturbed(done: Completed) -> Completed:
    """Return `done` if the process ended by itself, so that its output is meaningful.

    Raises:
        InfrastructureError: it was killed, or exceeded its time limit.
    """
    program = Path(done.argv[0]).name if done.argv else "a process"
    if done.timed_out:
        raise InfrastructureError(f"{program} did not end within {done.seconds:.0f} s")
    if done.returncode < 0:
        number = -done.returncode
        name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
        raise InfrastructureError(f"{program} was killed by {name}")
    return done


_RUNNING: set[int] = set()
"""The process groups that `run` has started and not ended yet, in all threads."""


class Runner(Protocol):
    """The signature of `run`; tests pass their own."""

    def __call__(
        self,
        argv: Sequence[str | os.PathLike[str]],
        *,
        timeout: float,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        log: Path | None = None,
        on_line: Callable[[str], None] | None = None,
        grace: float = 0.0,
    ) -> Completed: ...

    def __hash__(self) -> int: ...


def run(
    argv: Sequence[str | os.PathLike[str]],
    *,
    timeout: float,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    log: Path | None = None,
    on_line: Callable[[str], None] | None = None,
    grace: float = 0.0,
) -> Completed:
    """Run `argv` until it ends, at most `timeout` seconds.

    `env` replaces the environment (None: inherit). Output lines go to `log` (appended) and to
    `on_line` as they arrive. At the end all its children are killed, in every session and process
    group; if this process itself is killed, its watchdog kills them. KeyboardInterrupt propagates
    after the kill.
    `grace`: seconds between SIGTERM (background shells ignore SIGINT) and the kill, for programs
    whose children have their own process groups.

    Raises:
        FileNotFoundError: the program does not exist.
    """
    words = tuple(os.fspath(a) for a in argv)
    started = time.monotonic()
    lines: list[str] = []
    # Open the log before starting the process: a failure here must not leave one running.
    with log.open("a", encoding="utf-8") if log else contextlib.nullcontext() as sink:

        def take(raw: bytes) -> None:
            line = raw.decode("utf-8", "replace").rstrip("\r\n")
            lines.append(line)
            if sink:
                sink.write(line + "\n")
                sink.flush()
            if on_line:
                on_line(line)

        with _started(words, env, cwd, grace) as process:
            timed_out = _pump(process, started + timeout, take)
    return Completed(
        argv=words,
        returncode=process.returncode,
        output="\n".join(lines),
        seconds=time.monotonic() - started,
        timed_out=timed_out,
    )


@contextlib.contextmanager
def _started(
    words: tuple[str, ...], env: Mapping[str, str] | None, cwd: Path | None, grace: float
) -> Iterator[subprocess.Popen[bytes]]:
    """The process, killed with all its children when the block ends."""
    watched.ensure()
    mark, process = process_marks.new(), None
    marked = {process_marks.VARIABLE: process_marks.with_inherited(mark)}
    try:
        process = subprocess.Popen(
            words,
            env={**(os.environ if env is None else env), **marked},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        _RUNNING.add(process.pid)
        yield process
    finally:
        # `wait` comes last: until then no other process or group can get its PID.
        if process and grace and not _has_ended(process):
            with contextlib.suppress(PermissionError):  # some sandboxes refuse all signals
                os.kill(process.pid, signal.SIGTERM)
            deadline = time.monotonic() + grace
            while not _has_ended(process) and time.monotonic() < deadline:
                time.sleep(0.02)
        if process:
            kill_group(process.pid)
        process_marks.end(mark, process.pid if process else 0)
        if process and process.stdout:
            _RUNNING.discard(process.pid)
            process.wait()
            process.stdout.close()


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether the process has ended; does not consume its exit status."""
    try:
        return bool(os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT))
    except ChildProcessError:  # SIGCHLD is ignored
        return True


def _pump(process: subprocess.Popen[bytes], deadline: float, take: Callable[[bytes], None]) -> bool:
    """Feed lines to `take` until the process ends (False) or the deadline passes (True)."""
    assert process.stdout is not None
    buffer = b""
    ended_at: float | None = None
    timed_out = False
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            now = time.monotonic()
            if ended_at is None and _has_ended(process):
                ended_at = now
            # A grandchild may hold the pipe open forever after the process itself ended.
            if ended_at is not None and now > ended_at + 1.0:
                break
            if ended_at is None and now > deadline:
                timed_out = True
                break
            if not selector.select(timeout=min(0.2, max(0.01, deadline - now))):
                continue
            chunk = os.read(process.stdout.fileno(), 65536)
            if not chunk:
                break
            *whole, buffer = (buffer + chunk).split(b"\n")
            for line in whole:
                take(line)
    if buffer:  # also after a time-out: the last output is the most informative
        take(buffer)
    while not timed_out and not _has_ended(process):  # the pipe was closed early
        timed_out = time.monotonic() > deadline
        time.sleep(0.02)
    return timed_out


def prctl(option: int, value: int) -> None:
    """Set a kernel option of this process (Linux, `prctl(2)`).

    Raises:
        OSError: the kernel refuses.
    """
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


_PR_SET_PDEATHSIG = 1


def die_with_parent(number: int) -> None:
    """Have the kernel send this process a signal when its parent dies for any reason."""
    prctl(_PR_SET_PDEATHSIG, number)


def end_all(number: int = signal.SIGKILL) -> None:
    """Signal every process group that `run` is waiting for in any thread: Ctrl-C reaches only the
    main thread."""
    for pid in tuple(_RUNNING):
        kill_group(pid, number)


def kill_group(pid: int, number: int = signal.SIGKILL) -> None:
    """Kill the process group of `pid`; ignores a group that has already ended."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
