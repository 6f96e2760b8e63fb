"""Which tested combinations fit what somebody has, best first. Pure, but that `lines` reads how
constraints files say that they are used."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from mcore_compat.analysis.declarations import newest_first
from mcore_compat.analysis.published import CellRecord
from mcore_compat.base import files
from mcore_compat.base.errors import UsageError, nearest
from mcore_compat.core import profiles
from mcore_compat.core.cells import AXES
from mcore_compat.core.outcomes import FAILURES, HOLDS, CellOutcome
from mcore_compat.core.profiles import DEFAULT, Profile

ALIASES = {
    "mcore": "megatron-core",
    "megatron": "megatron-core",
    "modelopt": "nvidia-modelopt",
    "te": "transformer-engine",
    "transformer_engine": "transformer-engine",
    **{axis: axis for axis in AXES},
    "cuda": "cuda",
}
"""What a person may call an axis; CUDA, by its major version, is not one but may be asked for."""

CORE = "restore["


@dataclass(frozen=True, kw_only=True)
class Constraint:
    """What must hold of one axis; `text` as it was written; `note`: how it was taken otherwise."""

    axis: str
    specifier: SpecifierSet
    text: str
    note: str = ""

    def fits(self, cell: CellRecord) -> bool:
        """Whether a cell is within it."""
        value = str(cell.cuda) if self.axis == "cuda" else cell.pins[self.axis]
        return self.specifier.contains(value, prereleases=True)


@dataclass(frozen=True, kw_only=True)
class Advice:
    """`cells` fit every constraint, best first. Where none does: for each smallest set of
    constraints that stands in the way, the best cell that fits all others. `notes`: how constraints
    were taken."""

    cells: tuple[CellRecord, ...]
    profile: Profile = DEFAULT
    in_the_way: tuple[tuple[tuple[Constraint, ...], CellRecord], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        """Whether the best that fits is compatible for the profile."""
        best = self.cells[0].outcome_for(self.profile) if self.cells else ""
        return best == CellOutcome.COMPATIBLE


def parse(text: str) -> tuple[Constraint, ...]:
    """`torch 2.9, python 3.12, TE any, modelopt >= 0.39`: a name, and a version or a specifier.

    Raises:
        UsageError: no such name, or neither version nor specifier; names the nearest.
    """
    constraints: dict[str, Constraint] = {}
    for part in re.split(r",\s*(?=[A-Za-z])", text.strip().rstrip(",")):
        match = re.fullmatch(r"\s*([A-Za-z][\w-]*)\s*(.*?)\s*", part)
        if match is None:
            raise UsageError(f'"{part.strip()}" names no package; write e.g. "torch 2.9"')
        name, value = match[1].lower(), match[2]
        if name not in ALIASES:
            raise UsageError(f'no such axis "{match[1]}"{nearest(name, ALIASES)}')
        if value.lower() in ("", "any"):
            continue
        axis = ALIASES[name]
        constraint = _constraint(axis, value, part)
        if axis in constraints:
            raise UsageError(
                f'"{constraint.text}": {axis} is constrained already; join them by ","'
            )
        constraints[axis] = constraint
    return tuple(constraints[axis] for axis in sorted(constraints))


def _constraint(axis: str, value: str, part: str) -> Constraint:
    text, note = " ".join(part.split()), ""
    digits, what = KNOWN_TO.get(axis, (0, ""))
    if digits and _BARE.fullmatch(value) and value.count(".") >= digits:
        value = ".".join(value.split(".")[:digits])
        note = f'"{text}" is taken as {axis} {value}: cells are told apart by {what}'
    return Constraint(axis=axis, specifier=_specifier(value, part), text=text, note=note)


KNOWN_TO = {"cuda": (1, "CUDA's major version"), "python": (2, "Python's series")}
"""By axis of which cells do not have the whole version: how many of its parts they have."""

_BARE = re.compile(r"v?\d+(\.\d+)*")


def _specifier(value: str, part: str) -> SpecifierSet:
    try:
        if not _BARE.fullmatch(value):
            return SpecifierSet(value)
        exact = value.count(".") >= 2
        return SpecifierSet(f"=={value}" if exact else f"=={value}.*")
    except InvalidSpecifier:
        raise UsageError(
            f'"{part.strip()}" is neither a version nor a specifier; write e.g. "torch 2.9" or '
            '"modelopt >=0.39,<0.43"'
        ) from None


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
    """Best first: compatible for the profile, then fewest of its points that fail, evidence of a
    GPU, all failures, conditions, the newest."""
    return (
        cell.outcome_for(profile) != CellOutcome.COMPATIBLE,
        len(profiles.failing(cell.asked, profile)),
        cell.device_class != "gpu",
        len(failed(cell)),
        len(cell.conditions),
        *newest_first(cell.pins, AXES[:4]),
        cell.name,
    )


def advise(
    constraints: Sequence[Constraint], cells: Sequence[CellRecord], profile: Profile = DEFAULT
) -> Advice:
    """What fits, best for the profile first; where nothing does, what is closest."""
    good = [cell for cell in cells if works(cell, profile)]
    good.sort(key=lambda cell: rank(cell, profile))
    fit = tuple(cell for cell in good if all(c.fits(cell) for c in constraints))
    return Advice(
        cells=fit,
        profile=profile,
        in_the_way=() if fit else tuple(_closest(constraints, good)),
        notes=tuple(c.note for c in constraints if c.note),
    )


def _closest(
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
    counted = "; ".join(profiles.counted(cell.asked, profile))
    verb = "holds" if len(cell.conditions) == 1 else "hold"
    more = f"; {len(cell.conditions)} {verb} under a condition" if cell.conditions else ""
    where = f"{cell.name} ({cell.device_class}, {cell.taken[:10]})"
    more += f"; {cell.repair.text()}" if cell.repair else ""
    verdict = f"{cell.outcome_for(profile)} for {profile.text()}"
    return f"{where}: {pins}, CUDA {cell.cuda}; {verdict}: {counted}{more}"


USE = "# Use: "
FILE = "THIS-FILE"


def use(text: str, path: str) -> str | None:
    """How a constraints file says that it is used, as the file at `path`: it names all that is to
    be installed, as TE and its parts, for which megatron-core does not ask."""
    rows = (row.removeprefix(USE) for row in text.splitlines() if row.startswith(USE))
    command = next(rows, None)
    return command.replace(FILE, path) if command else None


def _use(path: Path) -> str:
    name = files.shown(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        text = ""
    return use(text, name) or f"{name} is not there; make it: nox -s report"


def lines(advice: Advice, folder: Path, most: int) -> list[str]:
    """The advice in words; `folder` is where constraints files lie."""
    rows = list(advice.notes)
    if advice.cells and not advice.good:
        rows.append(f"none that fits is compatible for {advice.profile.text()}; the best:")
    for cell in advice.cells[:most]:
        rows += [line(cell, advice.profile), f"  {_use(folder / f'{cell.name}.txt')}"]
    if len(advice.cells) > most:
        rows.append(f"and {len(advice.cells) - most} more")
    if not advice.cells:
        rows.append("no tested combination that restores every family fits all of this")
    for dropped, cell in advice.in_the_way:
        words = " and ".join(f'"{c.text}"' for c in dropped)
        rows += [f"without {words}:", f"  {line(cell, advice.profile)}"]
    return rows
