"""Remarks of `doctor` on an environment."""

from __future__ import annotations

from dataclasses import dataclass, field

from mcore_compat.analysis.cell_record import CellRecord
from mcore_compat.analysis.grades import Grade

FAULT, KNOWN, NOTE = "fault", "known to fail", "note"
UNTESTED = {Grade.INFERRED: "inferred to fail", Grade.LIKELY: "likely to fail"}
"""The kind of a remark on releases that were not run together, by grade."""


@dataclass(frozen=True, kw_only=True)
class Remark:
    """One remark. `kind`: `fault` (of the installation itself), `known to fail` (from a run),
    inferred or likely to fail (without one), or `note`; `help`: the remedy; `cell`: the cell whose
    result shows it; `file` and `line`: the place in a user's file, if it is about one."""

    kind: str
    text: str
    help: str = ""
    file: str = ""
    line: int = 0
    cell: CellRecord | None = field(default=None, compare=False, repr=False)


def fault(text: str, remedy: str) -> Remark:
    """Return a fault of the installation with its remedy."""
    return Remark(kind=FAULT, text=text, help=remedy)
