"""Evidence in a compact form: what many cells recorded alike is kept once, by its digest.

In a file of evidence, a large value of a check's `details`, and a long traceback, is
`{"shared": DIGEST}`; the value itself is `reports/evidence/shared/DIGEST.json`, named by the
first 16 hex digits of the SHA-256 of that file's bytes.
"""

from __future__ import annotations

import functools
import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mcore_compat import files
from mcore_compat.errors import EvidenceError

FOLDER = "shared"
"""Beside the cells' folders."""

LEAST = 400
"""Characters from which on a value is kept apart; measured: smaller ones save nothing more."""

DIGITS = 16
_DIGEST = re.compile(rf"[0-9a-f]{{{DIGITS}}}")
KEY = "shared"

YOUNG_S = 3600.0
"""A value that no evidence names is left alone so long: its evidence may be about to be written."""


def name_of(text: str) -> str:
    """The digest that a value's text is kept under."""
    return files.sha256_bytes(text.encode())[:DIGITS]


def compact(row: Mapping[str, Any], into: dict[str, str]) -> dict[str, Any]:
    """A check's row with the large values of its `details` and a long traceback replaced; their
    texts, by digest, are put `into`."""
    found = {**row, "details": {k: _apart(v, into) for k, v in row["details"].items()}}
    if row["failure"]:
        traceback = _apart(row["failure"]["traceback"], into)
        found["failure"] = {**row["failure"], "traceback": traceback}
    return found


def _apart(value: Any, into: dict[str, str]) -> Any:
    large = isinstance(value, (dict, list, str)) and len(json.dumps(value)) >= LEAST
    if not large and not digest_in(value):  # what only looks like a digest is kept apart too
        return value
    text = files.dump_json(value)
    into[name_of(text)] = text
    return {KEY: name_of(text)}


def expand(row: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A check's row whole again, with the values kept below `folder`, the folder of all evidence.

    Raises:
        EvidenceError: a value is not there, or is not what its digest says.
    """
    details = {k: _whole(v, folder) if type(v) is dict else v for k, v in row["details"].items()}
    found = {**row, "details": details}
    if row["failure"]:
        traceback = _whole(row["failure"]["traceback"], folder)
        found["failure"] = {**row["failure"], "traceback": traceback}
    return found


def _whole(value: Any, folder: Path) -> Any:
    digest = digest_in(value)
    return read(str(folder), digest) if digest else value


def without(row: Mapping[str, Any]) -> dict[str, Any]:
    """A check's row as far as its own file has it: a traceback that is kept apart is empty."""
    failure = row["failure"]
    if failure and digest_in(failure["traceback"]):
        failure = {**failure, "traceback": ""}
    return {**row, "failure": failure}


def digest_in(value: Any) -> str | None:
    """The digest that stands in a value's place, None where the value itself is there."""
    if isinstance(value, dict) and len(value) == 1 and KEY in value:
        digest = value[KEY]
        if isinstance(digest, str) and _DIGEST.fullmatch(digest):
            return digest
    return None


def named(checks: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """The digests that the checks of one file of evidence name."""
    for row in checks:
        values = list(row["details"].values())
        values += [row["failure"]["traceback"]] if row["failure"] else []
        yield from filter(None, map(digest_in, values))


@functools.cache
def read(folder: str, digest: str) -> Any:
    """A value that was kept apart below `folder`; the same object each time, not to be changed.

    Raises:
        EvidenceError: it is not there, or is not what its digest says.
    """
    path = Path(folder) / FOLDER / f"{digest}.json"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise EvidenceError(f"{FOLDER}/{path.name} cannot be read ({error})") from None
    if name_of(text) != path.stem:
        raise EvidenceError(f"{FOLDER}/{path.name} is corrupt: its digest is {name_of(text)}")
    return json.loads(text)


def write(texts: Mapping[str, str], folder: Path) -> None:
    """Keep values below `folder`; what is there and right is not written again."""
    for digest, text in sorted(texts.items()):
        path = folder / FOLDER / f"{digest}.json"
        try:
            if path.read_text(encoding="utf-8") == text:
                continue
        except (OSError, UnicodeDecodeError):
            pass  # not there, or not readable: written below
        files.write_text(path, text, durable=False)
        read.cache_clear()


def unnamed(folder: Path) -> list[Path]:
    """The values below `folder` that no file of evidence names; sorted.

    Raises:
        EvidenceError: a file of evidence cannot be read, so that nothing can be said.
    """
    wanted: set[str] = set()
    for path in folder.glob("compat-*/*.json"):
        try:
            wanted.update(named(json.loads(path.read_text(encoding="utf-8"))["checks"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise EvidenceError(f"{path.parent.name}/{path.name} is corrupt ({error!r})") from None
    return sorted(p for p in (folder / FOLDER).glob("*.json") if p.stem not in wanted)


def tidy(folder: Path) -> int:
    """Remove the values that no evidence names and that are not young; how many."""
    old = [p for p in unnamed(folder) if time.time() - p.stat().st_mtime > YOUNG_S]
    for path in old:
        path.unlink(missing_ok=True)
    return len(old)
