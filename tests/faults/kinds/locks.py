"""Locks, facts and the matrix, damaged."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import partial

from faults.kinds.registry import add
from faults.trial import Trial
from faults.workshop import GOOD, Launch

READERS = ("run", "report", "show", "list", "matrix plan", "bundle")

Damage = Callable[[bytes], bytes]


def _sub(pattern: bytes, to: bytes) -> Damage:
    return lambda content: re.sub(pattern, to, content, count=1)


DAMAGES: dict[str, tuple[str, Damage]] = {
    "empty": ("is empty", lambda content: b""),
    "cut": ("has only its first half", lambda content: content[: len(content) // 2]),
    "binary": ("is not text", lambda content: bytes(range(256)) * 20),
    "utf-16": ("is in another encoding", lambda content: content.decode().encode("utf-16")),
    "carriage-returns": ("has other line endings", lambda content: content.replace(b"\n", b"\r\n")),
    "control-characters": ("has escape sequences", lambda content: content + b"# \x1b[31m\x07\n"),
    "surrogate": ("is not UTF-8", lambda content: content + b"\xed\xa0\x80\n"),
}

OF_LOCKS: dict[str, tuple[str, Damage]] = {
    "other-version": ("pins another release", _sub(rb"toy-math==1\.0\.0", b"toy-math==1.0.1")),
    "other-hash": (
        "has a hash that is wrong",
        _sub(rb"sha256:[0-9a-f]{64}", b"sha256:" + b"0" * 64),
    ),
    "no-hash": ("has a line without a hash", _sub(rb" *\\?\n? *--hash=sha256:[0-9a-f]{64}", b"")),
    "odd-version": ("pins an invalid version", _sub(rb"==1\.0\.0", b"==one.two")),
    "option": (
        "has an option of pip",
        lambda content: content + b"--index-url http://[::]\n",
    ),
    "line-twice": ("has a line twice", lambda content: content + content),
}

OF_FACTS: dict[str, tuple[str, Damage]] = {
    "deep": ("is very deep", lambda content: b"[" * 100_000),
    "null": ("is null", lambda content: b"null"),
    "no-releases": ("has no releases", lambda content: json.dumps({"releases": []}).encode()),
    "nan": ("has a number that is NaN", _sub(rb'"version": "[^"]*"', b'"version": NaN')),
}


def _damaged(trial: Trial, *, path: str, damage: Damage) -> Iterator[Launch]:
    file = trial.shop.toy.folder / "constraints" / path
    with trial.edited(file, damage(file.read_bytes())):
        yield Launch()


for _of, _path, _more in (
    ("lock", f"locks/compat-{GOOD}.txt", OF_LOCKS),
    ("facts", "releases.json", OF_FACTS),
    ("matrix", "matrix.toml", {}),
    ("tools", "suite-tools.txt", {}),
):
    for _name, (_what, _damage) in {**DAMAGES, **_more}.items():
        if _of == "tools" and _name in ("carriage-returns", "control-characters"):
            continue  # nothing in them changes
        add(
            f"{_of}-{_name}",
            f"the file of {_of} {_what}" if _of != "lock" else f"a lock {_what}",
            ("run", "run broken") if _of == "tools" else READERS,
            partial(_damaged, path=_path, damage=_damage),
            codes=(2,),
            share=0.5,
        )
