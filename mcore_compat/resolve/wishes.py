"""What a lock keeps to wherever it can: ranges that releases declare in extras nobody asked for,
and the time of packages that ModelOpt reaches into.

Nobody asked for either, so neither makes a cell unresolvable: the weakest that are in the way are
given up, and the lock's head says which. Dates are weakest: what metadata says comes before what
the calendar says. Then the ranges that only a project's own developers declare.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Generic, TypeVar

from mcore_compat.core.cells import Cell, is_axis
from mcore_compat.core.combinations import requirement, undeclared_for
from mcore_compat.core.extras import declared_ranges, named
from mcore_compat.core.matrix import Matrix
from mcore_compat.core.releases import Releases
from mcore_compat.resolve.dates import settled

MODELOPT = "nvidia-modelopt"


class Strength(IntEnum):
    """How much it takes to give a wish up; the least goes first."""

    DATE = 0
    OF_DEVELOPERS = 1
    DECLARED = 2


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What a lock keeps to for the package `name`: with `before` (`2025-05-06`), no file that was
    uploaded on that date or later; else the range `text`. `words` are those of the lock's head."""

    name: str
    text: str
    words: str
    strength: Strength
    before: str = ""


def wishes(cell: Cell, matrix: Matrix, releases: Releases, until: str) -> tuple[Wish, ...]:
    """Everything that a cell's lock keeps to where it can; `until` is the date of the cell."""
    asked = {requirement(text).name for text in cell.further}
    ranges = [
        Wish(
            name=declared.name,
            text=declared.text,
            words=declared.words(),
            strength=Strength.OF_DEVELOPERS if declared.of_developers else Strength.DECLARED,
        )
        for declared in declared_ranges(cell, releases)
        if declared.name not in asked
    ]
    dates = [
        Wish(name=name, text=date, words=f"{name} {date}", strength=Strength.DATE, before=date)
        for name, date in sorted(dates_of(cell, matrix, releases).items())
        if date < until and name not in asked
    ]
    return (*ranges, *dates)


def dates_of(cell: Cell, matrix: Matrix, releases: Releases) -> Mapping[str, str]:
    """By package that ModelOpt names: the date before which its release must have been uploaded.

    ModelOpt patches these packages from outside and knew those of its own time. What another axis
    of the cell requires as well is of the younger of the two times.
    """
    required = {MODELOPT: _required(cell, MODELOPT, matrix, releases)}
    modelopt = releases.get(MODELOPT, cell.modelopt)
    if not modelopt.uploaded:
        return {}
    times = {name: modelopt.uploaded for name, _ in named(modelopt.requires, cell.python)}
    for axis in ("megatron-core", "transformer-engine", "torch"):
        required[axis] = _required(cell, axis, matrix, releases)
        uploaded = releases.get(axis, cell.pins[axis]).uploaded
        for name in required[axis] & set(times):
            times[name] = max(times[name], uploaded)
    return {name: settled(uploaded) for name, uploaded in times.items()}


def _required(cell: Cell, axis: str, matrix: Matrix, releases: Releases) -> set[str]:
    """What an axis' release requires whatever is asked for, its undeclared requirements too."""
    release = releases.get(axis, cell.pins[axis])
    names = {name for name, always in named(release.requires, cell.python) if always}
    undeclared = [rule for rule in undeclared_for(cell, matrix) if rule.of == axis]
    texts = [text for rule in undeclared for text in rule.requires]
    if axis == "transformer-engine":
        for part in matrix.source_only:
            if part.package == "transformer-engine-torch" and part.when.contains(cell.te):
                texts += part.requires
    return names | {name for text in texts if not is_axis(name := requirement(text).name)}


A = TypeVar("A")


@dataclass(frozen=True, kw_only=True)
class Kept(Generic[A]):
    """What was resolved, under which wishes, and which were given up."""

    answer: A
    wishes: tuple[Wish, ...]
    given_up: tuple[Wish, ...]


def as_many_as_can_be(
    every: Sequence[Wish],
    ask: Callable[[Sequence[Wish]], A],
    refusal: Callable[[A], str | None],
) -> Kept[A]:
    """Resolve under as many wishes as can be met together, the strongest first.

    `refusal`: the resolver's words, None where it did not refuse. Without any wish it is asked
    early: what cannot be resolved at all is not tried once for each.
    """
    answer = ask(every)
    if refusal(answer) is None or not every:
        return Kept(answer=answer, wishes=tuple(every), given_up=())
    bare = ask(())
    if refusal(bare) is not None:
        return Kept(answer=bare, wishes=(), given_up=tuple(every))
    kept, given_up = list(every), list[Wish]()
    while (words := refusal(answer)) is not None:
        suspects = [wish for wish in kept if _names(words, wish.name)] or kept
        weakest = min(suspects, key=lambda wish: wish.strength)
        kept.remove(weakest)
        given_up.append(weakest)
        answer = ask(kept) if kept else bare
    # What went first may not have been in the way at all.
    for wish in sorted(given_up[:-1], key=lambda wish: -wish.strength):
        again = ask([*kept, wish])
        if refusal(again) is None:
            answer = again
            kept.append(wish)
            given_up.remove(wish)
    order = {wish: place for place, wish in enumerate(every)}
    return Kept(
        answer=answer,
        wishes=tuple(sorted(kept, key=order.__getitem__)),
        given_up=tuple(sorted(given_up, key=order.__getitem__)),
    )


def _names(words: str, package: str) -> bool:
    """Whether a refusal names a package; not as a part of a longer name."""
    return re.search(rf"(?<![\w.-]){re.escape(package)}(?![\w-])", words) is not None


def told(
    kept: Iterable[Wish], given_up: Iterable[Wish], packages: Collection[str]
) -> tuple[str, str]:
    """The two lines of a lock's head: of which dates `packages`, those of the lock, are, and which
    ranges are kept to."""
    by_date: dict[str, list[str]] = {}
    for wish in kept:
        if wish.before and wish.name in packages:
            by_date.setdefault(wish.before, []).append(wish.name)
    dates = "; ".join(f"{date} {', '.join(names)}" for date, names in sorted(by_date.items()))
    ranges = [wish.words for wish in given_up if not wish.before]
    let_go = [wish.name for wish in given_up if wish.before and wish.name in packages]
    if let_go:
        dates = f"{dates or 'none'}; not kept to, as what is declared admits no release of that "
        dates += f"time: {', '.join(let_go)}"
    if ranges:
        return dates or "none", f"kept to, but for what contradicts others: {'; '.join(ranges)}"
    return dates or "none", "kept to"
