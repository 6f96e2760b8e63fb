"""Which tested combinations fit what somebody has, best first. Pure, but that `lines` reads how
constraints files say that they are used."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mcore_compat.analysis import install_line, neighbours
from mcore_compat.analysis.cell_record import CellRecord
from mcore_compat.analysis.constraints import Constraint, of_version
from mcore_compat.analysis.declarations import newest_first
from mcore_compat.analysis.install_line import InstallFacts
from mcore_compat.analysis.neighbours import Neighbour
from mcore_compat.base import files
from mcore_compat.core import profiles
from mcore_compat.core.cells import AXES, names_a_stack
from mcore_compat.core.outcomes import FAILS, FAILURES, HOLDS, CellOutcome
from mcore_compat.core.profiles import DEFAULT, Profile
from mcore_compat.results import citation

CORE = "restore["


@dataclass(frozen=True, kw_only=True)
class Advice:
    """`cells` fit every constraint and can be recommended, best first. Where none does:
    `in_the_way` has each smallest set of constraints without which one would, and the best that
    does; `tested` is the best that fits and cannot be recommended. `instead`: where no cell is
    compatible for the profile, what is near and better. `notes`: how constraints were taken."""

    cells: tuple[CellRecord, ...]
    profile: Profile = DEFAULT
    in_the_way: tuple[tuple[tuple[Constraint, ...], CellRecord], ...] = ()
    tested: CellRecord | None = None
    instead: tuple[Neighbour, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        """Whether the best that fits is compatible for the profile."""
        best = self.cells[0].outcome_for(self.profile) if self.cells else ""
        return best == CellOutcome.COMPATIBLE


def works(cell: CellRecord, profile: Profile = DEFAULT) -> bool:
    """Whether the checkpoint restores for every family of the profile that the release has, be it
    under a condition, and not nothing of the profile holds."""
    families = profile.families
    core = {
        outcome
        for check, outcome in cell.checks.items()
        if check.startswith(CORE) and (not families or check[len(CORE) : -1] in families)
    } - {"unsupported"}
    return bool(core) and core <= HOLDS and cell.outcome_for(profile) in _GOOD


_GOOD = (CellOutcome.COMPATIBLE.value, CellOutcome.PARTIAL.value)


def failed(cell: CellRecord) -> list[str]:
    """The checks that fail. Sorted."""
    return sorted(check for check, outcome in cell.checks.items() if outcome in FAILURES)


def rank(cell: CellRecord, profile: Profile = DEFAULT) -> tuple[object, ...]:
    """Best first: compatible for the profile, then fewest of its points that fail, a result from a
    GPU, the stack that the release was made for, all failures, conditions, the newest."""
    return (
        cell.outcome_for(profile) != CellOutcome.COMPATIBLE,
        len(profiles.failing(cell.by_point, profile)),
        cell.device_class != "gpu",
        names_a_stack(cell.name),
        len(failed(cell)),
        len(cell.conditions),
        *newest_first(cell.pins, AXES[:4]),
        cell.name,
    )


def advise(
    constraints: Sequence[Constraint], cells: Sequence[CellRecord], profile: Profile = DEFAULT
) -> Advice:
    """What fits, best for the profile first; where nothing compatible does, what is nearest."""

    def good(cell: CellRecord) -> bool:
        return works(cell, profile)

    def first(cell: CellRecord) -> tuple[object, ...]:
        return rank(cell, profile)

    known = sorted(cells, key=first)
    within = [cell for cell in known if all(c.fits(cell) for c in constraints)]
    fit = tuple(filter(good, within))
    if not fit:
        instead = neighbours.nearest(constraints, known, good, first)
    elif fit[0].outcome_for(profile) != CellOutcome.COMPATIBLE:
        instead = neighbours.better(fit[0], constraints, known, good, profile)
    else:
        instead = ()
    return Advice(
        cells=fit,
        profile=profile,
        in_the_way=() if fit else tuple(_in_the_way(constraints, [*filter(good, known)])),
        tested=within[0] if within and not fit else None,
        instead=instead,
        notes=tuple(c.note for c in constraints if c.note),
    )


def closest(
    constraints: Sequence[Constraint], cells: Sequence[CellRecord], profile: Profile = DEFAULT
) -> Neighbour | None:
    """The one tested cell that stands for what somebody has: the best that fits, else the nearest;
    `differs` says in what it is another. None where nothing was tested."""
    tested = sorted((c for c in cells if c.checks), key=lambda cell: rank(cell, profile))
    near = min(tested, key=lambda cell: neighbours.distance(constraints, cell), default=None)
    return neighbours.neighbour("nearest", near, constraints) if near else None


def closest_to(
    pins: Mapping[str, str], cells: Sequence[CellRecord], profile: Profile | None = None
) -> Neighbour | None:
    """As `closest`, for exact versions by axis."""
    exact = (of_version(axis, f"=={v}", f"{axis} {v}") for axis, v in pins.items())
    return closest([c for one in exact for c in one], cells, profile or DEFAULT)


def _in_the_way(
    constraints: Sequence[Constraint], good: Sequence[CellRecord]
) -> list[tuple[tuple[Constraint, ...], CellRecord]]:
    """The smallest sets of constraints without which something fits, and the best that does."""
    for size in range(1, len(constraints) + 1):
        rows = []
        for dropped in itertools.combinations(constraints, size):
            kept = [c for c in constraints if c not in dropped]
            rows += [(dropped, x) for x in good if all(c.fits(x) for c in kept)][:1]
        if rows:
            return rows
    return []


def line(cell: CellRecord, profile: Profile = DEFAULT) -> str:
    """One cell, in a line: its pins, and what of the profile holds and fails there."""
    pins = ", ".join(f"{axis} {cell.pins[axis]}" for axis in AXES)
    counted = "; ".join(profiles.counted(cell.by_point, profile))
    verb = "holds" if len(cell.conditions) == 1 else "hold"
    more = f"; {len(cell.conditions)} {verb} under a condition" if cell.conditions else ""
    where = f"{cell.name} ({cell.device_class}, {cell.taken[:10]})"
    more += f"; {cell.repair.text()}" if cell.repair else ""
    verdict = f"{cell.outcome_for(profile)} for {profile.text()}"
    return f"{where}: {pins}, CUDA {cell.cuda}; {verdict}: {counted}{more}"


def install(cell: CellRecord, profile: Profile, folder: Path, facts: InstallFacts) -> str:
    """The line that makes a cell's environment for a profile, by its constraints file; or that
    there is none."""
    path = folder / f"{cell.name}.txt"
    name = files.shown(path)
    try:
        pins = install_line.pins_of(path.read_text(encoding="utf-8"))
    except OSError:
        return f"{name} is not there; make it: nox -s report"
    line = facts.line(pins, cell.pins["python"], cell.variables, profile.families)
    return line.command(name)


def failing(cell: CellRecord, profile: Profile = DEFAULT) -> str:
    """What of a profile fails in a cell, feature by feature: `quantize (gpt fp8, gpt nvfp4)`."""
    asked = profiles.of(cell.by_point, profile)
    fails: dict[str, list[str]] = {}
    for point, outcome in asked.items():
        if outcome in FAILS:
            fails.setdefault(point.feature, []).append(point.label)
    said = []
    for feature, labels in fails.items():
        holds = any(p.feature == feature and o in HOLDS for p, o in asked.items())
        more = f" and {len(labels) - MOST} more" if len(labels) > MOST else ""
        which = f" ({', '.join(labels[:MOST])}{more})" if holds else ": all of it"
        said.append(f"{feature or 'other'}{which}")
    return ", ".join(said)


MOST = 4
"""So many families and formats of a feature are named."""


def lines(
    advice: Advice,
    folder: Path,
    facts: InstallFacts,
    most: int,
    untested: Iterable[str] = (),
) -> list[str]:
    """The advice in words, what is known of releases that were not run, and last of all the results
    that it is from; `folder` is where constraints files lie, beside the results."""
    rows = [*_headline(advice), *advice.notes]
    shown = list(advice.cells[:most])
    for cell in shown:
        rows.append(line(cell, advice.profile))
        rows.append(f"  {install(cell, advice.profile, folder, facts)}")
    if len(advice.cells) > most:
        rows.append(f"and {len(advice.cells) - most} more")
    for near in advice.instead:
        rows += [f"{near.text()}:", f"  {line(near.cell, advice.profile)}"]
        if why := failing(near.cell, advice.profile):
            rows.append(f"  fails there: {why}")
        if works(near.cell, advice.profile):
            rows.append(f"  {install(near.cell, advice.profile, folder, facts)}")
        shown.append(near.cell)
    if any(row.startswith(f"  {install_line.PIP}") for row in rows):
        rows.append(install_line.IN_SHORT)
    if advice.tested:
        shown.append(advice.tested)
    return [*rows, *untested, *citation.lines(citation.of_cells(shown, folder.parent / "results"))]


def _headline(advice: Advice) -> Iterator[str]:
    """What there is to know before an install line is read."""
    if advice.cells and not advice.good:
        best = advice.cells[0]
        why = failing(best, advice.profile)
        yield f"none that fits is compatible for {advice.profile.text()}; the best fails in {why}"
    elif advice.tested:
        cell = advice.tested
        why = cell.reason or f"it fails in {failing(cell, advice.profile)}"
        verdict = f"{cell.name} is {cell.outcome_for(advice.profile)}"
        yield f"what fits cannot be recommended: {verdict}: {why}"
    elif not advice.cells:
        sets = (" with ".join(f'"{c.text}"' for c in dropped) for dropped, _ in advice.in_the_way)
        ways = " or ".join(sets)
        yield f"no tested combination fits all of this{f'; in the way: {ways}' if ways else ''}"
