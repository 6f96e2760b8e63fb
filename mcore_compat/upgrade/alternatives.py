"""What to take instead of TO, where TO is no clean upgrade. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mcore_compat.analysis.bisect.release_line import differing
from mcore_compat.core.cells import AXES, parsed
from mcore_compat.core.outcomes import HOLDS
from mcore_compat.results.comparison import known_good
from mcore_compat.results.evidence import Evidence
from mcore_compat.upgrade.checkpoints import NOT_TESTED, Checkpoints, Load, checkpoints, named
from mcore_compat.upgrade.pins import back
from mcore_compat.upgrade.sides import FRESH, UpgradeInputs

MOST = 3
PAIR = ("megatron-core", "nvidia-modelopt")


@dataclass(frozen=True, kw_only=True)
class Alternative:
    """A cell in which all works that works in FROM. `moved`: the axes on which it is not TO;
    `steps`: how many tested versions lie between, in all; `checkpoints`: what is known of FROM's
    there."""

    cell: str
    pins: Mapping[str, str]
    moved: tuple[str, ...]
    steps: int
    checkpoints: str


def alternatives(
    origin: Evidence,
    target: Mapping[str, str],
    known: UpgradeInputs,
    accepted: Sequence[str] = (),
) -> tuple[Alternative, ...]:
    """The nearest to TO, with the fewest and lowest moves, in its direction from FROM; at most
    `MOST`, and none where nothing works in FROM."""
    wanted = {c.check for c in origin.checks if c.outcome in HOLDS and not named(c.check, accepted)}
    versions = {axis: sorted({e.pins[axis] for e in known.found}, key=parsed) for axis in AXES}
    rows = []
    for e in known.found if wanted else ():
        works = {c.check for c in e.checks if c.outcome in HOLDS}
        # Of megatron-core and ModelOpt, none moves the other way than it does to TO.
        moves = set(differing(origin.pins, e.pins)) & {*PAIR}
        wrong = moves & (set(back(origin.pins, e.pins)) ^ set(back(origin.pins, target)))
        away = differing(target, e.pins)
        if not (moves and not wrong and away and wanted <= works and known_good(e)):
            continue
        load = _checkpoints(checkpoints(origin, e.cell, known, accepted))
        if load is not None:
            steps = sum(_steps(versions[axis], target[axis], e.pins[axis]) for axis in away)
            rows.append(
                Alternative(
                    cell=e.cell, pins=dict(e.pins), moved=away, steps=steps, checkpoints=load
                )
            )
    return tuple(sorted(rows, key=lambda a: (len(a.moved), a.steps, a.cell))[:MOST])


def _steps(versions: Sequence[str], start: str, end: str) -> int:
    """How many of the tested versions one goes over."""
    low, high = sorted((parsed(start), parsed(end)))
    return sum(low < parsed(version) <= high for version in versions)


def _checkpoints(over: Checkpoints) -> str | None:
    """What is known of FROM's checkpoints; None where some do not load there by themselves."""
    lost = (r for load in (Load.LOST, Load.OPEN, Load.THROUGH) for r in over.of(load))
    if any(not r.accepted for r in lost):
        return None
    if over.state == NOT_TESTED or not over.routes or over.of(Load.UNTESTED):
        return NOT_TESTED
    if over.state != FRESH:
        return f"load, but {over.state} since"
    if over.of(Load.NOT_ASKED):
        return Load.NOT_ASKED.value
    some = any(r.condition and not r.as_in_origin for r in over.routes)
    return "load, some only under a condition" if some else "load"
