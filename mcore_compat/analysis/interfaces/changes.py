"""Stage results → interface changes: changes between releases in the interfaces that callers use.
Pure.

Each release of a package is compared with the next one that has records. A change breaks callers if
the signatures show it: the older release accepts a call that the newer one refuses, or binds
differently.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from packaging.version import Version

from mcore_compat.analysis.interfaces import recorded, signatures, words
from mcore_compat.analysis.interfaces.recorded import History, ReleaseSighting, Structure, Subject
from mcore_compat.analysis.interfaces.signatures import InterfaceDifference
from mcore_compat.core.releases import Releases
from mcore_compat.results.result import Result

_ALIKE = 0.5
"""The least share of common parameter names of two functions that count as the same."""


@dataclass(frozen=True, kw_only=True)
class InterfaceChange:
    """One difference between two releases of a subject's package.

    `not_tested`: releases between the two without any records; `not_recorded`: tested releases
    between the two without a record of the subject.
    """

    subject: Subject
    before: str
    after: str
    what: InterfaceDifference
    not_tested: tuple[str, ...] = ()
    not_recorded: tuple[str, ...] = ()


def changes(results: Sequence[Result], releases: Releases) -> tuple[InterfaceChange, ...]:
    """Return all changes between releases, sorted by package, releases and name."""
    return of_history(recorded.history(results), releases)


def of_history(history: History, releases: Releases) -> tuple[InterfaceChange, ...]:
    """Do the same as `changes` for records, or a package's part of them."""
    tested: dict[str, set[str]] = {}
    for subject, by_release in history.items():
        tested.setdefault(subject.package, set()).update(by_release)
    rows: list[InterfaceChange] = []
    for subject, by_release in history.items():
        order = sorted(by_release, key=Version)
        for version in order:
            rows += [
                InterfaceChange(subject=subject, before=version, after=version, what=what)
                for what in _disagreement(by_release[version])
            ]
        known = [r.version for r in releases.of(subject.package)]
        for before, after in pairwise(order):
            other = tested[subject.package]
            not_tested = _between(set(known) - other, before, after)
            not_recorded = _between(other, before, after)
            rows += [
                InterfaceChange(
                    subject=subject, before=before, after=after, what=what,
                    not_tested=not_tested, not_recorded=not_recorded,
                )
                for what in _differences(history, subject, before, after)
            ]  # fmt: skip
    return tuple(sorted(_without_moved(rows), key=_order))


def _order(change: InterfaceChange) -> tuple[Any, ...]:
    what = change.what
    versions = Version(change.before), Version(change.after)
    return change.subject.package, *versions, change.subject.name, what.kind, what.name or ""


def _between(versions: Iterable[str], before: str, after: str) -> tuple[str, ...]:
    low, high = Version(before), Version(after)
    return tuple(sorted((v for v in versions if low < Version(v) < high), key=Version))


def _disagreement(seen: ReleaseSighting) -> Iterator[InterfaceDifference]:
    """Yield a difference for each two values that cells of one release recorded."""
    values = sorted(seen.values, key=_text)
    for old, new in pairwise(values):
        cells = [", ".join(sorted(seen.values[value])) for value in (old, new)]
        yield InterfaceDifference(
            kind="recorded differently",
            old=_text(old),
            new=_text(new),
            why=f"the first in {cells[0]}, the second in {cells[1]}",
            minor=all(d.minor for d in _compare(old, new)),
        )


def _text(value: str | Structure) -> str:
    return (
        value
        if isinstance(value, str)
        else "; ".join(f"{place}: {' or '.join(names)}" for place, names in value)
    )


def _differences(
    history: History, subject: Subject, before: str, after: str
) -> Iterator[InterfaceDifference]:
    old, new = history[subject][before], history[subject][after]
    if not old.values and new.values:
        yield InterfaceDifference(kind="added", new=_text(min(new.values, key=_text)))
    elif old.values and not new.values:
        yield from _gone(history, subject, before, after)
    else:
        yield from _common(old, new)


def _common(old: ReleaseSighting, new: ReleaseSighting) -> tuple[InterfaceDifference, ...]:
    """Return the differences that all pairs of the two releases' values share."""
    pairs = [
        _compare(a, b) for a in sorted(old.values, key=_text) for b in sorted(new.values, key=_text)
    ]
    return tuple(d for d in pairs[0] if all(d in other for other in pairs)) if pairs else ()


def _compare(old: str | Structure, new: str | Structure) -> tuple[InterfaceDifference, ...]:
    if isinstance(old, str) and isinstance(new, str):
        return signatures.compare(old, new)
    if isinstance(old, tuple) and isinstance(new, tuple):
        return tuple(_spec_differences(dict(old), dict(new)))
    return ()


