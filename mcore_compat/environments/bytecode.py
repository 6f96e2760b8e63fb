"""Compiled Python, shared by environments as their sources are.

uv links the sources of an environment out of its cache, but Python compiles them anew in each: for
these packages 15 s and 100 MB. What one cell compiled is therefore linked into the next.

A compiled file is kept under the identity of its source: inode, size and time of change. Python
itself looks at the latter two before it takes one, so that a wrong one is never run.
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
    """Where compiled files are kept, and the names under which they were seen."""
    return files.home() / "bytecode"


def _key(source: Path) -> str:
    """The identity of a source.

    Raises:
        OSError: it is not there.
    """
    status = source.stat()
    return f"{status.st_ino:x}-{status.st_size:x}-{status.st_mtime_ns:x}"


def source_of(compiled: Path) -> Path:
    """`a/b.py` for `a/__pycache__/b.cpython-312.pyc`."""
    return compiled.parent.parent / f"{compiled.name.split('.')[0]}.py"


def _compiled(site: Path) -> Iterator[Path]:
    """What was compiled here: a file with a second name is kept already, or came with a wheel."""
    for base, _, names in os.walk(site):
        if base.endswith("__pycache__"):
            for name in names:
                if (
                    name.endswith(".pyc")
                    and os.lstat(path := os.path.join(base, name)).st_nlink == 1
                ):
                    yield Path(path)


def keep(site: Path) -> int:
    """Keep what was compiled in an environment; how many files were new.

    Does nothing where files cannot be linked: the next environment then compiles its own.
    """
    place = folder()
    seen, new = set(), 0
    with contextlib.suppress(OSError):
        place.mkdir(parents=True, exist_ok=True)
        for path in _compiled(site):
            with contextlib.suppress(OSError):  # without a source, or of a full disk
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
    """Link into a new environment what others compiled of the same sources; how many files."""
    place = folder()
    count = 0
    for name in _names():
        path = site / name
        with contextlib.suppress(OSError):  # another cell's file, or compiled by nobody yet
            copy = place / f"{_key(source_of(path))}{_tag(path)}"
            if not path.parent.exists():
                path.parent.mkdir()
            os.link(copy, path)
            count += 1
    return count


def _tag(path: Path) -> str:
    """`.cpython-312.pyc`: compiled files of other Pythons are others."""
    return path.name[path.name.index(".") :]


def _names() -> list[str]:
    try:
        return (folder() / NAMES).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
