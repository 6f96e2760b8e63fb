"""Temporary folders that are removed when the process that made them ends for any reason."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from mcore_compat.base import files, process_marks, watched

PREFIX = "mcore-compat-"
"""A folder's name is PREFIX, the mark of the process that made it, and a random suffix."""

_NAME = re.compile(PREFIX + r"(?P<mark>\d+\.\d{3,})-[a-z0-9_]{8}")

_LOCK = ".owner"
"""A file in each folder, locked by its owner. The owner may be invisible from here: in another
container or machine with the same temporary folder."""

YOUNG_S = 3600.0
"""A younger folder without that file may still be under construction."""

_OLDER, OLD_S = "mcore-compat-suite-*", 2 * 24 * 3600.0
"""Leftovers of suites that did not run in such a folder. They do not name their owner; each check
updates their time."""

_SWEPT: set[Path] = set()
"""Where this process has already removed abandoned folders."""


@contextlib.contextmanager
def folder(among: Path | None = None) -> Iterator[Path]:
    """An empty folder in `among`, else in the system's temporary folder. Its path is short, because
    a socket's path has at most 107 bytes. It is removed at the end; if this process is killed, by
    its watchdog or by the next process that makes one.

    Raises:
        InfrastructureError: the disk is full or not writable.
    """
    place = among or Path(tempfile.gettempdir())
    with files.disk_errors(place):
        sweep(place)
        path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{process_marks.here()}-", dir=place))
    try:
        with files.disk_errors(place):
            owner = (path / _LOCK).open("w")
        with owner, watched.removed(path):
            _take(owner.fileno())
            yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def sweep(place: Path) -> None:
    """Remove the folders in `place` whose owners are dead, once per process."""
    if place in _SWEPT:
        return
    _SWEPT.add(place)
    for path in place.glob(f"{PREFIX}*"):
        name = _NAME.fullmatch(path.name)
        if name and _mine(path) and not process_marks.lives(name["mark"]) and _abandoned(path):
            shutil.rmtree(path, ignore_errors=True)
    for path in place.glob(_OLDER):
        if _mine(path) and _age(path) > OLD_S:
            shutil.rmtree(path, ignore_errors=True)


def _mine(path: Path) -> bool:
    """Whether it is a folder of this user."""
    try:
        info = path.lstat()
    except OSError:  # already removed
        return False
    return stat.S_ISDIR(info.st_mode) and info.st_uid == os.getuid()


def _abandoned(path: Path) -> bool:
    try:
        with (path / _LOCK).open("r+") as owner:
            return _take(owner.fileno())
    except FileNotFoundError:
        return _age(path) > YOUNG_S
    except OSError:
        return False


def _age(path: Path) -> float:
    """Seconds since the content of a folder changed; 0 if it no longer exists."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0


def _take(lock: int) -> bool:
    """Lock an open file; whether that succeeded. Some file systems have no locks."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
