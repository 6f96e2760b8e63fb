"""Text and JSON that others wrote: made harmless where it comes in.

Foreign is whatever a package under test, another machine or a file says. `plain` is the one place
where its text is cleaned, `decode` the one place where its JSON is read.
"""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from mcore_compat.base.errors import EvidenceError

MOST_BYTES = 64 << 20
"""Of a file that is read: the largest result is a hundredth of it."""

DEEPEST = 30
"""Lists and mappings within each other: what the suite records has five."""

_TOO_DEEP = f"it is nested more than {DEEPEST} deep"

UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
"""Control characters but for the tab and the line's end, what has no width, what turns the
direction of a text, other ends of lines, and halves of pairs."""

_ESCAPED = re.compile(r"\\[ubfr]")
"""In JSON: what may stand for a character that is not seen, or for any other."""


def plain(text: str) -> str:
    """Foreign text without what is not seen; `\ufffd` stands in its place."""
    if text.isascii() and text.isprintable():
        return text
    return UNSEEN.sub("\ufffd", text)


def line(text: str, most: int | None = None) -> str:
    """Foreign text on one line, cut to `most` characters."""
    words = " ".join(plain(text).split())
    return words if most is None or len(words) <= most else f"{words[: most - 1]}…"


def cleaned(value: Any, change: Callable[[str], str] | None = None, depth: int = DEEPEST) -> Any:
    """Foreign data with every text in it, keys too, made `plain`; before that, `change`d.

    Raises:
        ValueError: two keys are the same then, or it is nested more than `depth` deep.
    """
    if isinstance(value, str):
        return plain(change(value) if change else value)
    if depth < 0:
        raise ValueError(_TOO_DEEP)
    if isinstance(value, Mapping):
        pairs = {
            cleaned(key, change): cleaned(one, change, depth - 1) for key, one in value.items()
        }
        if len(pairs) != len(value):
            raise ValueError("two of its keys are the same once they are cleaned")
        return pairs
    if isinstance(value, (list, tuple)):
        return [cleaned(one, change, depth - 1) for one in value]
    return value


def decode(text: str) -> Any:
    """The data of a JSON text, its texts `plain`.

    Raises:
        ValueError: it is no JSON, has a key twice, is nested too deeply, or has a number that no
            float holds. Says which.
    """
    try:
        data = msgspec.json.decode(text)
        _refuse_depth(data)
        # A key that comes twice is lost, and with it a colon, unless it is written as an escape.
        escaped = _ESCAPED.search(text) is not None
        if escaped or text.count(":") != msgspec.json.encode(data).count(b":"):
            json.loads(text, object_pairs_hook=_once)
        if escaped or not text.isascii() or "\x7f" in text:
            data = cleaned(data)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    except (msgspec.DecodeError, UnicodeError) as error:
        raise ValueError(f"it is no JSON: {error}") from None
    return data


def _refuse_depth(data: Any) -> None:
    """Refuse what recursive code could not walk; by level, so that this walks anything."""
    level = [data] if type(data) in (dict, list) else []
    for _ in range(DEEPEST):
        level = [
            one
            for value in level
            for one in (value.values() if type(value) is dict else value)
            if type(one) is dict or type(one) is list
        ]
        if not level:
            return
    raise ValueError(_TOO_DEEP)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {line(twice, 60)!r} comes twice")
    return data


def read(path: Path, what: str | None = None) -> str:
    """The text of a foreign file, `what` it is called.

    Raises:
        OSError: the system lets nobody read it.
        EvidenceError: it is not UTF-8, larger than any that is meant, or no regular file: to read a
            pipe may take for ever.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # the system refuses a folder itself
        raise EvidenceError(f"{what or path} is no regular file")
    with path.open("rb") as file:
        return text_of(file.read(MOST_BYTES + 1), what or str(path))


def text_of(data: bytes, what: str) -> str:
    """The text of a foreign file.

    Raises:
        EvidenceError: it is not UTF-8, or larger than any that is meant.
    """
    if len(data) > MOST_BYTES:
        raise EvidenceError(f"{what} has more than {MOST_BYTES >> 20} MiB")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise EvidenceError(f"{what} is not UTF-8: {error.reason} at byte {error.start}") from None
