"""Gives this process a watchdog, from its first `processes.run` on, that cleans up after it."""

from __future__ import annotations

import atexit
import contextlib
import os
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mcore_compat.base import process_marks, watchdog


@dataclass
class _Watch:
    """The watchdog of this process. It waits on `pipe`, which only this process holds and which
    closes when the process ends for any reason; then it removes `paths`."""

    process: subprocess.Popen[bytes] | None = None
    pipe: int = -1
    paths: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def drop(self) -> None:
        if self.process:
            os.close(self.pipe)
            self.process = None

    def forget(self) -> None:
        """Called in a forked process: the watchdog belongs to the parent."""
        self.lock = threading.Lock()
        if self.process:
            self.process.returncode = 0  # prevents a wait
        self.paths.clear()
        self.drop()

    def tell(self, path: str) -> None:
        # If the watchdog was killed, the next one gets all paths.
        with contextlib.suppress(BrokenPipeError):
            os.write(self.pipe, os.fsencode(path) + b"\0")


_WATCH = _Watch()
os.register_at_fork(after_in_child=_WATCH.forget)


def ensure() -> None:
    """Start a watchdog unless one is running."""
    with _WATCH.lock:
        if _WATCH.process and _WATCH.process.poll() is None:
            return
        _WATCH.drop()
        # Without one (no memory, for example) only a kill of this process leaves something behind,
        # which the next process removes: not a reason to fail.
        with contextlib.suppress(OSError):
            _start()


@contextlib.contextmanager
def removed(path: Path, *, anyway: bool = True) -> Iterator[None]:
    """Have the watchdog remove a file or a folder if this process is killed in the block.
    `anyway`: start a watchdog if there is none."""
    if anyway:
        ensure()
    whole = str(path.absolute())  # its working directory is another
    with _WATCH.lock:
        _WATCH.paths.add(whole)
        if _WATCH.process:
            _WATCH.tell(whole)
    try:
        yield
    finally:
        with _WATCH.lock:
            _WATCH.paths.discard(whole)


def _start() -> None:
    # Only what this Python may need to start. It has no mark, because it briefly outlives an outer
    # run. It inherits no files, and signals to our process group do not reach it.
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    reads, _WATCH.pipe = os.pipe()
    try:
        _WATCH.process = subprocess.Popen(
            watchdog.command(process_marks.here()),
            env={**kept, process_marks.EXEMPT: process_marks.here()},
            cwd="/",
            stdin=reads,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except BaseException:
        os.close(_WATCH.pipe)
        raise
    finally:
        os.close(reads)
    for path in _WATCH.paths:
        _WATCH.tell(path)


@atexit.register
def release() -> None:
    """Clean up here, before this process ends by itself, and end the watchdog."""
    with _WATCH.lock:
        if _WATCH.process:
            watchdog.clean(process_marks.here(), _WATCH.paths)
            with contextlib.suppress(PermissionError):  # some sandboxes refuse all signals
                _WATCH.process.kill()
            process = _WATCH.process
            _WATCH.drop()  # without its pipe it ends by itself, too
            process.wait()
