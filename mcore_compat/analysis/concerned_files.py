"""The source files that a failure is about: those in its traceback, and those that define the names
in its message. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from mcore_compat.core import source_digests

_FRAME = re.compile(r'File "(?P<path>[\w./-]+\.py)"')
_NAMED = re.compile(r"\((?P<path>[\w./-]+\.py)\)")
"""The file in an ImportError's message: that of the module that lacks the name."""

_MODULE = re.compile(
    r"No module named '(?P<missing>[\w.]+)'|cannot import name '\w+' from '(?P<lacking>[\w.]+)'"
)
_CALLED = re.compile(
    r"(?P<name>[A-Za-z_][\w.]*)\(\) (?:got an unexpected|got multiple|missing|takes)"
)


def files(tracebacks: Iterable[str], message: str) -> tuple[str, ...]:
    """Return the axes' files, as paths below `site-packages`; for a missing module, every path that
    it could have. Sorted."""
    found = {m["path"] for text in (*tracebacks, message) for m in _FRAME.finditer(text)}
    found |= {m["path"] for m in _NAMED.finditer(message)}
    for match in _MODULE.finditer(message):
        path = (match["missing"] or match["lacking"]).replace(".", "/")
        found |= {f"{path}.py", f"{path}/__init__.py"}
    return tuple(sorted(path for path in found if source_digests.package_of(path)))


def called(message: str) -> tuple[str, ...]:
    """Return the functions that were called wrongly, from a message; no traceback has their
    definitions."""
    return tuple(sorted({match["name"] for match in _CALLED.finditer(message)}))
