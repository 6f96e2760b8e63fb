"""The history of a name as text. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from mcore_compat.api import definitions, lives
from mcore_compat.api.lives import NameLife

LONGEST = 300


def lines(life: NameLife, *, every: bool = False) -> Iterator[str]:
    """One line a change; with `every`, also full signatures."""
    yield f"{life.path} ({life.package})"
    before: str | None = None
    for change in life.changes:
        if change.text is None:
            moved = f", now {change.moved}" if change.moved else ""
            yield f"  {change.release}  gone{moved}"
        elif before is None:
            word = "there" if change is life.changes[0] else "back"
            yield f"  {change.release}  {word}: {_cut(change.text, every)}"
        else:
            what = "; ".join(lives.differences(before, change.text))
            yield f"  {change.release}  {_cut(what or change.text, every)}"
            if every:
                yield f"      {change.text}"
        before = change.text
    if before is not None and len(life.changes) > 1:
        yield f"  {life.last}  the newest: {_cut(before, every)}"


def _cut(text: str, every: bool) -> str:
    text = text.replace(definitions.EITHER, " or ")
    return text if every or len(text) <= LONGEST else f"{text[:LONGEST]} …"
