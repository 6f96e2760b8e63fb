"""Why an upgrade is not simply `go`: every reason, with the best answer that it allows. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

from mcore_compat.core.outcomes import CellOutcome, CheckOutcome
from mcore_compat.exchange.plan import STATE, STATE_KIND
from mcore_compat.results import answer as verdicts
from mcore_compat.results import comparison
from mcore_compat.results.comparison import Change
from mcore_compat.upgrade import checkpoints as loads
from mcore_compat.upgrade import losses, words
from mcore_compat.upgrade.checkpoints import Load, Route
from mcore_compat.upgrade.losses import described, takes
from mcore_compat.upgrade.sides import FRESH, Side

if TYPE_CHECKING:
    from mcore_compat.upgrade.answer import UpgradeAnswer


class Word(Enum):
    """The answer, within the profile.

    - `GO`: everything that works in FROM works in TO, checkpoints of FROM load in TO, and no known
      call breaks.
    - `CHANGES`: nothing is lost that the user needs, but something must be changed or tested first.
    - `NO`: something that works in FROM fails or is missing in TO, or TO does not work, or one of
      them has no results.
    """

    GO = "go"
    CHANGES = "go with changes"
    NO = "no"


RANK = tuple(Word)

CUDA, CODE = "cuda", "code"
"""The subjects of the reasons that the head always shows: another CUDA, the user's code."""


@dataclass(frozen=True)
class UpgradeReason:
    """Why the answer is not better than `word`; with `GO`, the reason is only worth knowing.

    - `subject`: what it is about; `names`: the things that the text counts.
    - `why`: a failure in one line; `command`: shows or repairs more, or empty.
    """

    word: Word
    subject: str
    text: str
    names: tuple[str, ...] = ()
    why: str = ""
    command: str = ""


OUTSIDE = "outside the profile: "
ACCEPTED = "accepted: "


def judged(answer: UpgradeAnswer) -> Iterator[UpgradeReason]:
    """Every reason, in the order of the answer's parts."""
    yield from _of_cuda(answer)
    yield from _of_code(answer)
    yield from _of_side("FROM", answer.origin, answer)
    yield from _of_side("TO", answer.target, answer)
    yield from _of_target(answer)
    yield from _out_of_date(answer)
    if not answer.target.outcomes():
        return  # TO ran no check: how to move to it does not matter
    yield from _of_losses(answer)
    yield from _of_conditions(answer)
    yield from _of_checkpoints(answer)
    yield from _of_interfaces(answer)
    names = [text for text, *_ in answer.undeclared]
    text = "TO needs {} that no package declares and FROM does not need; install by name:"
    yield from _counted(Word.CHANGES, "requirements", names, text, "package")
    yield from _of_gpu(answer)
    if answer.origin.outcomes() and answer.difference and not answer.difference.same_suite:
        text = (
            "FROM and TO were tested with different versions of the suite, which may cause "
            "differences"
        )
        yield UpgradeReason(Word.GO, "results", text)


def _counted(
    word: Word, subject: str, names: Sequence[str], text: str, noun: str, nouns: str = ""
) -> Iterator[UpgradeReason]:
    """One reason about `names`; no reason if there are none. Their number replaces `{}` in the
    text; if the text ends in a colon, the names follow."""
    if names:
        count = f"{len(names)} {noun if len(names) == 1 else nouns or noun + 's'}"
        told = f" {', '.join(names)}" if text.endswith(":") else ""
        yield UpgradeReason(word, subject, text.format(count) + told, names=tuple(names))


def _of_cuda(answer: UpgradeAnswer) -> Iterator[UpgradeReason]:
    if answer.cuda:
        old, new = answer.cuda
        text = f"CUDA {old} → {new}: change driver and base image, rebuild your CUDA extensions"
        yield UpgradeReason(Word.CHANGES, CUDA, text)


def _of_code(answer: UpgradeAnswer) -> Iterator[UpgradeReason]:
    """How many uses in the user's code do not fit TO, package by package."""
    code = answer.code
    if code is None:
        return
    counts = [f"{f.failures} of {f.uses} uses of {f.package}" for f in code.fits if f.failures]
    if counts:
        places = tuple(dict.fromkeys(f"{f.file}:{f.line}" for f in code.failures))
        text = f"your code: {', '.join(counts)} fit FROM and not TO, see below"
        yield UpgradeReason(Word.CHANGES, CODE, text, names=places)
    if code.unreadable:
        files = tuple(f"{u.file}:{u.line}" for u in code.unreadable)
        yield from _counted(Word.CHANGES, CODE, files, "your code: {} could not be read:", "file")


ASKED = frozenset({*comparison.GOOD, CellOutcome.INCOMPATIBLE})
"""Verdicts of cells in which something in the profile was run."""


