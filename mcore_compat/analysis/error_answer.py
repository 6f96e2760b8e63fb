"""What was found of an error, in words: the first line answers. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from mcore_compat.analysis.error_search import SHOWN, Found, Match

UNKNOWN = "not known"


def lines(found: Found) -> Iterator[str]:
    """The answer to an error: the known ones, best first, else the nearest, labelled as such."""
    if not found.sure:
        near = "; the nearest known:" if found.matches else ", and nothing known is near to it"
        yield f"{UNKNOWN}{near}"
    for number, match in enumerate(found.matches):
        if number:
            yield ""
        yield from _one(match)
    if found.sure and found.strange:
        yield ""
        yield f"{UNKNOWN}, of what else is in it:"
        yield from (f"  {error.title[:160]}" for error in found.strange[:SHOWN])


def _one(match: Match) -> Iterator[str]:
    answer = match.known.tell()
    if not match.sure:
        yield f"near: {match.known.title}"
        if match.seen.frames and match.known.frames:
            yield f"  but: raised in {match.known.frames[0]}, yours in {match.seen.frames[0]}"
        yield f"  there: {answer.first}"
        yield from (f"  {row}" for row in answer.rest)
        return
    grade = "known"
    if match.known.stock and match.known.frames and not match.seen.frames:
        # Python says that of any code.
        grade = f"known, if it was raised in {match.known.frames[0]}"
    yield f"{grade}: {answer.first}"
    yield f"  says: {match.known.title}"
    yield from (f"  {row}" for row in answer.rest)
