"""Several files that belong together: all of them are written, or none."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mcore_compat.base import files, watched
from mcore_compat.base.errors import InfrastructureError

Text = str | Iterable[str]
"""Of a file, or its pieces."""

_LEFT = re.compile(r"\.(?P<name>.+)\.[a-z0-9_]{8}(\.old)?")
"""How a file or folder is named beside its place, here and in `files.write_text`."""

OLD_S = 3600.0
"""What is younger may be another process's that is just writing."""


def write_all(texts: Mapping[Path, Text | None]) -> None:
    """Write each text to its path, in this order; None takes the file away.

    All are on the disk, beside their places, before the first is renamed. Where a rename fails,
    those before it are taken back. A process that is killed between two leaves the later as they
    were: the order is the caller's.

    Raises:
        InfrastructureError: the disk is full or not writable; every file is then as it was.
    """
    with Changes() as changes:
        for path, text in texts.items():
            if text is None:
                changes.remove(path)
            else:
                changes.write(path, text)
        changes.commit()


class Changes:
    """Files and folders that are written, or removed, all together or not at all.

    Each is written whole beside its place; `commit` puts all of them in their places, in order, and
    where one cannot be put there, takes back those that were: for that nothing has to be written.
    What was not committed when the `with` block ends is removed, by the watchdog where this process
    is killed. Only a kill in the middle of `commit` leaves some of them new, each whole. What no
    watchdog could remove, the next change of the same files does.
    """

    def __init__(self) -> None:
        self._mark = secrets.token_hex(4)
        self._changed: dict[Path, bool] = {}
        self._expected: dict[Path, None] = {}
        self._made: dict[Path, None] = {}
        self._watched = contextlib.ExitStack()

    def __enter__(self) -> Changes:
        return self

    def __exit__(self, *_: object) -> None:
        for path in self._expected:
            _discard(self._beside(path))
        self._watched.close()
        for folder in sorted(self._made, reverse=True):
            with contextlib.suppress(OSError):  # not empty: something was put there
                folder.rmdir()

    def _beside(self, path: Path) -> Path:
        return path.with_name(f".{path.name}.{self._mark}")

    def _old(self, path: Path) -> Path:
        return path.with_name(f".{path.name}.{self._mark}.old")

    def expect(self, paths: Iterable[Path]) -> None:
        """Say what a forked process may `write` with these changes, so that what it leaves is
        removed; `written` says what it did."""
        for path in paths:
            if path in self._expected:
                continue
            self._expected[path] = None
            self._watched.enter_context(watched.removed(self._beside(path)))
            missing = itertools.takewhile(lambda folder: not folder.exists(), path.parents)
            self._made.update(dict.fromkeys(missing))

    def written(self, paths: Iterable[Path]) -> None:
        """Take over what a forked process has written."""
        self._changed.update(dict.fromkeys(paths, True))

    def write(self, path: Path, text: Text, *, durable: bool = True) -> None:
        """Write a file, or its pieces, beside its place; `durable`: as in `files.write_text`.

        Raises:
            InfrastructureError: the disk is full or not writable.
        """
        self.expect([path])
        self._changed[path] = True
        beside = self._beside(path)
        try:
            with files.disk_errors(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                # A forked process may be killed here: no name that its parent does not know.
                with open(beside, "w", encoding="utf-8", newline="\n") as out:
                    files.write_into(out, text, durable=durable)
                os.chmod(beside, 0o644)
        except InfrastructureError as error:
            raise InfrastructureError(str(error).replace(str(beside), str(path))) from error

    def write_folder(
        self, folder: Path, pages: Iterable[tuple[str, str]], also: Iterable[tuple[str, str]] = ()
    ) -> int:
        """Write files, each a path within a folder and a text, beside its place; how many. What is
        `also` to be there is made by a process of its own meanwhile.

        Raises:
            InfrastructureError: the disk is full or not writable.
        """
        self.expect([folder])
        self._changed[folder] = True
        with files.disk_errors(folder):
            self._beside(folder).mkdir(parents=True)
            return files.write_pages(self._beside(folder), pages, also)

    def remove(self, path: Path) -> None:
        """Remove a file, where it is there."""
        self._changed[path] = False

    def commit(self) -> None:
        """Put all in their places.

        Raises:
            InfrastructureError: the disk is full or not writable; all is then as it was.
        """
        done: list[Path] = []
        try:
            for path, stays in self._changed.items():
                with files.disk_errors(path):
                    done.append(path)
                    self._keep(path)
                    if stays:
                        os.replace(self._beside(path), path)
                    else:
                        path.unlink(missing_ok=True)
        except BaseException:
            for path in reversed(done):
                with contextlib.suppress(OSError):  # the others are still to be taken back
                    self._take_back(path)
            raise
        for path in done:
            _discard(self._old(path))
        _sweep(done)
        self._changed = {}

    def _keep(self, path: Path) -> None:
        """Keep what is in a place until all is done; a file stays there meanwhile."""
        if path.is_dir() and not path.is_symlink():
            os.rename(path, self._old(path))
        elif path.exists():
            try:
                os.link(path, self._old(path))
            except OSError:  # a file system without links
                shutil.copy2(path, self._old(path))

    def _take_back(self, path: Path) -> None:
        """Put back what was kept; where nothing was, nothing was there."""
        old, beside = self._old(path), self._beside(path)
        placed = self._changed[path] and not beside.exists()
        # By a copy where a rename is refused.
        if placed and (path.is_dir() or not old.exists()):
            shutil.move(path, beside)
        if old.exists():
            if not (path.exists() and path.samefile(old)):
                shutil.move(old, path)
            _discard(old)


def _sweep(paths: Sequence[Path]) -> None:
    """Remove what writers of these paths have left beside them, who are dead by now."""
    meant = set(paths)
    for folder in {path.parent for path in paths}:
        # What is left takes nothing from what was written: no reason to fail.
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                left = _LEFT.fullmatch(entry.name)
                if left and folder / left["name"] in meant:
                    age = time.time() - entry.stat(follow_symlinks=False).st_mtime
                    if age > OLD_S:
                        _discard(folder / entry.name)


def _discard(path: Path) -> None:
    """Remove a file or a folder, where it is there."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        shutil.rmtree(path, ignore_errors=True)
