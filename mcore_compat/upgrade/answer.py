"""Evidence of two cells → go, go with changes, or no, with everything that speaks for it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from mcore_compat.analysis.bisect.release_line import differing
from mcore_compat.core.outcomes import CellOutcome, CheckOutcome
from mcore_compat.results import comparison
from mcore_compat.results.comparison import Change, Difference
from mcore_compat.upgrade import alternatives as others
from mcore_compat.upgrade import checkpoints as loads
from mcore_compat.upgrade import interfaces, losses, numbers, pins
from mcore_compat.upgrade.alternatives import Alternative
from mcore_compat.upgrade.checkpoints import Checkpoints, Load, Route
from mcore_compat.upgrade.interfaces import Interface
from mcore_compat.upgrade.losses import Loss
from mcore_compat.upgrade.numbers import Numbers
from mcore_compat.upgrade.pins import Packages
from mcore_compat.upgrade.sides import FRESH, Side, UpgradeInputs


class Word(Enum):
    """The answer.

    - `GO`: all that works in FROM works in TO, its checkpoints load there, no known call breaks.
    - `CHANGES`: all that works still does, or may be lost; something is to be done or tested first.
    - `NO`: something that works in FROM fails in TO or TO lacks it, or TO does not work, or nothing
      is known of one of them.
    """

    GO = "go"
    CHANGES = "go with changes"
    NO = "no"


RANK = tuple(Word)


@dataclass(frozen=True)
class UpgradeReason:
    """Why the answer is not better than `word`; `GO`: only worth knowing. `names` are what the
    text counts, `why` a failure in one line, `command` what tells more."""

    word: Word
    text: str
    names: tuple[str, ...] = ()
    why: str = ""
    command: str = ""


@dataclass(frozen=True, kw_only=True)
class UpgradeAnswer:
    """Everything that is said of an upgrade. What needs evidence of both cells is None where one
    has none; `checkpoints` where FROM has none. `accepted`: patterns of checks that may be lost."""

    word: Word
    reasons: tuple[UpgradeReason, ...]
    device_class: str
    origin: Side
    target: Side
    moved: tuple[str, ...]
    packages: Packages
    undeclared: tuple[tuple[str, str, str], ...]
    difference: Difference | None = None
    losses: tuple[Loss, ...] = ()
    checkpoints: Checkpoints | None = None
    interfaces: tuple[Interface, ...] = ()
    numbers: Numbers | None = None
    alternatives: tuple[Alternative, ...] = ()
    accepted: tuple[str, ...] = ()


def answer(
    origin: Side, target: Side, known: UpgradeInputs, accepted: Sequence[str] = ()
) -> UpgradeAnswer:
    """From what is known. `accepted` are patterns of checks that may be lost."""
    old, new = origin.found, target.found
    difference = comparison.difference(old, new) if old and new else None
    target_checked = bool(new and new.checks)
    lost = (
        losses.losses(origin, target, difference, known, accepted)
        if difference and target_checked
        else ()
    )
    over = loads.checkpoints(old, target.name, known, accepted) if old else None
    changed = interfaces.interfaces(origin.pins, target.pins, known.found, known.all_.releases)
    bare = UpgradeAnswer(
        word=Word.GO,
        reasons=(),
        device_class=known.device_class,
        origin=origin,
        target=target,
        moved=differing(origin.pins, target.pins),
        packages=pins.packages(origin.lock, target.lock),
        undeclared=pins.undeclared(origin.pins, target.pins, known.all_.matrix),
        difference=difference,
        losses=lost,
        checkpoints=over,
        interfaces=changed,
        numbers=numbers.numbers(old, new) if old and new else None,
        accepted=tuple(accepted),
    )
    reasons = tuple(sorted(judged(bare), key=lambda r: -RANK.index(r.word)))
    word = max((r.word for r in reasons), key=RANK.index, default=Word.GO)
    instead: tuple[Alternative, ...] = ()
    if old and word is Word.NO:
        instead = others.alternatives(old, target.pins, known, accepted)
    return replace(bare, word=word, reasons=reasons, alternatives=instead)


def judged(answer: UpgradeAnswer) -> Iterator[UpgradeReason]:
    """Every reason, in the order of the answer's parts."""
    yield from _of_side("FROM", answer.origin)
    yield from _of_side("TO", answer.target)
    yield from _of_target(answer)
    if not answer.target.outcomes():
        return  # what it takes to get there is of no use
    for loss in answer.losses:
        yield _of_loss(loss)
    yield from _of_conditions(answer)
    yield from _of_checkpoints(answer)
    yield from _counted(
        Word.CHANGES,
        [f"{i.package} {version}" for i in answer.interfaces for version in i.not_recorded],
        "whether calls break is not known: nothing was recorded of {}",
        "release",
    )
    for i in answer.interfaces:
        text = f"{i.package} {i.before} → {i.after} breaks calls that were right: {{}}"
        names = [change.name for change in i.breaking]
        yield from _counted(Word.CHANGES, names, text, "function or spec", "functions or specs")
    yield from _counted(
        Word.CHANGES,
        [text for text, *_ in answer.undeclared],
        "TO has {} that nothing declares and FROM did not have: install by name",
        "requirement",
    )
    yield from _counted(
        Word.GO,
        [interface.package for interface in answer.interfaces if interface.back],
        "{} back to an older release: what that takes away is not compared",
        "package goes",
        "packages go",
    )
    ends = (answer.origin.outcomes(), answer.target.outcomes())
    open_ = [{c for c, o in end.items() if o is CheckOutcome.NEEDS_GPU} for end in ends]
    yield from _counted(
        Word.GO,
        sorted(open_[0] & open_[1]),
        "{} asked in neither",
        "check needs a GPU, and was",
        "checks need a GPU, and were",
    )
    if answer.origin.outcomes() and answer.difference and not answer.difference.same_suite:
        yield UpgradeReason(
            Word.GO, "FROM and TO were taken with two suites: a difference may be theirs"
        )


