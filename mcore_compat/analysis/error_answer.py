"""The answer to an error as lines of text; the first line has the main point. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mcore_compat.analysis.error_search import SHOWN, Found, Match
from mcore_compat.analysis.error_text import SeenError
from mcore_compat.analysis.known_errors import Answer

UNKNOWN = "not known"


Read = Sequence[tuple[SeenError, Answer]]
"""Errors that no result has, with an answer from the releases' own files."""


def lines(found: Found, read: Read = ()) -> Iterator[str]:
    """Yield the known errors that match, best first; else the most similar, marked as such. Errors
    that were `read` from the releases' files are known, too."""
    if read and not found.sure:
        yield from _read(read)
        return
    if not found.sure:
        near = (
            "; the most similar known errors:"
            if found.matches
            else ", and no known error is similar"
        )
        yield f"{UNKNOWN}{near}"
    for number, match in enumerate(found.matches):
        if number:
            yield ""
        yield from _one(match)
    if read:
        yield ""
        yield from _read(read)
    strange = [error for error in found.strange if all(error is not one for one, _ in read)]
    if found.sure and strange:
        yield ""
        yield f"{UNKNOWN}, among the other errors in it:"
        yield from (f"  {error.title[:160]}" for error in strange[:SHOWN])


def _read(read: Read) -> Iterator[str]:
    for number, (error, answer) in enumerate(read[:SHOWN]):
        if number:
            yield ""
        yield f"known: {answer.first}"
        yield f"  says: {error.title[:160]}"
        yield from (f"  {row}" for row in answer.rest)


def _one(match: Match) -> Iterator[str]:
    answer = match.known.tell()
    if not match.sure:
        yield f"similar: {match.known.title}"
        if match.seen.frames and match.known.frames:
            yield f"  but: raised in {match.known.frames[0]}, yours in {match.seen.frames[0]}"
        yield f"  cause: {answer.first}"
        yield from (f"  {row}" for row in answer.rest)
        return
    grade = "known"
    if match.known.stock and match.known.frames and not match.seen.frames:
        # Any code can raise this message of Python.
        grade = f"known, if it was raised in {match.known.frames[0]}"
    yield f"{grade}: {answer.first}"
    yield f"  message: {match.known.title}"
    yield from (f"  {row}" for row in answer.rest)
