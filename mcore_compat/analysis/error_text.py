"""Extract the errors from a text: a message, a traceback, or a log of many ranks. Pure.

`publish/site/static/error_search.js` repeats this: all patterns are ASCII and match within one
line, so that both give the same result. Logs put a rank, a time or a level before each line, colour
it, and break it at the terminal's width; paths and line numbers differ between machines and
releases.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

MOST_LINES = 40
"""The most lines of one message: a list of missing keys can be longer, but differs by model."""

CUT = 600
"""The most published characters of a known error's message; of a longer message, only the start is
compared."""

MOST_ERRORS = 100
"""The most errors from the start of a log, and from its end: the first failure, and the last."""

_COLOURS = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b\n]*(?:\x07|\x1b\\)")

_LEVEL = r"(?:\[?(?:DEBUG|INFO|WARNING|WARN|ERROR|CRITICAL|FATAL)\]?(?: *[:|-])? ?)"

_PREFIX = re.compile(
    r"\[(?:rank|default|worker|node|host)[^0-9\]\n]?[0-9]+\]:? ?"
    r"|\[[0-9]+,[0-9]+\]<std(?:err|out)>: ?"
    r"|\([A-Za-z_][A-Za-z0-9_.:-]*(?:\([^)\n]*\))? pid=[0-9]+(?:, ip=[0-9.]+)?\) ?"
    r"|\[?[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]+)?"
    rf"(?:Z|[+-][0-9]{{2}}:?[0-9]{{2}})?\]?(?: [-|])? ?{_LEVEL}?"
    r"|[EWIF][0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]+ +[0-9]+ [A-Za-z0-9_./-]+:[0-9]+\] ?"
    r"|[0-9]{1,4}: "
    r"|[0-9]{1,3}(?:\.[0-9]{1,3}){3}: "
    r"|[A-Za-z0-9_.-]+ +\| "
    r"|E {3}"
    r"|> "
)
"""Prefixes of lines in logs: ranks of torchrun and mpirun, Ray's actors, times, glog, `srun -l`,
`pdsh`, names of services, pytest's `E`, and `>` of quotations."""

_FILE = re.compile(r'[ \t]*File "')
_FRAME = re.compile(r'[ \t|│]*File "([^"\n]{1,400})", line [0-9]+, in ([A-Za-z0-9_<>.]+)')
_OTHER_FRAME = re.compile(
    r"[ \t|│]*(?:File )?([A-Za-z0-9_./~\\-]+\.py):[0-9]+(?::|,)? in ([A-Za-z0-9_<>.]+)"
)
"""A frame in the format of IPython, Rich and pytest."""

_RAISED = re.compile(
    r"((?:[A-Za-z_][A-Za-z0-9_]*\.)*[A-Za-z_][A-Za-z0-9_]*"
    r"(?:Error|Exception|Interrupt|Exit|Timeout|Failure))(:|$)[ \t]*([^\n]*)"
)
_ENDED = re.compile(
    r"((?:[A-Za-z_][A-Za-z0-9_]*\.)*[A-Z][A-Za-z0-9_]*|AssertionError)(:|$)[ \t]*([^\n]*)"
)
"""The last line of a traceback; the exception may have any name."""

_WITHIN = re.compile(r"\b([A-Za-z_][A-Za-z0-9_]*(?:Error|Exception)): ([^\n]+)", re.ASCII)
_COMPLAINT = re.compile(r"(?:^|[^A-Za-z_])(?:error|fatal):? ([^\n]+)", re.ASCII | re.IGNORECASE)

_HINTS = (
    *("rror", "RROR", "atal", "ATAL", "Exception", "Interrupt", "Exit", "Timeout", "Failure"),
    *("Traceback", 'File "', ".py:"),
)
"""In a long log, only lines with one of these are read, and the lines right after them."""

SHORT = 400
"""The most lines of a text that is read completely."""

_TRACEBACK = "Traceback (most recent call last)"
_CHAINED = ("During handling of the above", "The above exception was")

