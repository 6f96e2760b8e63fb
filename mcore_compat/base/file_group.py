"""Writes several files that belong together: all of them, or none."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from mcore_compat.base import files, watched
from mcore_compat.base.errors import InfrastructureError
from mcore_compat.base.forks import forked

Text = str | Iterable[str]
"""The text of a file, or its pieces."""

_LEFT = re.compile(r"\.(?P<name>.+)\.[a-z0-9_]{8}(\.old)?")
"""The name of a temporary file or folder beside its target, here and in `files.write_text`."""

OLD_S = 3600.0
"""A younger temporary file may belong to a process that is still writing it."""


def write_all(texts: Mapping[Path, Text | None]) -> None:
    """Write each text to its path, in this order; None removes the file.

    All files are on the disk, beside their targets, before the first is renamed. If a rename
    fails, the earlier ones are undone. If the process is killed between two renames, the later
    files stay unchanged: the caller chooses the order.

    Raises:
        InfrastructureError: the disk is full or not writable; every file is then unchanged.
    """
    with Changes() as changes:
        for path, text in texts.items():
            if text is None:
                changes.remove(path)
            else:
                changes.write(path, text)
        changes.commit()


class Changes:
    """A set of files and folders that are written or removed all together or not at all.

    Each is first written completely beside its target. `commit` moves all of them to their
    targets, in order; if a move fails, it undoes the earlier ones, which needs no disk space.
    Whatever is not committed when the `with` block ends is removed, by the watchdog if this process
    is killed. Only a kill in the middle of `commit` leaves some files new and some old, each
    complete. Leftovers that no watchdog removed are removed by the next change of the same files.
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
            with contextlib.suppress(OSError):  # not empty: another process uses it
                folder.rmdir()

    def _beside(self, path: Path) -> Path:
        return path.with_name(f".{path.name}.{self._mark}")

    def _old(self, path: Path) -> Path:
        return path.with_name(f".{path.name}.{self._mark}.old")

    def expect(self, paths: Iterable[Path]) -> None:
        """Announce the paths that a forked process may `write`, so that its leftovers are
        removed."""
        for path in paths:
            if path in self._expected:
                continue
            self._expected[path] = None
            self._watched.enter_context(watched.removed(self._beside(path)))
            missing = itertools.takewhile(lambda folder: not folder.exists(), path.parents)
            self._made.update(dict.fromkeys(missing))

    def write(self, path: Path, text: Text, *, durable: bool = True) -> None:
        """Write a text, or its pieces, beside its target; `durable`: as in `files.write_text`.

        Raises:
            InfrastructureError: the disk is full or not writable.
        """
        self.expect([path])
        self._changed[path] = True
        beside = self._beside(path)
        try:
            with files.disk_errors(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                # A forked process may be killed here, so the parent must know the name.
                with open(beside, "w", encoding="utf-8", newline="\n") as out:
                    files.write_into(out, text, durable=durable)
                os.chmod(beside, 0o644)
        except InfrastructureError as error:
            raise InfrastructureError(str(error).replace(str(beside), str(path))) from error

    def write_folder(
        self,
        folder: Path,
        pages: Iterable[tuple[str, str]],
        also: Iterable[tuple[str, str]] = (),
        then: Callable[[], object] = lambda: None,
        also_then: Callable[[], Iterable[Path]] = lambda: (),
    ) -> int:
        """Write the files of a folder, as pairs of relative path and text, beside its target, and
        call `then`. A forked process, which starts first, writes those of `also` and calls
        `also_then`, which returns the paths that it has written (see `expect`). Returns the number
        of files in the folder.

        Raises:
            InfrastructureError: the disk is full or not writable.
        """
        self.expect([folder])
        self._changed[folder] = True
        beside = self._beside(folder)
        with files.disk_errors(folder):
            beside.mkdir(parents=True)
            with forked(lambda: (files.write_pages(beside, also), [*also_then()])) as other:
                count = files.write_pages(beside, pages)
                then()
                more, written = other()
        self._changed.update(dict.fromkeys(written, True))
        return count + more

    def remove(self, path: Path) -> None:
        """Remove a file, if it exists."""
        self._changed[path] = False

    def commit(self) -> None:
        """Move all files to their targets.

        Raises:
            InfrastructureError: the disk is full or not writable; all files are then unchanged.
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
                with contextlib.suppress(OSError):  # the others must still be undone
                    self._take_back(path)
            raise
        for path in done:
            _discard(self._old(path))
        _sweep(done)
        self._changed = {}

    def _keep(self, path: Path) -> None:
        """Keep the old content of a target until all is done; an old file also stays in place."""
        if path.is_dir() and not path.is_symlink():
            os.rename(path, self._old(path))
        elif path.exists():
            try:
                os.link(path, self._old(path))
            except OSError:  # a file system without links
                shutil.copy2(path, self._old(path))

    def _take_back(self, path: Path) -> None:
        """Restore the old content of a target; without any, remove the new one."""
        old, beside = self._old(path), self._beside(path)
        placed = self._changed[path] and not beside.exists()
        # `move` copies if a rename is refused.
        if placed and (path.is_dir() or not old.exists()):
            shutil.move(path, beside)
        if old.exists():
            if not (path.exists() and path.samefile(old)):
                shutil.move(old, path)
            _discard(old)


def _sweep(paths: Sequence[Path]) -> None:
    """Remove temporary files beside these paths whose writers are dead."""
    meant = set(paths)
    for folder in {path.parent for path in paths}:
        # Leftovers do not affect the written files: not a reason to fail.
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                left = _LEFT.fullmatch(entry.name)
                if left and folder / left["name"] in meant:
                    age = time.time() - entry.stat(follow_symlinks=False).st_mtime
                    if age > OLD_S:
                        _discard(folder / entry.name)


def _discard(path: Path) -> None:
    """Remove a file or a folder, if it exists."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        shutil.rmtree(path, ignore_errors=True)
