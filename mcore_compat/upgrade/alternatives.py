"""Which cells to use instead of TO if the answer for TO is no. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mcore_compat.analysis.bisect.release_line import differing
from mcore_compat.core.cells import parsed
from mcore_compat.core.outcomes import HOLDS
from mcore_compat.results import answer
from mcore_compat.results.comparison import GOOD
from mcore_compat.results.result import CheckResult, Result
from mcore_compat.upgrade import words
from mcore_compat.upgrade.checkpoints import (
    NOT_TESTED,
    Checkpoints,
    Load,
    Route,
    about,
    checkpoints,
    named,
)
from mcore_compat.upgrade.pins import back
from mcore_compat.upgrade.sides import FRESH, Side, UpgradeInputs

MOST = 3
PAIR = ("megatron-core", "nvidia-modelopt")


@dataclass(frozen=True, kw_only=True)
class Alternative:
    """A cell to use instead of TO.

    - `moved`: the axes whose version differs from TO's.
    - `steps`: how many tested versions it is away from TO, summed over the axes.
    - `cuda`: the major version of CUDA that its torch is built for.
    - `checkpoints`: whether the checkpoints of FROM load in it, in a few words.
    - `lost`: what works in FROM and fails in it, of the profile, each with the reason.
    - `open`: what works in FROM, of the profile, and has no result in it.
    """

    cell: str
    pins: Mapping[str, str]
    moved: tuple[str, ...]
    steps: int
    cuda: int
    checkpoints: str
    lost: tuple[str, ...] = ()
    open: str = ""


@dataclass(frozen=True, kw_only=True)
class _Candidate:
    """A cell, its distance from TO, and what it loses. `checks`: those that work in FROM and fail
    in it; `over`: how the checkpoints of FROM load in it; `open`: checks that work in FROM and have
    no result in it."""

    found: Result
    moved: tuple[str, ...]
    steps: int
    over: Checkpoints
    checks: tuple[str, ...]
    open: tuple[str, ...]

    @property
    def losses(self) -> int:
        return len(self.checks) + len(_refused(self.over))

    @property
    def distance(self) -> tuple[bool, int, int, str]:
        """To sort by, the nearest first. Cells with the megatron-core of TO come before all others,
        because ModelOpt is easier to change."""
        return PAIR[0] in self.moved, len(self.moved), self.steps, self.found.cell


def alternatives(
    origin: Side, target: Side, known: UpgradeInputs, accepted: Sequence[str] = ()
) -> tuple[Alternative, ...]:
    """At most `MOST` cells that keep everything in the profile that works in FROM, the nearest to
    TO first. Cells with results of every such check are preferred.

    One more cell may follow, which loses something, but less than TO:

    - If no cell keeps everything: the cell that loses least.
    - If none of those that do has the megatron-core of TO: the one with that megatron-core that
      loses least.

    In no cell does megatron-core or ModelOpt move in the opposite direction to TO. Empty if nothing
    in the profile works in FROM.
    """
    old = origin.found
    wanted = tuple(
        c.check
        for c in (old.checks if old else ())
        if c.outcome in HOLDS and known.profile.takes(c) and not named(c.check, accepted)
    )
    if old is None or not wanted:
        return ()
    usable = [e for e in known.found if answer.outcome(e, known.profile) in GOOD]
    every = [_candidate(old, e, target, wanted, known, accepted) for e in usable]
    here = next((c for c in every if c.found.cell == target.name), None)
    others = [c for c in every if _on_the_way(origin, c.found.pins, target)]
    kept = [c for c in others if not c.losses]
    kept = [c for c in kept if not c.open] or kept
    chosen = sorted(kept, key=lambda c: c.distance)[:MOST]
    better = [c for c in others if c.losses and (here is None or _loses_less(c, here))]
    if chosen:  # a reader who needs the megatron-core of TO must find one cell that has it
        moved = all(PAIR[0] in c.moved for c in chosen)
        better = [c for c in better if moved and PAIR[0] not in c.moved]
    chosen += sorted(better, key=lambda c: (c.losses, *c.distance))[:1]
    by_id = {c.check: c for c in old.checks}
    return tuple(_alternative(one, by_id, known) for one in chosen)


def _loses_less(one: _Candidate, here: _Candidate) -> bool:
    """Whether it loses less than TO. Checkpoints that were never loaded in it do not count."""
    if one.over.state == NOT_TESTED:
        return len(one.checks) < len(here.checks)
    return one.losses < here.losses


def _on_the_way(origin: Side, there: Mapping[str, str], target: Side) -> bool:
    """Whether a cell is neither FROM nor TO, and moves from FROM in the direction of TO."""
    moves = {*differing(origin.pins, there)} & {*PAIR}
    wrong = moves & ({*back(origin.pins, there)} ^ {*back(origin.pins, target.pins)})
    return bool(moves and not wrong and differing(target.pins, there))


def _candidate(
    origin: Result,
    there: Result,
    target: Side,
    wanted: Sequence[str],
    known: UpgradeInputs,
    accepted: Sequence[str],
) -> _Candidate:
    works = {c.check: c.outcome in HOLDS for c in there.checks}
    away = differing(target.pins, there.pins)
    versions = {axis: sorted({e.pins[axis] for e in known.found}, key=parsed) for axis in away}
    return _Candidate(
        found=there,
        moved=away,
        steps=sum(_steps(versions[axis], target.pins[axis], there.pins[axis]) for axis in away),
        over=checkpoints(origin, there.cell, known, accepted),
        checks=tuple(check for check in wanted if not works.get(check, True)),
        open=tuple(check for check in wanted if check not in works),
    )


def _steps(versions: Sequence[str], start: str, end: str) -> int:
    """How many tested versions apart two versions are."""
    low, high = sorted((parsed(start), parsed(end)))
    return sum(low < parsed(version) <= high for version in versions)


def _refused(over: Checkpoints) -> tuple[Route, ...]:
    """The checkpoints that are known not to load directly, and that matter to the user."""
    lost = (r for load in (Load.LOST, Load.OPEN, Load.THROUGH) for r in over.of(load))
    return tuple(r for r in lost if r.decides)


def _alternative(
    one: _Candidate, origin: Mapping[str, CheckResult], known: UpgradeInputs
) -> Alternative:
    return Alternative(
        cell=one.found.cell,
        pins=dict(one.found.pins),
        moved=one.moved,
        steps=one.steps,
        cuda=one.found.cuda,
        checkpoints=_checkpoints(one.over),
        lost=tuple(_lost(one, origin, known)),
        open=words.about(origin[check] for check in one.open),
    )


def _lost(one: _Candidate, origin: Mapping[str, CheckResult], known: UpgradeInputs) -> list[str]:
    """What the cell loses, one text for each reason, the reason with most checks first."""
    by_reason: dict[str, list[CheckResult]] = {}
    there = {c.check: c for c in one.found.checks}
    rules = known.all_.matrix.expected
    for check in one.checks:
        reason = words.sentence(one.found, there[check], rules)
        by_reason.setdefault(reason, []).append(origin[check])
    rows = sorted(by_reason.items(), key=lambda row: (-len(row[1]), row[0]))
    texts = [f"{words.about(checks)}: {reason}" for reason, checks in rows]
    refused = _refused(one.over)
    return [*texts, f"checkpoints do not load: {about(refused)}"] if refused else texts


def _checkpoints(over: Checkpoints) -> str:
    """Whether the checkpoints of FROM load, in a few words."""
    counted = replace(over, routes=tuple(r for r in over.routes if r.decides))
    if _refused(counted):
        return "some do not load"
    if over.state == NOT_TESTED or not counted.routes or counted.of(Load.UNTESTED):
        return NOT_TESTED
    if over.state != FRESH:
        return f"loaded when last tested, but {over.state} since"
    if counted.of(Load.NOT_ASKED):
        return "some could not be tested"
    some = any(r.condition and not r.as_in_origin for r in counted.routes)
    return "load, some only under a condition" if some else "load"
