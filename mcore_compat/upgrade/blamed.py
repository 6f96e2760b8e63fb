"""What is to blame for a failure, in words. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from mcore_compat.upgrade.blame import Culprit
from mcore_compat.upgrade.text import Code, Item, Ours, item, names
from mcore_compat.upgrade.trial import BlameReport

MOST = 4
"""Combinations of a kind that are named."""


def items(found: BlameReport, old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[Item]:
    """A line for each set that is to blame, then what is known of the others, and what would tell
    more."""
    for culprit in found.blame.culprits:
        yield item(*_culprit(culprit, old, new), *_where(found, culprit.axes), level=1)
        for text, open_ in (("not asked", culprit.unknown), ("cannot be asked", culprit.silent)):
            if open_:
                told = Ours(f"{_smaller(len(open_))} {text}: ")
                yield item(told, *_combinations(open_, found.why), level=2)
    alone = [axes for axes in found.blame.innocent if len(axes) == 1]
    for axes in alone:
        yield item(Ours("not by itself: "), Code(axes[0]), *_where(found, axes), level=1)
    if not found.blame.whole:
        yield item(Ours("others may break it as well: not all was asked"), level=1)
    if found.open:
        yield item(*_price(found), level=1)


def _culprit(culprit: Culprit, old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    several = len(culprit.axes) > 1
    yield Ours("to blame: " if culprit.proved or not several else "to blame, or some of them: ")
    for place, axis in enumerate(culprit.axes):
        if place:
            yield Ours(", ")
        yield Code(f"{axis} {old[axis]} → {new[axis]}")
    if culprit.proved:
        yield Ours(", only together" if several else ", alone")


def _where(found: BlameReport, axes: Sequence[str]) -> Iterator[str]:
    cell = found.cells.get(tuple(axes))
    if cell is not None:
        yield Ours(" (")
        yield Code(cell)
        yield Ours(")")


def _smaller(count: int) -> str:
    return "1 smaller combination" if count == 1 else f"{count} smaller combinations"


def _combinations(
    found: Sequence[Sequence[str]], why: Mapping[tuple[str, ...], str]
) -> Iterator[str]:
    """Those that cannot be asked for the same reason together."""
    reasons: dict[str, list[str]] = {}
    for axes in found:
        reasons.setdefault(why.get(tuple(axes), ""), []).append(" + ".join(axes))
    for place, (reason, same) in enumerate(reasons.items()):
        if place:
            yield Ours("; ")
        yield from names(same, MOST)
        if reason:
            yield Ours(": ")
            yield reason[:200]


def _price(found: BlameReport) -> Iterator[str]:
    minutes = max(1, round(found.seconds * len(found.open) / 60))
    yield Code("--blame")
    count = len(found.open)
    cells = "1 cell" if count == 1 else f"at most {count} cells"
    yield Ours(f" would run {cells}, about {minutes} min without builds and downloads; ")
    yield Ours("one of them: ")
    yield Code(found.open[0])
