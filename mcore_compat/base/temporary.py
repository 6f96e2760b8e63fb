"""Temporary folders that do not outlive the process that made them, however that ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from mcore_compat.base import files, process_marks, watched
from mcore_compat.base.watchdog import PREFIX

_LOCK = ".owner"
"""A file in each, locked by its owner, who may be one that is not seen from here: of another
container or machine that has the same temporary folder."""

YOUNG_S = 3600.0
"""A folder without that file may be one that is just being made."""


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """An empty folder of a short path, for a socket's may have 107 bytes. It is removed at the end;
    where this process is killed, by its watchdog, and else by the next process that wants one.

    Raises:
        InfrastructureError: the disk is full or not writable.
    """
    sweep()
    watched.ensure()
    place = tempfile.gettempdir()
    with files.disk_errors(Path(place)):
        path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{process_marks.here()}-", dir=place))
        try:
            with (path / _LOCK).open("w") as owner:
                _take(owner.fileno())
                yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)


def sweep() -> None:
    """Remove the folders whose owners are dead."""
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}[0-9]*.[0-9]*-*"):
        mark = path.name.removeprefix(PREFIX).partition("-")[0]
        if _mine(path) and not process_marks.lives(mark) and _abandoned(path):
            shutil.rmtree(path, ignore_errors=True)


def remove_old(pattern: str, seconds: float) -> None:
    """Remove what is called so in the temporary folder and was not touched for that long."""
    for path in Path(tempfile.gettempdir()).glob(pattern):
        if _mine(path) and time.time() - path.stat().st_mtime > seconds:
            shutil.rmtree(path, ignore_errors=True)


def _mine(path: Path) -> bool:
    """Whether it is a folder, and this user's."""
    try:
        info = path.lstat()
    except OSError:  # gone by now
        return False
    return stat.S_ISDIR(info.st_mode) and info.st_uid == os.getuid()


def _abandoned(path: Path) -> bool:
    try:
        with (path / _LOCK).open("r+") as owner:
            return _take(owner.fileno())
    except FileNotFoundError:
        with contextlib.suppress(FileNotFoundError):  # both: somebody else removes it
            return time.time() - path.stat().st_mtime > YOUNG_S
        return False


def _take(lock: int) -> bool:
    """Lock an open file; whether that could be done. Some file systems have no locks."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