def _of_side(end: str, side: Side, answer: UpgradeAnswer) -> Iterator[UpgradeReason]:
    """Whether there are results that can be used."""
    if side.found is None:
        text = f"{end} was not tested"
        yield UpgradeReason(Word.NO, "results", text, command=f"nox -s {side.name}")
    elif end == "FROM" and (ended := verdicts.outcome(side.found, answer.profile)) not in ASKED:
        why = side.found.reason.message if side.found.reason else _not_run(side, answer)
        text = f"nothing in the profile is known to work in FROM, which is {ended}"
        again = "" if side.state == FRESH else f"nox -s {side.name}"
        yield UpgradeReason(Word.NO, "results", text, why=why, command=again)
    if side.stands_in:
        text = f"{side.stands_in} was not tested: {end} is only the nearest tested cell"
        yield UpgradeReason(Word.CHANGES, "results", text, command="mcore-compat doctor --run")


def _not_run(side: Side, answer: UpgradeAnswer) -> str:
    return "; ".join(verdicts.not_asked(side.found, answer.profile)) if side.found else ""


def _of_target(answer: UpgradeAnswer) -> Iterator[UpgradeReason]:
    """Whether anything in the profile works in TO."""
    result = answer.target.found
    if result is None:
        return
    ended = verdicts.outcome(result, answer.profile)
    if result.reason and not result.checks:
        why = result.reason.message
        yield UpgradeReason(Word.NO, "outcome", f"TO is {ended}", why=why)
    elif ended is CellOutcome.INCOMPATIBLE:
        what = (
            "no family's checkpoint restores there"
            if "restore" in answer.profile.features
            else "nothing in the profile works there"
        )
        failed = verdicts.failures(result, answer.profile, answer.rules)
        why = failed[0].text() if failed else ""
        yield UpgradeReason(Word.NO, "outcome", f"TO is incompatible: {what}", why=why)
    elif ended not in comparison.GOOD:
        why = _not_run(answer.target, answer)
        text = f"nothing in the profile could be run in TO, which is {ended}"
        yield UpgradeReason(Word.NO, "outcome", text, why=why)


def _out_of_date(answer: UpgradeAnswer) -> Iterator[UpgradeReason]:
    """All results that are out of date, in one reason."""
    by_state: dict[str, list[str]] = {}
    for end, side in (("FROM", answer.origin), ("TO", answer.target)):
        if side.found and side.state != FRESH:
            by_state.setdefault(side.state, []).append(end)
    over = answer.checkpoints
    old = over is not None and over.state not in (FRESH, loads.NOT_TESTED)
    if old and over and answer.target.outcomes() and any(r.counts for r in over.routes):
        by_state.setdefault(over.state, []).append("checkpoints")
    if by_state:
        what = ", ".join(f"{' and '.join(who)} ({why})" for why, who in by_state.items())
        text = f"the results of this answer are out of date: {what}"
        yield UpgradeReason(Word.CHANGES, "results", text, command=answer.command)


def _of_losses(answer: UpgradeAnswer) -> Iterator[UpgradeReason]:
    """What is lost: one reason for each cause."""
    for cause in losses.causes(answer.losses):
        what = words.about(described(cause.checks, answer.origin, answer.target))
        gone = cause.first.outcome is CheckOutcome.UNSUPPORTED
        how = UNKNOWN if not cause.failed else "TO does not have it" if gone else "fails in TO"
        before = OUTSIDE if not cause.counts else ACCEPTED if cause.accepted else ""
        lost = Word.NO if cause.failed else Word.CHANGES
        yield UpgradeReason(
            Word.GO if before else lost,
            "checks",
            f"{before}{what} works in FROM, and {how}: {cause.sentence}",
            names=cause.checks,
            why=cause.first.why,
        )


UNKNOWN = "could not be run in TO"


def _of_conditions(answer: UpgradeAnswer) -> Iterator[UpgradeReason]:
    """What works in FROM with all defaults and in TO only under a condition."""
    by_condition: dict[tuple[str, str], list[Change]] = {}
    for change in answer.difference.needs if answer.difference else ():
        accepted = loads.named(change.check, answer.accepted)
        counts = takes(answer.profile, change.check, answer.origin, answer.target)
        before = OUTSIDE if not counts else ACCEPTED if accepted else ""
        by_condition.setdefault((before, change.condition), []).append(change)
    for (before, condition), changes in by_condition.items():
        names = tuple(sorted(change.check for change in changes))
        what = words.about(described(names, answer.origin, answer.target))
        text = f"{before}{what} works in TO only with {comparison.one_line(condition)}"
        word = Word.GO if before else Word.CHANGES
        yield UpgradeReason(word, "conditions", text, names=names, why=changes[0].why)


CHECKPOINTS = {
    Load.LOST: (Word.NO, "do not load in TO, directly or through other tested cells"),
    Load.THROUGH: (Word.CHANGES, "load in TO only through other cells"),
    Load.OPEN: (Word.CHANGES, "do not load in TO, and loading them in FROM was not tested"),
    Load.UNTESTED: (Word.CHANGES, "were not tested in TO"),
    Load.NOT_ASKED: (Word.CHANGES, "could not be tested in TO"),
    Load.BEFORE: (Word.GO, "do not load in TO, nor in FROM"),
}


