"""The tested combinations that fit what somebody has, best first. Pure, except that `lines` reads
constraints files."""

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
from mcore_compat.results import citation, verdict

CORE = "restore["


@dataclass(frozen=True, kw_only=True)
class Advice:
    """A recommendation. `cells`: cells that fit every constraint and can be recommended, best
    first. If there are none, `in_the_way` has each smallest set of constraints without which a cell
    would fit, with the best such cell, and `tested` is the best cell that fits but cannot be
    recommended. `instead`: if no cell is compatible for the profile, better cells nearby. `notes`:
    how constraints were read."""

    cells: tuple[CellRecord, ...]
    profile: Profile = DEFAULT
    in_the_way: tuple[tuple[tuple[Constraint, ...], CellRecord], ...] = ()
    tested: CellRecord | None = None
    instead: tuple[Neighbour, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        """Whether the best cell is compatible for the profile."""
        best = self.cells[0].outcome_for(self.profile) if self.cells else ""
        return best == CellOutcome.COMPATIBLE


def works(cell: CellRecord, profile: Profile = DEFAULT) -> bool:
    """Whether a checkpoint restores (possibly under a condition) for every family of the profile
    that the release has, and the verdict for the profile is compatible or partial."""
    families = profile.families
    core = {
        outcome
        for check, outcome in cell.checks.items()
        if check.startswith(CORE) and (not families or check[len(CORE) : -1] in families)
    } - {"unsupported"}
    return bool(core) and core <= HOLDS and cell.outcome_for(profile) in _GOOD


_GOOD = (CellOutcome.COMPATIBLE.value, CellOutcome.PARTIAL.value)


def failed(cell: CellRecord) -> list[str]:
    """Return the checks that fail. Sorted."""
    return sorted(check for check, outcome in cell.checks.items() if outcome in FAILURES)


def rank(cell: CellRecord, profile: Profile = DEFAULT) -> tuple[object, ...]:
    """Return a sort key, best first: compatible for the profile, fewest failing points of it, a
    result from a GPU, the default stack, fewest failures, fewest conditions, newest releases."""
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
    """Return the cells that fit, best for the profile first; if none of them is compatible, also
    the nearest better cells."""

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
    """Return the tested cell nearest to the constraints, the best of several; its `differs` names
    the versions that do not fit. None if no cell was tested."""
    tested = sorted((c for c in cells if c.checks), key=lambda cell: rank(cell, profile))
    near = min(tested, key=lambda cell: neighbours.distance(constraints, cell), default=None)
    return neighbours.neighbour("nearest", near, constraints) if near else None


def closest_to(
    pins: Mapping[str, str], cells: Sequence[CellRecord], profile: Profile | None = None
) -> Neighbour | None:
    """Do the same as `closest` for exact versions by axis."""
    exact = (of_version(axis, f"=={v}", f"{axis} {v}") for axis, v in pins.items())
    return closest([c for one in exact for c in one], cells, profile or DEFAULT)


def _in_the_way(
    constraints: Sequence[Constraint], good: Sequence[CellRecord]
) -> list[tuple[tuple[Constraint, ...], CellRecord]]:
    """Return the smallest sets of constraints without which a cell fits, each with the best such
    cell."""
    for size in range(1, len(constraints) + 1):
        rows = []
        for dropped in itertools.combinations(constraints, size):
            kept = [c for c in constraints if c not in dropped]
            rows += [(dropped, x) for x in good if all(c.fits(x) for c in kept)][:1]
        if rows:
            return rows
    return []


def line(cell: CellRecord, profile: Profile = DEFAULT) -> str:
    """Return one cell as a line: its pins, and which points of the profile work and fail."""
    pins = ", ".join(f"{axis} {cell.pins[axis]}" for axis in AXES)
    counted = "; ".join(profiles.counted(cell.by_point, profile))
    where = f"{cell.name} ({cell.device_class}, {cell.taken[:10]})"
    more = f"; {cell.repair.text()}" if cell.repair else ""
    verdict = f"{cell.outcome_for(profile)} for {profile.text()}"
    return f"{where}: {pins}, CUDA {cell.cuda}; {verdict}: {counted}{more}"


def conditional(cell: CellRecord, profile: Profile = DEFAULT) -> Iterator[str]:
    """Yield a line for each condition of a profile: the code, and what works only with it."""
    by_condition: dict[str, dict[str, set[str]]] = {}
    for check in cell.asked:
        if check.check in cell.conditions and profile.takes(check):
            code = cell.conditions[check.check].splitlines()[-1].strip()
            feature = profiles.feature_of(check) or "other"
            families = by_condition.setdefault(code, {}).setdefault(feature, set())
            families.update(filter(None, [check.family]))
    for code, features in sorted(by_condition.items()):
        what = (
            f"{feature} of {', '.join(sorted(families))}" if families else feature
            for feature, families in sorted(features.items())
        )
        yield f"only with {code}: {'; '.join(what)}"


def install(cell: CellRecord, profile: Profile, folder: Path, facts: InstallFacts) -> str:
    """Return the line that installs a cell's environment for a profile, with its constraints file;
    or say that the file does not exist."""
    path = folder / f"{cell.name}.txt"
    name = files.shown(path)
    try:
        pins = install_line.pins_of(path.read_text(encoding="utf-8"))
    except OSError:
        return f"{name} does not exist; make it: nox -s report"
    line = facts.line(pins, cell.pins["python"], cell.variables, profile.families)
    return line.command(name)


def failing(cell: CellRecord, profile: Profile = DEFAULT) -> str:
    """Name the points of a profile that fail in a cell: `quantize (gpt fp8, gpt nvfp4)`."""
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
"""The number of families and formats of a feature that are named."""


def lines(
    advice: Advice,
    folder: Path,
    facts: InstallFacts,
    most: int,
    untested: Iterable[str] = (),
) -> list[str]:
    """Return the recommendation as lines: then `untested` (lines on untested releases), and last
    the results that it rests on. `folder`: of the constraints files, next to the results."""
    rows = [*_headline(advice), *advice.notes]
    shown = list(advice.cells[:most])
    for cell in shown:
        rows.append(line(cell, advice.profile))
        rows += [f"  {one}" for one in conditional(cell, advice.profile)]
        rows.append(f"  {install(cell, advice.profile, folder, facts)}")
    if len(advice.cells) > most:
        rows.append(f"and {len(advice.cells) - most} more")
    for near in advice.instead:
        rows += [f"{near.text()}:", f"  {line(near.cell, advice.profile)}"]
        rows += [f"  {one}" for one in conditional(near.cell, advice.profile)]
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
    """Yield the first line if no cell fits, or if none that fits is compatible."""
    if advice.cells and not advice.good:
        best = advice.cells[0]
        why = failing(best, advice.profile)
        yield f"none that fits is compatible for {advice.profile.text()}; the best fails in {why}"
    elif advice.tested:
        cell = advice.tested
        why = cell.reason or f"it fails in {failing(cell, advice.profile)}"
        if cell.unsure:
            why = f"it ended in {'; '.join(map(verdict.unsure_text, cell.unsure))}"
        ended = f"{cell.name} is {cell.outcome_for(advice.profile)}"
        yield f"no cell that fits can be recommended: {ended}: {why}"
    elif not advice.cells:
        sets = (" with ".join(f'"{c.text}"' for c in dropped) for dropped, _ in advice.in_the_way)
        ways = " or ".join(sets)
        yield f"no tested combination fits all of this{f'; leave out {ways}' if ways else ''}"
