"""An answer as a document for people. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mcore_compat.results import verdict
from mcore_compat.results.comparison import Change
from mcore_compat.upgrade import blame, checkpoints
from mcore_compat.upgrade.answer import UpgradeAnswer as Answer
from mcore_compat.upgrade.answer import UpgradeReason as Reason
from mcore_compat.upgrade.answer import Word
from mcore_compat.upgrade.checkpoints import NOT_TESTED, Load
from mcore_compat.upgrade.interfaces import Interface
from mcore_compat.upgrade.losses import Loss
from mcore_compat.upgrade.numbers import Numbers
from mcore_compat.upgrade.sides import Side
from mcore_compat.upgrade.text import Code, Item, Ours, Section, Table, item, names

STYLES = {Word.GO: "bold green", Word.CHANGES: "bold yellow", Word.NO: "bold red"}
"""Beside the word, which says the same."""

RULES = 2
"""Rules that are shown of one failure."""

FINE = "all that works in FROM works in TO, its checkpoints load there, no known call breaks"

CONSTRAINTS = "reports/constraints"


def sections(made: Answer) -> tuple[Section, ...]:
    """The whole document, the answer first."""
    return tuple(
        section
        for section in (
            _head(made),
            _cells(made),
            _losses(made),
            _outcomes(made),
            checkpoints.section(made.checkpoints, made.origin, made.target),
            _pins(made),
            _interfaces(made.interfaces),
            _numbers(made),
            _instead(made),
        )
        if section is not None
    )


def _head(made: Answer) -> Section:
    title = (
        *(Ours("Upgrade "), Code(made.origin.name), Ours(" → "), Code(made.target.name)),
        *(Ours(": "), Ours(made.word.value)),
    )
    body = []
    if made.word is Word.GO and not made.losses and _all_load(made):
        body.append(item(Ours(FINE)))
    for word, text in (
        (Word.NO, "speaks against it"),
        (Word.CHANGES, "to be done or tested first"),
        (Word.GO, "worth knowing"),
    ):
        reasons = [r for r in made.reasons if r.word is word]
        if reasons:
            body.append(item(Ours(text)))
            body += [_reason(r) for r in reasons]
    return Section(title=title, body=tuple(body), style=STYLES[made.word])


def _all_load(made: Answer) -> bool:
    """Whether every checkpoint that FROM saves was loaded in TO, and there is any."""
    found = made.checkpoints
    if found is None or found.state == NOT_TESTED:
        return False
    loads = {r.load for r in found.routes}
    return bool(loads) and loads <= {Load.WORKS, Load.NOT_SAVED}


def _reason(one: Reason) -> Item:
    more = (Ours(": "), *names(one.names, 4)) if one.names else ()
    why = (Ours("; "), one.why) if one.why else ()
    how = (Ours("; "), Code(one.command)) if one.command else ()
    return item(one.text, *more, *why, *how, level=1)


def _cells(made: Answer) -> Section:
    rows = [_cell("FROM", made.origin), _cell("TO", made.target)]
    body: list[Item | Table] = [
        Table(
            head=("", "cell", "outcome", "restores", "evidence"),
            rows=tuple(rows),
        )
    ]
    body += [item(side.note) for side in (made.origin, made.target) if side.note]
    title = (Ours("What is known, device class "), Code(made.device_class))
    return Section(title=title, body=tuple(body))


def _cell(end: str, side: Side) -> tuple[str, ...]:
    found = side.found
    if found is None:
        return Ours(end), Code(side.name), Ours(verdict.SYMBOLS["untested"] + " untested"), "", ""
    taken = f"{found.taken[:10]}, {side.state}"
    restores = ", ".join(verdict.restoring(found)) or "no family"
    return Ours(end), Code(side.name), Ours(verdict.spelt(found.outcome)), restores, taken


def _losses(made: Answer) -> Section | None:
    if made.difference is None or not made.target.outcomes() or not made.origin.outcomes():
        return None
    body: list[Item] = []
    for loss in made.losses:
        body += _loss(loss, made)
    if any(loss.blamed for loss in made.losses):
        text = "cells in between have locks of their own: other packages move with the pins"
        body.append(item(Ours(text)))
    nothing = [item(Ours("nothing: all that works in FROM works in TO"))]
    title = (Ours("What works in FROM and not in TO"),)
    return Section(title=title, body=tuple(body or nothing))


def _loss(loss: Loss, made: Answer) -> Iterator[Item]:
    outcome = verdict.spelt(loss.outcome) if loss.outcome else "not there"
    accepted = (Ours(", which may be lost"),) if loss.accepted else ()
    yield item(Ours(f"{outcome}{accepted[0] if accepted else ''}: "), *names(loss.checks))
    yield item(loss.why, level=1)
    if loss.cause:
        frame = (Ours("in "), Code(loss.frame), Ours("; ")) if loss.frame else ()
        yield item(*frame, Ours("fingerprint "), Code(loss.cause), level=1)
    if loss.same_with_gpu:
        yield item(Ours("the same with a GPU: "), loss.same_with_gpu, level=1)
    for reason in loss.declared:
        yield item(Ours("declared: "), reason, level=1)
    for rule in loss.rules[:RULES]:
        yield item(Ours("seen: "), rule, level=1)
    if len(loss.rules) > RULES:
        more = f"and {len(loss.rules) - RULES} more: "
        yield item(Ours(more), Code(f"mcore-compat explain {made.target.name}"), level=1)
    for name, old, new in loss.mentions:
        text = Code(f"{name} {old or 'none'} → {new or 'none'}")
        yield item(Ours("it names a package that changes with the pins: "), text, level=1)
    if loss.blamed is not None:
        yield from blame.items(loss.blamed, made.origin.pins, made.target.pins)


def _outcomes(made: Answer) -> Section | None:
    found = made.difference
    if found is None or not made.origin.outcomes():
        return None
    otherwise = tuple(c for c in found.still if c.otherwise)
    still = tuple(c for c in found.still if not c.otherwise)
    kinds: Sequence[tuple[str, tuple[Change, ...]]] = (
        ("regressed", found.broke),
        ("fixed", found.fixed),
        ("still broken", still),
        ("newly untested", found.newly_untested),
        ("still broken, for another reason", otherwise),
        ("fails, was not asked before", found.newly_failing),
        ("works, was not asked before", found.newly_works),
    )
    body = []
    for place, (text, changes) in enumerate(kinds):
        if not changes and place > 3:
            continue
        listed = (Ours(": "), *names([c.check for c in changes])) if changes else ()
        body.append(item(Ours(f"{text} {len(changes)}"), *listed))
    return Section(title=(Ours("Outcomes, check by check"),), body=tuple(body))


def _pins(made: Answer) -> Section:
    old, new = made.origin.pins, made.target.pins
    rows = tuple((Code(axis), Code(old[axis]), Code(new[axis])) for axis in made.moved)
    body: list[Item | Table] = [Table(head=("package", "FROM", "TO"), rows=rows)]
    same = [f"{axis} {old[axis]}" for axis in old if axis not in made.moved]
    if same:
        body.append(item(Ours("stay: "), *names(same)))
    rest = made.packages
    if not rest.complete:
        body.append(item(Ours("the rest cannot be told: not both cells have a lock")))
    else:
        changed = [f"{n} {a} → {b}" for n, (a, b) in (rest.changed or {}).items()]
        for text, rows_ in (
            ("added", [f"{n} {v}" for n, v in (rest.added or {}).items()]),
            ("removed", [f"{n} {v}" for n, v in (rest.removed or {}).items()]),
            ("changed", changed),
        ):
            listed = (Ours(": "), *names(rows_)) if rows_ else ()
            body.append(item(Ours(f"of the rest, {text} {len(rows_)}"), *listed))
    for text, needs, module in made.undeclared:
        by = (Code(text), Ours(" is needed by "), Code(needs), Ours(", in "), Code(module))
        body.append(item(*by, Ours(", and declared by nothing")))
    if made.target.found and verdict.restores_all(made.target.found):
        path = f"{CONSTRAINTS}/{made.target.name}.txt"
        body.append(item(Ours("all pins of TO: "), Code(path)))
    return Section(title=(Ours("Pins that change"),), body=tuple(body))


def _interfaces(found: Sequence[Interface]) -> Section | None:
    if not found:
        return None
    body = []
    for one in found:
        head = (Code(one.package), Ours(" "), Code(one.before), Ours(" → "), Code(one.after))
        if one.back:
            body.append(item(*head, Ours(": goes back; what that takes away is not told")))
            continue
        if one.not_recorded:
            body.append(item(*head, Ours(": nothing was recorded of "), *names(one.not_recorded)))
            continue
        kept = [c for c in one.changed if not c.breaks]
        private = [c for c in one.changed if c.breaks and c.private]
        told = f": {len(one.breaking)} break callers, {len(kept)} changed otherwise"
        told += f", {len(private)} private ones that the packages take" if private else ""
        body.append(item(*head, Ours(told if one.changed else ": nothing recorded changed")))
        for changed in one.breaking:
            breaks = changed.breaks.removeprefix("yes: ")
            what = (Ours(": "), changed.what, Ours("; breaks calls: "), breaks)
            body.append(item(Code(changed.name), *what, level=1))
    title = (Ours("Interfaces that callers use"),)
    return Section(title=title, body=tuple(body))


def _numbers(made: Answer) -> Section | None:
    found = made.numbers
    if found is None or not made.target.outcomes() or not made.origin.outcomes():
        return None
    text = f"restored bit for bit the same in both: {len(found.same)} of "
    text += f"{len(found.same) + len(found.differ)} models and states that both recorded"
    body = [item(Ours(text))]
    body += [item(*_differs(check, found)) for check in found.differ]
    for shape in found.shapes:
        for word, tensors in (
            ("added", shape.added),
            ("removed", shape.removed),
            ("of another shape or type", shape.changed),
        ):
            if tensors:
                head = (Ours("tensors of "), Code(shape.check), Ours(f", {word}: "))
                body.append(item(*head, *names(tensors, 4)))
    for one in found.logits:
        off = [f"{value:.2g}" if value is not None else "not recorded" for value in one.off]
        start = (Ours("logits of "), Code(one.family), Ours(": the same bit for bit in "))
        same = names(one.same) if one.same else iter((Ours("none"),))
        other = names(one.differ) if one.differ else iter((Ours("none"),))
        ends = f"; ModelOpt spec off the default one by {off[0]} → {off[1]} at most"
        body.append(item(*start, *same, Ours(", not in "), *other, Ours(ends)))
    if not found.logits:
        text = "logits: not recorded by both; they need a GPU, and checks that work in both"
        body.append(item(Ours(text)))
    return Section(title=(Ours("Numbers"),), body=tuple(body))


def _differs(check: str, found: Numbers) -> Iterator[str]:
    yield Code(check)
    old, new = (found.counts or {}).get(check, (None, None))
    if old != new:
        yield Ours(f": not the same tensors, {old} → {new} of them")
    elif check in found.values:
        yield Ours(": the same names and shapes, other values: its models start from others")
    else:
        yield Ours(": not the same names, shapes or values")


def _instead(made: Answer) -> Section | None:
    if made.word is not Word.NO or not made.origin.works():
        return None
    body: list[Item] = []
    for one in made.alternatives:
        away = [f"{axis} {one.pins[axis]}" for axis in one.moved]
        body.append(item(Code(one.cell), Ours(": unlike TO in "), *names(away)))
        told = f"all that works in FROM works there; checkpoints of FROM: {one.checkpoints}"
        body.append(item(Ours(told), level=1))
    nothing = item(Ours("no tested cell in this direction has all that works in FROM"))
    title = (Ours("What to take instead of TO"),)
    return Section(title=title, body=tuple(body) or (nothing,))