_TYPES = re.compile(
    r"^[ \t]*(?:[A-Za-z_][A-Za-z0-9_]*\.)*([A-Z][A-Za-z0-9_]*(?:Error|Exception)): "
)
_ALL_TYPES = re.compile(r"\b([A-Z][A-Za-z0-9_]*(?:Error|Exception)):", re.ASCII)
_PACKAGES = re.compile(r"(?:[A-Za-z]:)?[^ \t\n'\":,;()<>\[\]]*/(?:site|dist)-packages/")
_PATH = re.compile(r"(?:/[^ \t\n'\":,;()<>\[\]/]+)*/([^ \t\n'\":,;()<>\[\]/]+)")
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]+", re.ASCII)
_TEMPORARY = re.compile(r"\b(?:tmp|mcore-compat-suite-)[A-Za-z0-9_]{6,}", re.ASCII)
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_COUNTED = re.compile(r"(?:_[0-9]+)+$")


@dataclass(frozen=True, kw_only=True)
class SeenError:
    """An error in a text. `types`: of its exception, and of exceptions in its message; `messages`:
    the possible readings of its lines; `frames`: of its traceback, as `frame_key` returns them, the
    innermost first; `count`: how often the text has it."""

    types: tuple[str, ...]
    messages: tuple[str, ...]
    frames: tuple[str, ...] = ()
    count: int = 1

    @property
    def title(self) -> str:
        """The type and the first line of the message: `TypeError: ...`."""
        return ": ".join(filter(None, [*self.types[:1], self.messages[0]]))


@functools.lru_cache(maxsize=1024)
def words(message: str) -> tuple[str, ...]:
    """Return the words and names of a message, once each, in order, without paths, numbers,
    addresses and types of exceptions."""
    text = message
    while match := _TYPES.match(text):
        text = text[match.end() :]
    text = _PACKAGES.sub("", text)
    text = _PATH.sub(r" \1", text)
    text = _TEMPORARY.sub(" ", _ADDRESS.sub(" ", text))
    found = (_COUNTED.sub("", word).lower() for word in _WORD.findall(text))
    return tuple(dict.fromkeys(word for word in found if word.strip("_")))


def types_in(message: str) -> list[str]:
    """Return the types of exceptions in a message."""
    return list(dict.fromkeys(_ALL_TYPES.findall(message)))


_ROOT = re.compile(r"site-packages|dist-packages|python3\.\d+")
"""A folder that holds packages; it and its parents are not part of a module's name."""


def frame_key(path: str, function: str) -> str:
    """Return a frame without parts that differ between machines and releases: the last two parts of
    the module's name, and the function's name. Empty without a file. `path`: a file or a module."""
    if path.startswith("<"):  # the import system, which is in every traceback of an import
        return ""
    parts = re.split(r"[/\\]+", path)
    parts = parts if len(parts) > 1 or path.endswith(".py") else path.split(".")
    place = max((at for at, part in enumerate(parts) if _ROOT.fullmatch(part)), default=-1)
    parts = parts[place + 1 :]
    names = [part.removesuffix(".py") for part in parts]
    names = [name for name in names if name not in ("", "__init__")]
    return f"{'.'.join(names[-2:])}:{function.rpartition('.')[2]}"


def errors(text: str) -> list[SeenError]:
    """Return the errors in a text, each once, in order. A short text without a recognized error is
    one error's message."""
    rows = _lines(text)
    every = _once(_raised(rows))
    if not every:
        every = _once(_mentioned(rows))
    if not every and 0 < len(rows) <= MOST_LINES:
        told = [match[1] for match in map(_COMPLAINT.search, rows) if match]
        every = [SeenError(types=(), messages=(*_joined(rows), *told))]
    if len(every) > 2 * MOST_ERRORS:
        every = [*every[:MOST_ERRORS], *every[-MOST_ERRORS:]]
    return every


def frames_of(traceback: str, message: str, without: str) -> tuple[str, ...]:
    """Return the frames of the exception in a traceback that shares most words with `message`, the
    innermost first, without frames of modules whose name begins with `without`."""
    asked = {*words(message)}
    every = [error for error in errors(traceback) if error.frames]
    best = max(every, key=lambda e: len(asked & {*words(e.messages[-1])}), default=None)
    frames = best.frames if best else ()
    return tuple(frame for frame in frames if not frame.startswith(without))