def _counted(
    word: Word, names: Sequence[str], text: str, noun: str, nouns: str = "", command: str = ""
) -> Iterator[UpgradeReason]:
    """The reason that has these names, their number put into its text; none without names."""
    if names:
        count = f"{len(names)} {noun if len(names) == 1 else nouns or noun + 's'}"
        yield UpgradeReason(word, text.format(count), names=tuple(names), command=command)


ASKED = frozenset({*comparison.GOOD, CellOutcome.INCOMPATIBLE})
"""Cells of which it is known whether a checkpoint restores."""


def _of_side(end: str, side: Side) -> Iterator[UpgradeReason]:
    """Whether anything is known of it, and still holds."""
    if side.found is None:
        text = f"nothing is known of {end}: it was not tested"
        yield UpgradeReason(Word.NO, text, command=f"nox -s {side.name}")
    elif end == "FROM" and side.found.outcome not in ASKED:
        why = side.found.reason.message if side.found.reason else ""
        text = f"nothing is known of {end}: it is {side.found.outcome}"
        again = "" if side.state == FRESH else f"nox -s {side.name}"
        yield UpgradeReason(Word.NO, text, why=why, command=again)
    elif side.state != FRESH:
        text = f"the evidence of {end} does not hold any more: {side.state}"
        yield UpgradeReason(Word.CHANGES, text, command=f"nox -s {side.name}")
    if side.stands_in:
        text = f"what is installed was not tested: {end} is only the nearest to it"
        yield UpgradeReason(Word.CHANGES, text, command="mcore-compat doctor --run")


