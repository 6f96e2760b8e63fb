"""The outcomes of checks and cells; how the one follows from the other is told by `core.profiles`.

Pure: no I/O. The words are those of the published tables.
"""

from __future__ import annotations

from enum import StrEnum


class CheckOutcome(StrEnum):
    """How one check ended; exactly one of these."""

    WORKS = "works"
    WORKS_WITH = "works-with"
    BROKEN = "broken"
    UNSUPPORTED = "unsupported"
    NEEDS_GPU = "needs-gpu"
    BLOCKED = "blocked"
    CRASHED = "crashed"
    TIMED_OUT = "timed-out"


class CellOutcome(StrEnum):
    """How a cell ended; exactly one of these. `ERROR` is never published as incompatibility."""

    COMPATIBLE = "compatible"
    PARTIAL = "partial"
    INCOMPATIBLE = "incompatible"
    UNRESOLVABLE = "unresolvable"
    UNBUILDABLE = "unbuildable"
    UNTESTED = "untested"
    ERROR = "error"


HOLDS = frozenset({CheckOutcome.WORKS, CheckOutcome.WORKS_WITH})
"""Outcomes of which the assertion held: with all defaults, or under one public condition."""

FAILURES = frozenset({CheckOutcome.BROKEN, CheckOutcome.CRASHED, CheckOutcome.TIMED_OUT})
"""Outcomes that speak against a combination; `blocked` follows from one of them."""

FAILS = frozenset({*FAILURES, CheckOutcome.BLOCKED})
"""A blocked check could not be asked because one before it failed: it does not work either."""

FEATURES = (
    "install",
    "interface",
    "restore",
    "quantize",
    "quantize-te",
    "restore-back",
    "parallel",
    "inference",
)
"""What a person does with a stack, in the order in which people need it: an order to show them in.
One that the suite names and that is not among them comes after these."""

CORE_KIND = "restore"
"""The kind of check that the project exists for: default-spec checkpoint into ModelOpt spec."""
