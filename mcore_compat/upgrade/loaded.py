"""How the checkpoints of FROM come over into TO, in words. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mcore_compat.exchange.report import HEADS
from mcore_compat.upgrade.answer import UpgradeAnswer, exchange_command
from mcore_compat.upgrade.checkpoints import NOT_TESTED, Load, Place, Route
from mcore_compat.upgrade.text import Code, Item, Ours, Section, item, names


def section(made: UpgradeAnswer) -> Section | None:
    """None where FROM came to nothing that saves, or TO to nothing that loads."""
    found = made.checkpoints
    if found is None or not made.origin.outcomes() or not made.target.outcomes():
        return None
    title = (Ours("Do checkpoints of FROM load in TO?"),)
    command = exchange_command(made.origin.name, made.target.name)
    if found.state == NOT_TESTED:
        body: list[Item] = [item(Ours("not tested: "), Code(command))]
        return Section(title=title, body=tuple(body))
    body = [item(Ours("taken "), f"{found.taken[:10]}, {found.state}")]
    for way in HEADS:
        mine = [r for r in found.routes if r.way == way]
        body += _way(way, mine) if mine else []
    if found.of(Load.UNTESTED) or found.of(Load.OPEN):
        body.append(item(Ours("what is not tested: "), Code(command)))
    if found.of(Load.THROUGH):
        text = "Of a way through others each step was tested by itself, with a checkpoint that the "
        text += "cell before it made anew."
        body.append(item(Ours(text)))
    return Section(title=title, body=tuple(body))


def _way(way: str, mine: Sequence[Route]) -> Iterator[Item]:
    yield item(Code(way), Ours(": "), HEADS[way])
    for load in Load:
        same = [r for r in mine if r.load is load]
        if load in (Load.WORKS, Load.UNTESTED) and same:
            text = "load" if load is Load.WORKS else "not tested"
            yield item(Ours(f"{text}: "), *names([r.family for r in same]), level=1)
        elif same:
            for route in same:
                accepted = ", which may be lost" if route.accepted else ""
                head = (Code(route.family), Ours(f": {load.value}{accepted}"))
                yield item(*head, *_chain(route.chain), Ours("; "), route.why, level=1)


def _chain(chain: Sequence[Place]) -> Iterator[str]:
    for place, (cell, kind) in enumerate(chain):
        yield Ours(" → " if place else ": ")
        yield Code(cell)
        yield Ours(f" ({kind})")
