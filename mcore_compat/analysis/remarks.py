"""What is said of an environment."""

from __future__ import annotations

from dataclasses import dataclass, field

from mcore_compat.analysis.cell_record import CellRecord
from mcore_compat.analysis.grades import Grade

FAULT, KNOWN, NOTE = "fault", "known to fail", "note"
UNTESTED = {Grade.INFERRED: "inferred to fail", Grade.LIKELY: "likely to fail"}
"""Of releases that were not run, by how sure it is."""


@dataclass(frozen=True, kw_only=True)
class Remark:
    """One thing to say. `kind`: a `fault` of the installation itself, what is `known to fail` from
    a run, inferred or likely without one, or a `note`; `help`: what would change that; `cell`: by
    whose result; `file` and `line`: of the user's, where it is about one."""

    kind: str
    text: str
    help: str = ""
    file: str = ""
    line: int = 0
    cell: CellRecord | None = field(default=None, compare=False, repr=False)


def fault(text: str, remedy: str) -> Remark:
    """A fault of the installation, and what would change it."""
    return Remark(kind=FAULT, text=text, help=remedy)
