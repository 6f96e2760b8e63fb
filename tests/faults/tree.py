"""What lies in a folder, and what of it is compared: all but dates and durations."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

Tree = dict[str, bytes]
"""By path within a folder: the content of a file; of anything else what it is."""

FILLER = ".filler"
"""What uses up the room of a file system: no file of the program's."""

AS_IT_IS = ("constraints/",)
"""Where dates are facts and not those of a run."""

TIMES = (
    (re.compile(rb"\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d)?Z?)?"), b"DATE"),
    (re.compile(rb'("(?:seconds|minutes)": ?)-?[\d.e+-]+'), rb"\1TIME"),
)

OTHERS = {stat.S_ISDIR: b"a folder", stat.S_ISFIFO: b"a pipe", stat.S_ISSOCK: b"a socket"}


def read(folder: Path) -> Tree:
    """The files below a folder, but for bytecode; links are not followed."""
    found: Tree = {}
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in (FILLER, "__pycache__")]
        links = [name for name in folders if Path(place, name).is_symlink()]
        for name in (*names, *links):
            if name == FILLER:
                continue
            path = Path(place, name)
            found[path.relative_to(folder).as_posix()] = _content(path)
    return found


def _content(path: Path) -> bytes:
    try:
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            return b"a link to " + os.fsencode(os.readlink(path))
        if stat.S_ISREG(mode):
            return path.read_bytes()
    except OSError as error:
        return f"unreadable: {error.strerror}".encode()
    return next((word for holds, word in OTHERS.items() if holds(mode)), b"a device")


def plain(name: str, content: bytes | None) -> bytes | None:
    """A file's content as it is compared."""
    if content is None or name.startswith(AS_IT_IS):
        return content
    for pattern, word in TIMES:
        content = pattern.sub(word, content)
    return content


def same(name: str, one: bytes | None, other: bytes | None) -> bool:
    """Whether a file is the same in two trees, apart from times; None: it is not there."""
    return one == other or plain(name, one) == plain(name, other)


def changed(before: Tree, after: Tree) -> list[str]:
    """The files that are not the same, sorted."""
    names = sorted({*before, *after})
    return [name for name in names if not same(name, before.get(name), after.get(name))]
