"""Result files that are damaged, hostile or huge: stored ones, and those that are brought back."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from faults.kinds.registry import add
from faults.trial import Trial
from faults.workshop import BAD, GOOD, NEW, READS, Launch

Data = dict[str, Any]

ESCAPES = "\x1b]0;title\x07\x1b[31mred\u202egnp.exe\u2066"
MARKUP = "<script>alert(1)</script>|`x`[a](javascript:alert(1))\n\n# heading"


def rows(data: Data) -> list[Data]:
    """The checks of a stored result or the events of one that is brought back."""
    found = data["checks"] if "checks" in data else data["events"]
    # Packed rows are lists, which a fault of a check's fields does not reach.
    return [row for row in found if isinstance(row, dict) and "outcome" in row]


def dumped(change: Callable[[Data], object]) -> Callable[[bytes], bytes]:
    """A change of the data as one of the text."""

    def changed(content: bytes) -> bytes:
        data: Data = json.loads(content)
        change(data)
        return json.dumps(data, indent=1).encode()

    return changed


def _keep_one(data: Data) -> None:
    name = "checks" if "checks" in data else "events"
    first = rows(data)[0]
    data[name] = [row for row in data[name] if "outcome" not in row or row is first]


def _drop_one(data: Data) -> None:
    name = "checks" if "checks" in data else "events"
    data[name].remove(rows(data)[-1])


def _double_one(data: Data) -> None:
    name = "checks" if "checks" in data else "events"
    data[name].insert(data[name].index(rows(data)[1]), dict(rows(data)[1], outcome="works"))


def _make_up(data: Data) -> None:
    name = "checks" if "checks" in data else "events"
    row = dict(rows(data)[0], check="made-up[nobody]", kind="made-up", family="nobody")
    data[name].insert(data[name].index(rows(data)[0]), row)


def _contradict(data: Data) -> None:
    if "outcome" in data:
        data["outcome"] = "incompatible" if data["outcome"] == "compatible" else "compatible"
    else:
        data["events"].pop()  # its end, and it says that it is complete


def _raw(data: Data) -> None:
    for row in rows(data):
        row["reason"] = ESCAPES
    rows(data)[0]["kind"] = f"import{ESCAPES}"
    for where in (data, *(row for row in data.get("events", ()) if "installed" in row)):
        where.get("installed", {})[f"evil{ESCAPES}\ninjected==1.0"] = f"1.0{ESCAPES}"


def _markup(data: Data) -> None:
    for row in rows(data):
        row["reason"] = MARKUP
        row["outcome"] = row["outcome"]


def _unknown_field(data: Data) -> None:
    data["made-up"] = 1


def _unknown_outcome(data: Data) -> None:
    rows(data)[0]["outcome"] = "fine"


def _wrong_types(data: Data) -> None:
    data["cell"], data["lock"] = ["a", "list"], 7


def _negative(data: Data) -> None:
    rows(data)[0]["seconds"] = -1e308


def _other_cell(data: Data) -> None:
    data["cell"] = f"compat-{BAD}" if data["cell"] != f"compat-{BAD}" else f"compat-{GOOD}"


def _other_suite(data: Data) -> None:
    data["suite"] = "0" * 64


def _other_lock(data: Data) -> None:
    data["lock"] = "0" * 64


def _path_as_name(data: Data) -> None:
    data["cell"] = "compat-../../../../etc/passwd"


def _surrogate(data: Data) -> None:
    rows(data)[0]["reason"] = "\ud800"


def _huge(content: bytes) -> bytes:
    data: Data = json.loads(content)
    rows(data)[0]["details"] = {"text": "x" * 50_000_000}
    return json.dumps(data).encode()


def _many(data: Data) -> None:
    name = "checks" if "checks" in data else "events"
    row = rows(data)[0]
    data[name] += [dict(row, check=f"import[{number}]") for number in range(20_000)]


def _seconds(word: bytes) -> Callable[[bytes], bytes]:
    def changed(content: bytes) -> bytes:
        data: Data = json.loads(content)
        rows(data)[0]["seconds"] = 424242.5
        return json.dumps(data).encode().replace(b"424242.5", word)

    return changed


def _duplicate(content: bytes) -> bytes:
    return content.replace(b"{", b'{"outcome": "incompatible", "complete": true, "cell": "x",', 1)


DAMAGES: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "empty": ("is empty", lambda content: b""),
    "cut": ("has only its first half", lambda content: content[: len(content) // 2]),
    "flipped": (
        "has a flipped byte",
        lambda content: content.replace(b'"works"', b'"wnrks"', 1),
    ),
    "binary": ("is not text", lambda content: bytes(range(256)) * 20),
    "utf-16": ("is in another encoding", lambda content: content.decode().encode("utf-16")),
    "bom": ("begins with a byte order mark", lambda content: b"\xef\xbb\xbf" + content),
    "null": ("is null", lambda content: b"null\n"),
    "list": ("is a list", lambda content: b"[]\n"),
    "deep": ("is a hundred thousand lists deep", lambda content: b"[" * 100_000),
    "deep-inside": (
        "has a value that is very deep",
        lambda content: content.replace(b"null", b"[" * 5000 + b"]" * 5000, 1),
    ),
    "duplicate-keys": ("has keys twice", _duplicate),
    "nan": ("has seconds that are NaN", _seconds(b"NaN")),
    "infinite": ("has 1e999 seconds", _seconds(b"1e999")),
    "negative": ("has negative seconds", dumped(_negative)),
    "huge": ("has 50 MB", _huge),
    "many-checks": ("has 20,000 checks", dumped(_many)),
    "other-cell": ("names another cell", dumped(_other_cell)),
    "other-suite": ("is of another suite", dumped(_other_suite)),
    "other-lock": ("is of another lock", dumped(_other_lock)),
    "path": ("names a path as its cell", dumped(_path_as_name)),
    "contradicts": ("contradicts its checks", dumped(_contradict)),
    "one-check": ("has one check alone", dumped(_keep_one)),
    "less": ("lacks a check", dumped(_drop_one)),
    "check-twice": ("has a check twice", dumped(_double_one)),
    "made-up": ("has a check that the suite does not have", dumped(_make_up)),
    "control-characters": ("has escape sequences and bidi controls", dumped(_raw)),
    "markup": ("has HTML and Markdown", dumped(_markup)),
    "surrogate": ("has half a character", dumped(_surrogate)),
    "unknown-field": ("has a field that is not known", dumped(_unknown_field)),
    "unknown-outcome": ("has an invalid outcome", dumped(_unknown_outcome)),
    "wrong-types": ("has values of other types", dumped(_wrong_types)),
}

STALE = frozenset({"other-suite", "other-lock"})
"""What is right of another time: such a result counts as outdated, which is no fault of it."""

READERS = ("report", *READS)


def _stored(trial: Trial, *, damage: Callable[[bytes], bytes]) -> Iterator[Launch]:
    path = trial.shop.result(GOOD)
    with trial.edited(path, damage(path.read_bytes())):
        yield Launch()


def _brought(trial: Trial, *, damage: Callable[[bytes], bytes]) -> Iterator[Launch]:
    path = trial.shop.collected / f"compat-{NEW}" / "main.host.json"
    with trial.edited(path, damage(path.read_bytes())):
        yield Launch()


for _name, (_what, _damage) in DAMAGES.items():
    if _name not in STALE:
        add(
            f"result-{_name}",
            f"a stored result {_what}",
            (*READERS, "run"),
            partial(_stored, damage=_damage),
            codes=(2,),
            share=0.6,
        )
    add(
        f"collected-{_name}",
        f"a result that is brought back {_what}",
        ("collect",),
        partial(_brought, damage=_damage),
        codes=(2,),
        share=0.3,
    )


def _instead(trial: Trial, *, make: Callable[[Path], object]) -> Iterator[Launch]:
    with trial.instead(trial.shop.result(GOOD), make):
        yield Launch()


def _damaged(trial: Trial, *, name: str) -> Iterator[Launch]:
    path = next((trial.shop.toy.folder / "reports").glob(name))
    damages = [DAMAGES[word][1] for word in ("empty", "cut", "binary", "null", "list", "deep")]
    with trial.edited(path, trial.random.choice(damages)(path.read_bytes())):
        yield Launch()


for _name, _what, _make in (
    ("folder", "a folder", Path.mkdir),
    ("pipe", "a pipe that nobody writes to", os.mkfifo),
    ("loop", "a link to itself", lambda path: path.symlink_to(path.name)),
    ("dangling", "a link to nowhere", lambda path: path.symlink_to("nowhere")),
    ("device", "a link to /dev/zero", lambda path: path.symlink_to("/dev/full")),
):
    add(
        f"result-is-a-{_name}",
        f"in place of a stored result stands {_what}",
        (*READERS, "run"),
        partial(_instead, make=_make),
        codes=(2,),
        share=0.6,
    )
for _name, _path in (
    ("verdicts", "verdicts.json"),
    ("compatibility", "compatibility.json"),
    ("shared", "results/shared/*.json"),
):
    add(
        f"published-{_name}-damaged",
        f"reports/{_path} is damaged",
        (*READERS, "run"),
        partial(_damaged, name=_path),
        codes=(2,),
    )