def _of_target(answer: UpgradeAnswer) -> Iterator[UpgradeReason]:
    """Whether TO works at all."""
    evidence = answer.target.found
    if evidence and evidence.reason and not evidence.checks:
        yield UpgradeReason(Word.NO, f"TO is {evidence.outcome}", why=evidence.reason.message)
    elif evidence and evidence.outcome is CellOutcome.INCOMPATIBLE:
        yield UpgradeReason(Word.NO, "TO is incompatible: no family's checkpoint restores there")
    elif evidence and evidence.outcome not in comparison.GOOD:
        yield UpgradeReason(Word.NO, f"TO is {evidence.outcome}: no restore could be asked there")


def _of_loss(loss: Loss) -> UpgradeReason:
    verb = "check that works" if len(loss.checks) == 1 else "checks that work"
    what = f"{len(loss.checks)} {verb} in FROM"
    gone = loss.outcome is CheckOutcome.UNSUPPORTED  # TO lacks it
    word, text = Word.CHANGES, f"{what}, and cannot be asked in TO"
    if loss.accepted:
        word, text = Word.GO, f"{what} may be lost, and fails or is not asked in TO"
    elif loss.failed or gone:
        word, text = Word.NO, f"{what}, and not in TO"
    return UpgradeReason(word, text, names=loss.checks, why=loss.why)


def _of_conditions(answer: UpgradeAnswer) -> Iterator[UpgradeReason]:
    """What works in FROM with all defaults, and in TO only under a condition."""
    by_condition: dict[tuple[bool, str], list[Change]] = {}
    for change in answer.difference.needs if answer.difference else ():
        key = loads.named(change.check, answer.accepted), change.condition
        by_condition.setdefault(key, []).append(change)
    for (may_be_lost, condition), changes in by_condition.items():
        names = [change.check for change in changes]
        text = f"{{}} in FROM, and in TO only with {_literal(condition)}"
        word = Word.GO if may_be_lost else Word.CHANGES
        counted = _counted(word, names, text, "check works", "checks work")
        yield from (replace(reason, why=changes[0].why) for reason in counted)


def _literal(condition: str) -> str:
    """A condition on one line, for a text that is formatted."""
    return comparison.one_line(condition).replace("{", "{{").replace("}", "}}")


CHECKPOINTS = {
    Load.LOST: (Word.NO, "of FROM not to be loaded in TO, and by no known way through others"),
    Load.THROUGH: (Word.CHANGES, "of FROM to be loaded in TO only through other cells"),
    Load.OPEN: (
        Word.CHANGES,
        "not to be loaded in TO, and not asked whether FROM loads what it saved",
    ),
    Load.UNTESTED: (Word.CHANGES, "of FROM not loaded in TO yet"),
    Load.NOT_ASKED: (Word.CHANGES, "of FROM of which TO cannot be asked whether it loads"),
    Load.BEFORE: (Word.GO, "not to be loaded in TO, and not in FROM either"),
}


def _of_checkpoints(answer: UpgradeAnswer) -> Iterator[UpgradeReason]:
    over = answer.checkpoints
    if over is None or not answer.origin.outcomes():
        return
    command = loads.exchange_command(answer.origin.name, answer.target.name)
    by_condition: dict[str, list[Route]] = {}
    for route in over.routes:
        if route.condition and not (route.as_in_origin or route.accepted):
            by_condition.setdefault(route.condition, []).append(route)
    for condition, routes in by_condition.items():
        text = f"{{}} of FROM to be loaded in TO only with {_literal(condition)}"
        counted = _counted(Word.CHANGES, [r.check for r in routes], text, "checkpoint")
        yield from (replace(reason, why=routes[0].why) for reason in counted)
    for load, (word, text) in CHECKPOINTS.items():
        checks = [r.check for r in over.of(load) if not r.accepted]
        how = command if load in (Load.UNTESTED, Load.OPEN) else ""
        yield from _counted(word, checks, f"{{}} {text}", "checkpoint", command=how)
    if over.state not in (FRESH, loads.NOT_TESTED):
        text = f"what is known of checkpoints does not hold any more: {over.state}"
        yield UpgradeReason(Word.CHANGES, text, command=command)
