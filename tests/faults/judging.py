"""What a command under a fault must not do: each judge is a function that may find something."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from faults import tree
from faults.tree import Tree
from mcore_compat.core.outcomes import CellOutcome, CheckOutcome


class Column(StrEnum):
    """What is counted, a column each; all of them must be 0."""

    FALSE = "false verdicts"
    LOST = "results lost"
    PROCESSES = "processes left"
    FILES = "files left"
    TRACEBACKS = "tracebacks shown"
    RAW = "raw text"
    HANGS = "hangs"
    ENDS = "wrong ends"
    AFTER = "not well after"


@dataclass(frozen=True)
class Finding:
    """One thing that must not be; `what` has no path of this machine and no time."""

    column: Column
    what: str


@dataclass(frozen=True, kw_only=True)
class Golden:
    """What a command does where nothing disturbs it."""

    code: int
    words: frozenset[str]
    seconds: float
    before: Tree
    after: Tree
    home: frozenset[str]
    """The names in the home afterwards, as far as they are compared."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What there was to see of a command under a fault. None for `code`: it had to be killed.

    `killed`: the fault ends processes, which then have no time to clear away; `stuck`: it hinders
    removing. Either leaves that to the next run.
    """

    code: int | None
    out: str
    err: str
    before: Tree
    after: Tree
    codes: Collection[int] = ()
    left: Collection[str] = ()
    temporary: Collection[str] = ()
    killed: bool = False
    stuck: bool = False
    mute: bool = False
    """The fault took its output away."""
    also: Collection[Golden] = field(default=())
    """What other commands do that ran at the same time."""


RESULTS = "reports/results/"
SHARED = f"{RESULTS}shared/"
VERDICTS = "reports/verdicts.json"
FACTS = ("constraints/", "suite/")
LOCKS = "constraints/locks/"

WORDS = frozenset(str(word) for word in (*CellOutcome, *CheckOutcome))
_WORD = re.compile(rf"(?<![\w-])(?:{'|'.join(sorted(WORDS, key=len, reverse=True))})(?![\w-])")
_TRACEBACK = re.compile(
    r"^(?:Traceback \(most recent|Fatal Python error|Exception ignored in)", re.MULTILINE
)
"""Not of the suite, whose lines are handed on with two spaces before them."""

_RAW = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x9f\u202a-\u202e\u2066-\u2069]")
_PLACE = re.compile(r"(?<![\w.])(?:/[\w.@+-]+){2,}/?")

INFRASTRUCTURE = 3

SHOWN = 3
"""Findings of a column that are told of one injection."""


def words(out: str) -> frozenset[str]:
    """The words of outcomes in what a command printed."""
    return frozenset(_WORD.findall(out))


def judged(seen: Seen, golden: Golden) -> list[Finding]:
    """All that is wrong with how a command ended under a fault."""
    found = [
        *_hang(seen),
        *_end(seen, golden),
        *_output(seen, golden),
        *_processes(seen),
        *_files(seen, golden),
        *_results(seen, golden),
    ]
    return _some(found)


def _some(found: Sequence[Finding]) -> list[Finding]:
    """Of each column a few: of fifty files, three tell as much."""
    kept: list[Finding] = []
    for column in Column:
        own = list(dict.fromkeys(finding for finding in found if finding.column == column))
        kept += own[:SHOWN]
        if len(own) > SHOWN:
            kept.append(Finding(column, f"and {len(own) - SHOWN} more"))
    return kept


def judged_after(seen: Seen, golden: Golden) -> list[Finding]:
    """All that is wrong with the same command once the fault is gone."""
    found: list[str] = []
    if seen.code != golden.code:
        found.append(f"ends with {_code(seen.code)}, not {golden.code}: {_last(seen.err)}")
    elif words(seen.out) != golden.words:
        found.append(f"prints other verdicts: {_differ(words(seen.out), golden.words)}")
    found += [
        f"{name} is not as it should be"
        for name in tree.changed(golden.after, seen.after)
        if not name.startswith(SHARED)
        and not any(tree.same(name, seen.after.get(name), one.after.get(name)) for one in seen.also)
    ]
    found += [f"{name} is left in the temporary folder" for name in seen.temporary]
    found += [f"{what} goes on" for what in seen.left]
    if _TRACEBACK.search(seen.out + seen.err):
        found.append("shows a traceback")
    return [Finding(Column.AFTER, what) for what in found[:SHOWN]]


def _hang(seen: Seen) -> Iterator[Finding]:
    if seen.code is None:
        yield Finding(Column.HANGS, "does not end")


def _end(seen: Seen, golden: Golden) -> Iterator[Finding]:
    code = seen.code
    if code is None or code in (golden.code, INFRASTRUCTURE) or code in seen.codes:
        silent = code in (2, INFRASTRUCTURE) and not seen.mute and not seen.err.strip()
        if silent:
            yield Finding(Column.ENDS, f"ends with {code} and does not say why")
        return
    if code == 1 and _TRACEBACK.search(seen.err):
        return  # an exception of Python's: counted as the traceback that it is
    if code in (0, 1):
        why = f"ends with {code}, undisturbed with {golden.code}"
        yield Finding(Column.FALSE, why)
    else:
        yield Finding(Column.ENDS, f"ends with {_code(code)}: {_last(seen.err)}")


def _output(seen: Seen, golden: Golden) -> Iterator[Finding]:
    both = f"{seen.out}\n{seen.err}"
    if _TRACEBACK.search(both):
        yield Finding(Column.TRACEBACKS, _last(both if seen.err.strip() else seen.out))
    if raw := _RAW.search(both):
        yield Finding(Column.RAW, f"{raw[0]!a} reaches the terminal")
    more = words(seen.out) - golden.words - {str(CellOutcome.ERROR)}
    for one in seen.also:
        more -= one.words
    if seen.code in (0, 1) and more:
        yield Finding(Column.FALSE, f"prints {', '.join(sorted(more))}")


def _processes(seen: Seen) -> Iterator[Finding]:
    for what in sorted(set(seen.left)):
        yield Finding(Column.PROCESSES, f"{what} goes on")


def _files(seen: Seen, golden: Golden) -> Iterator[Finding]:
    """Files that no undisturbed command leaves."""
    if seen.killed or seen.stuck:
        return
    known = {*seen.before, *golden.after, *(name for one in seen.also for name in one.after)}
    for name in sorted({*seen.after} - known):
        if not _is_result(name) and not name.startswith(SHARED):
            yield Finding(Column.FILES, f"{_shape(name)} is left")
    for name in seen.temporary:
        yield Finding(Column.FILES, f"{_shape(name)} is left in the temporary folder")


def _results(seen: Seen, golden: Golden) -> Iterator[Finding]:
    """Each file is as it was or as it becomes undisturbed; all are one or the other."""
    new, old = [], []
    for name in sorted({*seen.before, *golden.after, *seen.after}):
        before, now = seen.before.get(name), seen.after.get(name)
        becomes = [golden.after.get(name), *(one.after.get(name) for one in seen.also)]
        is_old = tree.same(name, before, now)
        is_new = any(tree.same(name, now, one) for one in becomes)
        if is_old or is_new:
            if is_old != is_new:
                (old if is_old else new).append(name)
        elif name.startswith(SHARED):
            yield from _shared(name, seen)
        elif name == VERDICTS and _mixed(now, before, *becomes):
            continue  # some of several cells have ended
        elif _is_result(name):
            yield from _result(name, before, now, becomes[0])
        elif name.startswith(FACTS):
            if before is not None:
                yield Finding(Column.LOST, f"{name} is neither old nor new")
        elif name in seen.before or name in golden.after:
            said = seen.code == golden.code
            column = Column.FALSE if said else Column.FILES
            yield Finding(column, f"{name} is neither old nor new")
    yield from _whole(seen, golden, old, new)
    for name, content in seen.after.items():
        if content != seen.before.get(name) and _RAW.search(content.decode("utf-8", "replace")):
            yield Finding(Column.RAW, f"{_shape(name)} has control characters")


def _whole(seen: Seen, golden: Golden, old: list[str], new: list[str]) -> Iterator[Finding]:
    if seen.killed or seen.also:
        return
    if seen.code == golden.code and old and golden.before == seen.before:
        yield Finding(Column.FALSE, f"ends with {seen.code}, but {old[0]} is as it was")
    published = [name for name in old if not name.startswith(("constraints/", RESULTS))]
    # A result and a lock are whole by themselves: what comes next begins with them.
    if new and published and not all(_is_result(name) or name.startswith(LOCKS) for name in new):
        yield Finding(Column.FILES, f"half is written: {new[0]} is new, {published[0]} is old")


def _shared(name: str, seen: Seen) -> Iterator[Finding]:
    """Values that results keep apart are never less than they were."""
    content = seen.after.get(name)
    if content is not None and not _is_json(content):
        yield Finding(Column.LOST, f"{_shape(name)} is damaged")
        return
    there: set[str] = set()
    for other, content in seen.after.items():
        if other.startswith(SHARED):
            there.update(_json(content) or ())
    missing = {*(_json(seen.before.get(name)) or ())} - there
    if missing:
        yield Finding(Column.LOST, f"{len(missing)} values of {_shape(name)} are lost")


def _mixed(now: bytes | None, *others: bytes | None) -> bool:
    """Whether a file of data has, value by value, what one of the others has."""
    return _within(_json(tree.plain("", now)), [_json(tree.plain("", one)) for one in others])


def _within(value: Any, others: Sequence[Any]) -> bool:
    if value in others or value == CellOutcome.ERROR:  # which is no verdict
        return True
    mappings = [one for one in others if isinstance(one, dict)]
    if not isinstance(value, dict) or not mappings:
        return False
    names = {name for one in mappings for name in one}
    return all(
        name in names and _within(part, [one[name] for one in mappings if name in one])
        for name, part in value.items()
    )


def _is_result(name: str) -> bool:
    return re.fullmatch(rf"{RESULTS}compat-[^/]+/[a-z]+\.[a-z]+\.json", name) is not None


def _result(
    name: str, before: bytes | None, now: bytes | None, becomes: bytes | None
) -> Iterator[Finding]:
    """A result that is neither the former one nor the one of an undisturbed run."""
    cell = name.removeprefix(RESULTS)
    if now is None:
        yield Finding(Column.LOST, f"{cell} is not there any more")
        return
    data, right = _json(now), _json(becomes)
    if data is None:
        yield Finding(Column.LOST, f"{cell} is damaged")
        return
    if before is not None and not data.get("complete"):
        yield Finding(Column.LOST, f"{cell} was complete, and is no longer")
        return
    wrong = _wrong(data, right)
    if wrong:
        yield Finding(Column.FALSE, f"{cell}: {wrong}")
    elif before is not None:
        yield Finding(Column.FALSE, f"{cell} has other contents than of an undisturbed run")


def _wrong(data: Mapping[str, Any], right: Mapping[str, Any] | None) -> str:
    """What a result claims that an undisturbed run does not show."""
    if right is None:
        return f"stored as {data.get('outcome')}, undisturbed there is none"
    rows = [row for row in data.get("checks", ()) if isinstance(row, dict)]
    names = [row.get("check") for row in rows]
    twice = sorted({str(name) for name in names if names.count(name) > 1})
    if twice:
        return f"{twice[0]} has two rows"
    outcomes = {row.get("check"): row.get("outcome") for row in right.get("checks", ())}
    for row in rows:
        of, said = row.get("check"), row.get("outcome")
        if said != outcomes.get(of) and said != "error":
            return f"{of} is {said}, undisturbed {outcomes.get(of)}"
    said = data.get("outcome")
    if data.get("complete") and said != right.get("outcome"):
        return f"stored as {said}, undisturbed {right.get('outcome')}"
    return ""


def _json(content: bytes | None) -> dict[str, Any] | None:
    try:
        data = json.loads(content or b"")
    except (ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


def _is_json(content: bytes) -> bool:
    try:
        json.loads(content)
    except (ValueError, RecursionError):
        return False
    return True


def _code(code: int | None) -> str:
    return "no end" if code is None else str(code)


def _differ(one: Collection[str], other: Collection[str]) -> str:
    more = [f"more: {word}" for word in sorted({*one} - {*other})]
    return ", ".join(more + [f"less: {word}" for word in sorted({*other} - {*one})])


def _last(text: str) -> str:
    """The last line of a text, without what differs from machine to machine."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    line = ascii(lines[-1])[1:-1] if lines else "(nothing)"
    return _shape(_PLACE.sub("…", line))[:160]


def _shape(name: str) -> str:
    """A name without what is random in it, so that equal findings are equal."""
    name = re.sub(r"(?<=\.)[a-z0-9_]{8}(?=$|/)", "XXXXXXXX", name)
    name = re.sub(r"\b(tmp|mcore-compat-(?:\d+\.\d+-)?)[a-z0-9_]{8}\b", r"\1XXXXXXXX", name)
    return re.sub(r"\b[0-9a-f]{12,}\b", "DIGEST", re.sub(r"\b\d{4,}\b", "N", name))