def _of_checkpoints(answer: UpgradeAnswer) -> Iterator[UpgradeReason]:
    over = answer.checkpoints
    if over is None or not answer.origin.outcomes():
        return
    command = loads.exchange_command(answer.origin.name, answer.target.name)
    by_condition: dict[str, list[Route]] = {}
    for route in over.routes:
        if route.condition and not route.as_in_origin and route.decides:
            by_condition.setdefault(route.condition, []).append(route)
    for condition, routes in sorted(by_condition.items()):
        text = f"load in TO only with {comparison.one_line(condition)}"
        yield _of_routes(Word.CHANGES, text, routes)
    for load, (word, text) in CHECKPOINTS.items():
        routes = [r for r in over.of(load) if r.decides]
        if not routes:
            continue
        reason = _of_routes(word, text, routes)
        if load is Load.LOST and _can_be_quantized_anew(answer, routes):
            reason = replace(reason, text=reason.text + ANEW)
        if load is Load.UNTESTED:
            reason = replace(reason, why=_of_neighbours(answer))
        if load in (Load.UNTESTED, Load.OPEN):
            reason = replace(reason, command=command)
        yield reason
    outside = [r for r in over.of(Load.LOST) if not r.counts]
    if outside:
        yield _of_routes(Word.GO, CHECKPOINTS[Load.LOST][1], outside, OUTSIDE)


ANEW = "; the checkpoints they were quantized from load there and can be quantized again"


def _can_be_quantized_anew(answer: UpgradeAnswer, routes: Sequence[Route]) -> bool:
    """Whether everything that is lost is quantized state that TO can make again, from a checkpoint
    of FROM that loads in TO."""
    over = answer.checkpoints
    loaded = {(r.family, r.way) for r in over.of(Load.WORKS)} if over else set()
    works = answer.target.works()
    return all(
        r.way == STATE
        and (r.family, "default-to-modelopt") in loaded
        and f"{STATE_KIND}[{r.family}]" in works
        for r in routes
    )


def _of_routes(word: Word, text: str, routes: Sequence[Route], before: str = "") -> UpgradeReason:
    names = tuple(sorted(r.check for r in routes))
    what = loads.about(routes)
    text = f"{before}checkpoints of FROM {text}: {what}"
    return UpgradeReason(word, "checkpoints", text, names=names, why=routes[0].why)


def _of_neighbours(answer: UpgradeAnswer) -> str:
    """How checkpoints load between similar cells, in words; empty if not known."""
    texts = (
        f"{pair.origin} → {pair.target}: "
        + (f"do not load: {loads.about(pair.fails)}" if pair.fails else "load")
        for pair in answer.neighbours
    )
    told = "; ".join(texts)
    return f"between similar cells: {told}" if told else ""


BESIDE = "your code was read: "
"""Begins a reason about calls in general when the user's code was read: its own reason decides."""


def _of_interfaces(answer: UpgradeAnswer) -> Iterator[UpgradeReason]:
    uses = "interface" in answer.profile.features
    read = {fit.package for fit in answer.code.fits} if answer.code else set()
    others = [i for i in answer.interfaces if i.package not in read]
    missing = [f"{i.package} {v}" for i in others for v in i.not_recorded]
    word, before = (Word.CHANGES, "") if uses else (Word.GO, OUTSIDE)
    text = f"{before}it is not known whether calls break: no interface was recorded for {{}}:"
    yield from _counted(word, "interfaces", missing, text, "release")
    for i in answer.interfaces:
        moved = f"{i.package} {i.before} → {i.after} breaks calls"
        for counts in (True, False):
            names = [c.name for c in i.breaking if c.counts(answer.profile) is counts]
            word, before = (Word.CHANGES, "") if counts else (Word.GO, OUTSIDE)
            word, before = (Word.GO, BESIDE) if i.package in read else (word, before)
            text = f"{before}{moved} of {{}}, see below"
            nouns = "function or spec", "functions and specs"
            yield from _counted(word, "interfaces", names, text, *nouns)
    back = [i.package for i in others if i.back]
    text = "{} back to an older release; what that removes is not compared:"
    yield from _counted(Word.GO, "interfaces", back, text, "package goes", "packages go")


def _of_gpu(answer: UpgradeAnswer) -> Iterator[UpgradeReason]:
    """What in the profile was not run in either cell, because it needs a GPU."""
    open_ = [
        {c for c, o in side.outcomes().items() if o is CheckOutcome.NEEDS_GPU}
        for side in (answer.origin, answer.target)
    ]
    checks = described(sorted(open_[0] & open_[1]), answer.origin, answer.target)
    checks = [c for c in checks if answer.profile.takes(c)]
    if checks:
        text = f"{words.about(checks)} needs a GPU, and was not run in either"
        names = tuple(c.check for c in checks)
        yield UpgradeReason(Word.GO, "checks", text, names=names)
