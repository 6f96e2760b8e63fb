"""Which source files a failure is about: those of its traceback, and those that define the names
that its message has. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from mcore_compat.core import source_digests

_FRAME = re.compile(r'File "(?P<path>[\w./-]+\.py)"')
_NAMED = re.compile(r"\((?P<path>[\w./-]+\.py)\)")
"""As an ImportError names the file of the module that lacks a name."""

_MODULE = re.compile(
    r"No module named '(?P<missing>[\w.]+)'|cannot import name '\w+' from '(?P<lacking>[\w.]+)'"
)
_CALLED = re.compile(
    r"(?P<name>[A-Za-z_][\w.]*)\(\) (?:got an unexpected|got multiple|missing|takes)"
)


def files(tracebacks: Iterable[str], message: str) -> tuple[str, ...]:
    """The files of the packages on the axes, as paths below `site-packages`; of a module that is
    missing, all that it could be. Sorted."""
    found = {m["path"] for text in (*tracebacks, message) for m in _FRAME.finditer(text)}
    found |= {m["path"] for m in _NAMED.finditer(message)}
    for match in _MODULE.finditer(message):
        path = (match["missing"] or match["lacking"]).replace(".", "/")
        found |= {f"{path}.py", f"{path}/__init__.py"}
    return tuple(sorted(path for path in found if source_digests.package_of(path)))


def called(message: str) -> tuple[str, ...]:
    """The functions whose call a message complains of: their definitions are in no traceback."""
    return tuple(sorted({match["name"] for match in _CALLED.finditer(message)}))
