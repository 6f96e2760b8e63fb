"""Shares compiled Python files between environments.

uv links the sources of an environment from its cache, but Python compiles them again in each, which
takes 15 s and 100 MB for these packages. So files compiled in one cell are linked into the next.

A compiled file is kept under the identity of its source: inode, size and modification time. Python
itself checks the latter two before it uses one, so that a wrong file never runs.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock

from mcore_compat.base import files

NAMES = "names.txt"


def folder() -> Path:
    """The folder of the compiled files and the list of their names."""
    return files.home() / "bytecode"


def _key(source: Path) -> str:
    """The identity of a source.

    Raises:
        OSError: it does not exist.
    """
    status = source.stat()
    return f"{status.st_ino:x}-{status.st_size:x}-{status.st_mtime_ns:x}"


def source_of(compiled: Path) -> Path:
    """`a/b.py` for `a/__pycache__/b.cpython-312.pyc`."""
    return compiled.parent.parent / f"{compiled.name.split('.')[0]}.py"


def _compiled(site: Path) -> Iterator[Path]:
    """The files compiled in this environment: without a second hard link, which files have that are
    already kept or came with a wheel."""
    for base, _, names in os.walk(site):
        if base.endswith("__pycache__"):
            for name in names:
                if (
                    name.endswith(".pyc")
                    and os.lstat(path := os.path.join(base, name)).st_nlink == 1
                ):
                    yield Path(path)


def keep(site: Path) -> int:
    """Keep the compiled files of an environment; returns the number of new ones.

    Does nothing if files cannot be hard-linked: the next environment then compiles its own.
    """
    place = folder()
    seen, new = set(), 0
    with contextlib.suppress(OSError):
        place.mkdir(parents=True, exist_ok=True)
        for path in _compiled(site):
            with contextlib.suppress(OSError):  # no source, or the disk is full
                copy = place / f"{_key(source_of(path))}{_tag(path)}"
                seen.add(path.relative_to(site).as_posix())
                if not copy.exists():
                    os.link(path, copy)
                    new += 1
        if new:
            with FileLock(place / f"{NAMES}.lock"):
                names = sorted(seen | set(_names()))
                files.write_text(place / NAMES, "".join(f"{n}\n" for n in names), durable=False)
    return new


def link(site: Path) -> int:
    """Link kept compiled files of the same sources into a new environment; returns their number."""
    place = folder()
    count = 0
    for name in _names():
        path = site / name
        with contextlib.suppress(OSError):  # another cell's file, or not compiled yet
            copy = place / f"{_key(source_of(path))}{_tag(path)}"
            if not path.parent.exists():
                path.parent.mkdir()
            os.link(copy, path)
            count += 1
    return count


def _tag(path: Path) -> str:
    """The suffix `.cpython-312.pyc`, which distinguishes the Python versions."""
    return path.name[path.name.index(".") :]


def _names() -> list[str]:
    try:
        return (folder() / NAMES).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
