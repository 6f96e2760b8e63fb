"""The optional preferences of a lock: version ranges that releases declare in extras, and upload
dates for packages that ModelOpt patches.

They are optional, so they never make a cell unresolvable: the weakest conflicting ones are given
up, and the lock's head says which. Dates are the weakest, because declared metadata is better
information; next come ranges that are declared only for a project's own developers.
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
    """How important a preference is; the least important is given up first."""

    DATE = 0
    OF_DEVELOPERS = 1
    DECLARED = 2


@dataclass(frozen=True, kw_only=True)
class Wish:
    """A preference for the package `name`: with `before` (`2025-05-06`), no file that was uploaded
    on that date or later; else the version range `text`. `words`: its text in the lock's head."""

    name: str
    text: str
    words: str
    strength: Strength
    before: str = ""


def wishes(cell: Cell, matrix: Matrix, releases: Releases, until: str) -> tuple[Wish, ...]:
    """All preferences for a cell's lock; `until` is the date of the cell's lock."""
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
    """For each package that ModelOpt mentions, the date before which its release was uploaded.

    ModelOpt patches these packages from outside and was written for the releases of its time. For a
    package that another axis of the cell also requires, the later of the two dates applies.
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
    """The packages that an axis' release always requires, also undeclared."""
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
    """An answer of the resolver, the preferences it was given, and those that were given up."""

    answer: A
    wishes: tuple[Wish, ...]
    given_up: tuple[Wish, ...]


def as_many_as_can_be(
    every: Sequence[Wish],
    ask: Callable[[Sequence[Wish]], A],
    refusal: Callable[[A], str | None],
) -> Kept[A]:
    """Resolve with as many preferences as can be satisfied together, the strongest first.

    `refusal`: the resolver's text, None if it found a solution. If the first attempt fails, the
    second has no preferences at all, so that an unresolvable cell takes only two attempts.
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
    # Those given up first may not conflict at all: try them again.
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
    """Whether a refusal contains a package's name, not as a part of a longer name."""
    return re.search(rf"(?<![\w.-]){re.escape(package)}(?![\w-])", words) is not None


def told(
    kept: Iterable[Wish], given_up: Iterable[Wish], packages: Collection[str]
) -> tuple[str, str]:
    """Two lines of a lock's head: the dates that apply to its `packages`, and the ranges that
    apply."""
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
