"""An exception as plain data: what it says, where it was raised, and in which package."""

from __future__ import annotations

import functools
import os
import re
import sys
import sysconfig
import traceback
from typing import Any

_FRAMES = 30
_TEXT = 20_000
_FOLDER = re.compile(r"(?:/[^\s'\":]*)?mcore-compat-suite-\w+/")
"""A run's own folder, of another name each time."""

_REPOSITORY = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))


def _roots() -> tuple[str, ...]:
    return _known_roots(tuple(sys.path))


@functools.cache
def _known_roots(search: tuple[str, ...]) -> tuple[str, ...]:
    """What paths are told relative to, the longest first: each as named and as it really is."""
    named = [*search, sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    named += [sysconfig.get_path("stdlib"), _REPOSITORY]
    kept = [path for path in named if path and os.path.isdir(path)]
    return tuple(sorted({*kept, *map(os.path.realpath, kept)}, key=len, reverse=True))


def relative(path: str) -> str:
    """`path` without what depends on the machine: relative to where Python found it."""
    for root in _roots():
        if path.startswith(root + os.sep):
            return path[len(root) + 1 :]
    return path


def clean(text: str) -> str:
    """`text` without machine paths, so that equal failures read the same everywhere."""
    for root in _roots():
        text = text.replace(root + os.sep, "")
    return _FOLDER.sub("", text)


def module_of(path: str) -> str:
    """The dotted name of the module that a relative file path holds."""
    return re.sub(r"(/__init__)?\.py$", "", path).replace("/", ".")


_MACHINERY = (
    "_pytest/",
    "pluggy/",
    "suite/plugin.py",
    "suite/isolation.py",
    "suite/run.py",
)
"""Frames that only say how the suite runs a check."""


def innermost(error: BaseException) -> list[Any]:
    """The traceback entries of `error`, outermost first, without pytest's and the suite's own."""
    entries = traceback.extract_tb(error.__traceback__)
    own = [entry for entry in entries if not relative(entry.filename).startswith(_MACHINERY)]
    return own or list(entries)


def text_of(error: BaseException) -> str:
    """The traceback as Python prints it, with what caused it, without the suite's machinery."""
    entry = error.__traceback__
    while entry is not None and entry.tb_next is not None:
        if not relative(entry.tb_frame.f_code.co_filename).startswith(_MACHINERY):
            break
        entry = entry.tb_next
    return clean("".join(traceback.format_exception(type(error), error, entry)))[-_TEXT:]


def headline(error: BaseException) -> str:
    """One line of what `error` says: the first, with the second where that only announces it, or
    of a message that holds a whole traceback (torch's checkpoint errors do) the last."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no message"]
    if any(line.startswith("Traceback") for line in lines):
        return lines[-1][:500]
    return " ".join(lines[: 1 + lines[0].endswith(":")])[:500]


def root(error: BaseException) -> BaseException:
    """What an import really failed for: packages raise it again under words of their own."""
    passed = {id(error)}
    while isinstance(error, ImportError):
        hidden = error.__suppress_context__
        below = error.__cause__ or (None if hidden else error.__context__)
        if not isinstance(below, ImportError) or id(below) in passed:
            break
        error = below
        passed.add(id(error))
    return error


def describe(error: BaseException, gpu_independent: str | None) -> dict[str, Any]:
    """The event's `failure` field, of the root but for the traceback, which has the whole chain.

    Frames run from the outermost to the innermost.
    """
    whole = text_of(error)
    error = root(error)
    frames = []
    for entry in innermost(error)[-_FRAMES:]:
        file = relative(entry.filename)
        frames.append(
            {
                "module": module_of(file),
                "file": file,
                "line": entry.lineno,
                "function": entry.name,
            }
        )
    return {
        "type": type(error).__name__,
        "message": clean(str(error)).strip()[:4000],
        "frames": frames,
        "traceback": whole,
        "gpu_independent": gpu_independent,
    }


def died(kind: str, message: str, stack: str) -> dict[str, Any]:
    """The `failure` of a check whose process died or hung; `stack` is faulthandler's text."""
    return {
        "type": kind,
        "message": message,
        "frames": stack_frames(stack),
        "traceback": clean(stack)[-_TEXT:],
        "gpu_independent": None,
    }


_STACK_LINE = re.compile(r'^  File "(?P<file>[^"]+)", line (?P<line>\d+) in (?P<function>.+)$')


def stack_frames(stack: str) -> list[dict[str, Any]]:
    """The frames of the current thread in a faulthandler dump, outermost first."""
    blocks = re.split(r"^(?=(?:Current thread|Thread) 0x)", stack, flags=re.M)
    block = next((part for part in blocks if part.startswith("Current thread")), stack)
    frames = []
    for line in block.splitlines():
        match = _STACK_LINE.match(line)
        if match is None:
            continue
        file = relative(match["file"])
        frame = {"module": module_of(file), "file": file, "line": int(match["line"])}
        frames.append({**frame, "function": match["function"]})
    frames.reverse()
    return [frame for frame in frames if not frame["file"].startswith(_MACHINERY)][-_FRAMES:]
