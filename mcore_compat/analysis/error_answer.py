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
    yield f"{'known' if match.sure else 'near'}: {answer.first}"
    yield f"  says: {match.known.title}"
    if match.known.stock and not match.seen.frames:
        where = f" in {match.known.frames[0]}" if match.known.frames else ""
        yield f"  but: Python says that of any code; it is this one if it was raised{where}"
    yield from (f"  {row}" for row in answer.rest)
