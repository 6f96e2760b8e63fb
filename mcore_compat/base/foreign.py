"""Cleans untrusted text and JSON where it enters the program.

Untrusted is everything that comes from a package under test, another machine or a file. `plain` is
the one place that cleans such text, `decode` the one place that reads such JSON.
"""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from mcore_compat.base.errors import ResultError

MOST_BYTES = 64 << 20
"""The maximum size of a file; the largest result is a hundredth of it."""

DEEPEST = 30
"""The maximum nesting of lists and mappings; results have five levels."""

_TOO_DEEP = f"nested more than {DEEPEST} levels deep"

UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
"""Control characters except tab and newline, zero-width characters, changes of text direction,
other line separators, and unpaired surrogates."""

_ESCAPED = re.compile(r"\\[ubfr]")
"""A JSON escape that may stand for any character, also an invisible one."""


def plain(text: str) -> str:
    """The text with `\ufffd` in place of each invisible character."""
    if text.isascii() and text.isprintable():
        return text
    return UNSEEN.sub("\ufffd", text)


def line(text: str, most: int | None = None) -> str:
    """The text cleaned, on one line, cut to `most` characters."""
    words = " ".join(plain(text).split())
    return words if most is None or len(words) <= most else f"{words[: most - 1]}…"


def cleaned(value: Any, change: Callable[[str], str] | None = None, depth: int = DEEPEST) -> Any:
    """The data with every string, keys too, passed through `change` and then `plain`.

    Raises:
        ValueError: two keys become equal, or the nesting exceeds `depth`.
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
            raise ValueError("two keys are equal after cleaning")
        return pairs
    if isinstance(value, (list, tuple)):
        return [cleaned(one, change, depth - 1) for one in value]
    return value


def decode(text: str) -> Any:
    """The data of a JSON text, with all strings `plain`.

    Raises:
        ValueError: it is not JSON, has a key twice, is nested too deeply, or has a number that
            does not fit a float. The message says which.
    """
    try:
        data = msgspec.json.decode(text)
        _refuse_depth(data)
        # A duplicate key is lost, and with it a colon, unless colons are written as escapes.
        escaped = _ESCAPED.search(text) is not None
        if escaped or text.count(":") != msgspec.json.encode(data).count(b":"):
            json.loads(text, object_pairs_hook=_once)
        if escaped or not text.isascii() or "\x7f" in text:
            data = cleaned(data)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    except (msgspec.DecodeError, UnicodeError) as error:
        raise ValueError(f"not valid JSON: {error}") from None
    return data


def _refuse_depth(data: Any) -> None:
    """Raise ValueError for data too deep for recursive code; iterates by level itself."""
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
        raise ValueError(f"duplicate key {line(twice, 60)!r}")
    return data


def read(path: Path, what: str | None = None) -> str:
    """The text of an untrusted file; `what`: its name in errors.

    Raises:
        OSError: the operating system refuses to read it.
        ResultError: it is not UTF-8, larger than MOST_BYTES, or not a regular file (reading a
            pipe may block forever).
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # reading a folder raises OSError below
        raise ResultError(f"{what or path} is not a regular file")
    with path.open("rb") as file:
        return text_of(file.read(MOST_BYTES + 1), what or str(path))


def text_of(data: bytes, what: str) -> str:
    """Decode the content of an untrusted file.

    Raises:
        ResultError: it is not UTF-8, or larger than MOST_BYTES.
    """
    if len(data) > MOST_BYTES:
        raise ResultError(f"{what} is larger than {MOST_BYTES >> 20} MiB")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ResultError(f"{what} is not UTF-8: {error.reason} at byte {error.start}") from None
