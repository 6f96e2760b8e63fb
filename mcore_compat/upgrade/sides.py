"""The two cells of an upgrade, and their results. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from mcore_compat.analysis import doctor, nearest_cell
from mcore_compat.analysis.cell_record import CellRecord
from mcore_compat.base.errors import UsageError
from mcore_compat.core.cells import AXES, Cell, is_version, moved
from mcore_compat.core.outcomes import HOLDS, CellOutcome, CheckOutcome
from mcore_compat.core.profiles import DEFAULT, Profile
from mcore_compat.environments.scan import Installed
from mcore_compat.exchange.transfer_results import Answers, answers
from mcore_compat.publish.collation import Collated
from mcore_compat.resolve.locks import Lock
from mcore_compat.resolve.resolution import asked_for
from mcore_compat.results.result import Result, out_of_date

FRESH, UNTESTED = "fresh", "untested"


@dataclass(frozen=True, kw_only=True)
class Side:
    """FROM or TO, and its result.

    - `state`: `fresh` (up to date), `untested`, or why its result is out of date.
    - `note`: how this cell was chosen, if the user did not name it.
    - `stands_in`: the installation or container to which it is only the nearest tested cell; empty
      if it is the very cell that the user means.
    """

    cell: Cell
    found: Result | None = None
    lock: Lock | None = None
    state: str = UNTESTED
    note: str = ""
    stands_in: str = ""

    @property
    def name(self) -> str:
        return self.cell.name

    @property
    def pins(self) -> Mapping[str, str]:
        """The versions that were tested; of an untested cell, those that would be."""
        return self.found.pins if self.found else self.cell.pins

    @property
    def cuda(self) -> int:
        """The major version of the CUDA that torch is built for."""
        return self.found.cuda if self.found else self.cell.cuda

    def outcomes(self) -> dict[str, CheckOutcome]:
        """The outcome of each check."""
        return {c.check: c.outcome for c in self.found.checks} if self.found else {}

    def works(self) -> set[str]:
        """The checks that work, including those that need a condition."""
        return {check for check, o in self.outcomes().items() if o in HOLDS}


@dataclass(frozen=True, kw_only=True)
class UpgradeInputs:
    """Everything that an answer is made from. `suite`, `checks`: the current digests of the suite
    and of the exchange; `locks`: those of the two cells, by cell; `exchanged`: the exchange's
    results; `profile`: the features, families and formats that the user relies on."""

    all_: Collated
    device_class: str
    suite: str
    checks: str = ""
    exchanged: tuple[Result, ...] = ()
    locks: Mapping[str, Lock] = field(default_factory=dict)
    profile: Profile = DEFAULT

    @property
    def found(self) -> tuple[Result, ...]:
        """The results of the device class."""
        return self.all_.by_class.get(self.device_class, ())

    @property
    def loads(self) -> tuple[Result, ...]:
        """The exchange's results of the device class."""
        return tuple(e for e in self.exchanged if e.device_class == self.device_class)

    def loaded(self, cell: str) -> Result | None:
        """The result of loading other cells' checkpoints in a cell; None if it loaded none."""
        return next((exchanged for exchanged in self.loads if exchanged.cell == cell), None)

    def answers(self, origin: str, target: str) -> Answers:
        """How the checkpoints of `origin` loaded in `target`; empty if that was not tested."""
        there = self.loaded(target)
        return answers(there).get(origin, {}) if there else {}

    def side(self, cell: Cell, note: str = "", *, stands_in: str = "") -> Side:
        """A cell with its result, lock and state."""
        known = next((e for e in self.found if e.cell == cell.name), None)
        lock = self.locks.get(cell.name)
        state = self._state(cell, known, lock) if known else UNTESTED
        return Side(cell=cell, found=known, lock=lock, state=state, note=note, stands_in=stands_in)

    def _state(self, cell: Cell, known: Result, lock: Lock | None) -> str:
        """`FRESH`, or why its result is out of date. The wheels of this machine are not compared:
        they do not change what the result shows."""
        newer = moved(cell, known.pins)
        if newer:
            return ", ".join(f"{axis} {cell.pins[axis]} is out" for axis in newer)
        digest = lock.digest if lock else ""
        if known.outcome is CellOutcome.UNRESOLVABLE and lock is None:
            digest = asked_for(cell, self.all_.matrix, self.all_.releases)
        python = known.pins.get("python", "")
        suite = known.suite if known.outcome is CellOutcome.UNRESOLVABLE else self.suite
        return out_of_date(known, lock=digest, suite=suite, python=python) or FRESH


def nearest_class(
    known: Sequence[Result], cells: Sequence[str], preferred: str, classes: Sequence[str]
) -> str:
    """The device class to answer from: the first that has results of both cells, `preferred`
    before `classes`; `preferred` if none has."""
    there = {(e.cell, e.device_class) for e in known}
    both = (name for name in (preferred, *classes) if all((cell, name) in there for cell in cells))
    return next(both, preferred)


WORDS_FOR_INSTALLED = ("current", "FROM=current")

INSTALLED = "the installed combination"


class ChosenCell(NamedTuple):
    """The name of a cell, a note on how it was chosen, and what it stands for if it is only the
    nearest tested cell."""

    name: str
    note: str = ""
    stands_in: str = ""


def installed(there: Installed, cells: Sequence[CellRecord]) -> ChosenCell:
    """The tested cell with exactly the installed versions, else the nearest tested cell.

    Raises:
        UsageError: an axis is not installed or has an invalid version, or no cell was tested.
    """
    pins = doctor.pins_of(there)
    for axis in AXES:
        if axis not in pins:
            raise UsageError(
                f"current: {axis} is not installed in this environment; name a cell, or another "
                "environment with --python"
            )
        if not is_version(pins[axis]):
            raise UsageError(f'current: {axis} has no valid version: "{pins[axis]}"')
    same = [c.name for c in cells if all(c.pins[axis] == pins[axis] for axis in AXES)]
    if same:
        return ChosenCell(min(same), "FROM is the installed combination")
    near = nearest_cell.nearest(pins, cells)
    if near is None:
        raise UsageError("current: no tested cell is near the installed combination; name a cell")
    other = [f"{a} {near.pins[a]} (not {pins[a]})" for a in AXES if near.pins[a] != pins[a]]
    note = f"{INSTALLED} was not tested; the nearest tested cell is {near.name}, with "
    return ChosenCell(near.name, note + ", ".join(other), stands_in=INSTALLED)