def _lines(text: str) -> list[str]:
    """Return the lines without colours and prefixes, and without empty lines at both ends."""
    rows = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if len(rows) > SHORT:
        rows = _near_hints(rows)
    rows = [_bare(row) for row in rows]
    while rows and not rows[0]:
        del rows[0]
    while rows and not rows[-1]:
        del rows[-1]
    return rows


def _near_hints(rows: Sequence[str]) -> list[str]:
    """Return the lines that may belong to an error; an empty line replaces the others in
    between."""
    kept: list[str] = []
    last = -MOST_LINES
    for place, row in enumerate(rows):
        if any(hint in row for hint in _HINTS):
            last = place
        if place < last + MOST_LINES:
            kept.append(row)
        elif kept and kept[-1]:
            kept.append("")
    return kept


def _bare(row: str) -> str:
    if "\x1b" in row:
        row = _COLOURS.sub("", row)
    for _ in range(4):
        match = _PREFIX.match(row)
        if match is None:
            break
        row = row[match.end() :]
    return row.rstrip(" \t")


def _unbroken(rows: Sequence[str]) -> Iterator[str]:
    """Yield the lines; join a frame's line again if a terminal broke it."""
    place = 0
    while place < len(rows):
        row, place = rows[place], place + 1
        if _FILE.match(row):
            for more in range(3):
                joined = row + "".join(rows[place : place + more])
                if _FRAME.match(joined):
                    row, place = joined, place + more
                    break
        yield row


def _frame(row: str) -> str | None:
    match = _FRAME.match(row) or _OTHER_FRAME.match(row)
    return frame_key(match[1], match[2]) if match else None


def _raised(rows: Sequence[str]) -> Iterator[SeenError]:
    """Yield each exception at the start of a line, with the frames before it."""
    frames: list[str] = []
    before: list[str] = []
    open_: list[str] = []
    kind = ""
    for row in (*_unbroken(rows), ""):
        started = _TRACEBACK in row
        frame = None if started else _frame(row)
        ended = None if started or frame is not None else (_ENDED if frames else _RAISED).match(row)
        if kind and (started or frame is not None or ended or not row or row.startswith(_CHAINED)):
            yield _error(kind, open_, before)
            kind, open_ = "", []
        if started:
            # The exception of another rank, quoted in the message of the rank that waited for it.
            frames = [*before] if "(RANK" in row else []
        elif frame is not None:
            frames += [frame] if frame else []
        elif ended and (ended[2] or frames):
            kind, open_, before, frames = ended[1], [ended[3]], frames, []
        elif kind and len(open_) < MOST_LINES:
            open_.append(row)


def _error(kind: str, rows: Sequence[str], frames: Sequence[str]) -> SeenError:
    messages = _joined(rows)
    types = dict.fromkeys([kind.rpartition(".")[2], *types_in(messages[0])])
    innermost = tuple(dict.fromkeys(reversed(frames)))
    return SeenError(types=tuple(types), messages=messages, frames=innermost)


def _joined(rows: Sequence[str]) -> tuple[str, ...]:
    """Return the readings of a message: its first line, its start, all lines joined with spaces,
    and all lines joined without (a terminal may break words)."""
    some = [row.strip(" \t") for row in rows[:MOST_LINES]]
    whole = " ".join(some)
    start = whole[:CUT].rpartition(" ")[0] if len(whole) >= CUT else whole
    first = " ".join(some[: 1 + some[0].endswith(":")])  # with ":" it only introduces the next
    return tuple(dict.fromkeys((first, start, whole, "".join(some))))


def _mentioned(rows: Sequence[str]) -> Iterator[SeenError]:
    """Yield exceptions within a line; without any, lines with the word "error" or "fatal"."""
    within = [match for row in rows for match in _WITHIN.finditer(row)]
    for match in within:
        types = dict.fromkeys([match[1], *types_in(match[2])])
        yield SeenError(types=tuple(types), messages=(match[2],))
    if not within and len(rows) > 1:
        for row in rows:
            if complaint := _COMPLAINT.search(row):
                yield SeenError(types=(), messages=(complaint[1],))


def _once(found: Iterator[SeenError]) -> list[SeenError]:
    counted: dict[tuple[object, ...], SeenError] = {}
    for error in found:
        key = (error.types, error.frames, *words(error.messages[-1]))
        first = counted.get(key)
        counted[key] = replace(first, count=first.count + 1) if first else error
    return list(counted.values())