def _spec_differences(
    old: Mapping[str, tuple[str, ...]], new: Mapping[str, tuple[str, ...]]
) -> Iterator[InterfaceDifference]:
    """Yield the differences between two specs; a place is named by its path, the root by an empty
    one."""
    for place in sorted({*old, *new}):
        before, after = old.get(place, ()), new.get(place, ())
        gone = " or ".join(name for name in before if name not in after) or None
        come = " or ".join(name for name in after if name not in before) or None
        if not before:
            yield InterfaceDifference(kind="submodule added", name=place, new=come)
        elif not after:
            why = "code that reaches into the spec does not find it"
            yield InterfaceDifference(
                kind="submodule removed", name=place, old=gone, breaking=True, why=why
            )
        elif before != after:
            why = "code that looks for the old class does not find it" if gone else ""
            yield InterfaceDifference(
                kind="class changed", name=place, old=gone, new=come, breaking=bool(gone), why=why
            )


def _gone(
    history: History, subject: Subject, before: str, after: str
) -> Iterator[InterfaceDifference]:
    """Yield the differences for a subject that the newer release lacks: moved, or removed."""
    old, new = history[subject][before], history[subject][after]
    text = min(old.values, key=_text)
    users, guarded = new.users or old.users, new.guarded or old.guarded
    by_name = sorted(guarded if guarded and not users else users)
    why = f"{by_name[0]} imports it" if by_name else "callers do not find it"
    breaking = bool(users) or not guarded
    if not breaking:
        why += ", behind a guard"
    place = _moved_to(history, subject, before, after)
    if place is None:
        yield InterfaceDifference(kind="removed", old=_text(text), breaking=breaking, why=why)
        return
    there = Subject(package=subject.package, name=place)
    yield InterfaceDifference(kind="moved", old=subject.name, new=place, breaking=breaking, why=why)
    yield from _common(old, history[there][after])


def _moved_to(history: History, subject: Subject, before: str, after: str) -> str | None:
    """Return the place in another module where the newer release has a function of the same name
    with similar parameters; one that is new there comes first.
    """
    _, _, attribute = subject.name.partition(":")
    texts = history[subject][before].values
    places = []
    for other, by_release in history.items():
        if other == subject or not attribute or other.package != subject.package:
            continue
        there = by_release.get(after, ReleaseSighting()).values
        if other.name.endswith(f":{attribute}") and _alike(texts, there):
            was_there = bool(by_release.get(before, ReleaseSighting()).values)
            places.append((was_there, other.name))
    return min(places)[1] if places else None


def _alike(old: Mapping[str | Structure, Any], new: Mapping[str | Structure, Any]) -> bool:
    pairs = [(_names(a), _names(b)) for a in old for b in new]
    return any(a == b or len(a & b) >= _ALIKE * len(a | b) for a, b in pairs)


def _names(value: str | Structure) -> set[str]:
    read = signatures.parse(value) if isinstance(value, str) else None
    return set(read.by_name) if read else {_text(value)}


def _without_moved(rows: Sequence[InterfaceChange]) -> Iterator[InterfaceChange]:
    """Yield all changes except additions that are the target of a move."""
    moved = {(c.subject.package, c.what.new, c.after) for c in rows if c.what.kind == "moved"}
    for change in rows:
        key = (change.subject.package, change.subject.name, change.after)
        if change.what.kind != "added" or key not in moved:
            yield change


def data(rows: Sequence[InterfaceChange]) -> list[dict[str, Any]]:
    """Return the changes as JSON data, one row each."""
    return [
        {
            "package": change.subject.package,
            "subject": change.subject.name,
            "before": change.before,
            "after": change.after,
            "not_tested": list(change.not_tested),
            "not_recorded": list(change.not_recorded),
            **asdict(change.what),
        }
        for change in rows
    ]


def rows(changes: Sequence[InterfaceChange]) -> Iterator[tuple[str, str, str, str, str]]:
    """Yield `(from, to, names, what changed, whether callers break)`: one row for all subjects with
    the same change between the same two releases. Changed annotations count only alone."""
    by_subject: dict[tuple[str, str, str], list[InterfaceChange]] = {}
    for change in changes:
        key = change.before, change.after, change.subject.name
        by_subject.setdefault(key, []).append(change)
    alike: dict[tuple[str, str, str, str], list[str]] = {}
    for (before, after, name), of_subject in by_subject.items():
        what = [c.what for c in of_subject if not c.what.minor]
        what = what or [c.what for c in of_subject if c.what.kind == "annotation changed"]
        gap = ", ".join(of_subject[0].not_recorded)
        text = words.summary(what) + (f" (nothing known of {gap})" if gap else "")
        if what:
            alike.setdefault((before, after, text, words.breaks(what)), []).append(name)
    for (before, after, text, breaks), names in alike.items():
        yield before, after, ", ".join(names), text, breaks
