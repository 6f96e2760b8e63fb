"""The outcomes of checks and cells; `core.profiles` derives the latter from the former.

Pure: no I/O. The words are those of the published tables.
"""

from __future__ import annotations

from enum import StrEnum


class CheckOutcome(StrEnum):
    """The outcome of one check."""

    WORKS = "works"
    WORKS_WITH = "works-with"
    BROKEN = "broken"
    UNSUPPORTED = "unsupported"
    NEEDS_GPU = "needs-gpu"
    BLOCKED = "blocked"
    CRASHED = "crashed"
    TIMED_OUT = "timed-out"


class CellOutcome(StrEnum):
    """The outcome of a cell. `ERROR` is never published as incompatibility."""

    COMPATIBLE = "compatible"
    PARTIAL = "partial"
    INCOMPATIBLE = "incompatible"
    UNRESOLVABLE = "unresolvable"
    UNBUILDABLE = "unbuildable"
    UNTESTED = "untested"
    ERROR = "error"


HOLDS = frozenset({CheckOutcome.WORKS, CheckOutcome.WORKS_WITH})
"""Outcomes whose assertion held: with all defaults, or under one public condition."""

FAILURES = frozenset({CheckOutcome.BROKEN, CheckOutcome.CRASHED, CheckOutcome.TIMED_OUT})
"""Outcomes that count against a combination; `blocked` follows from one of them."""

FAILS = frozenset({*FAILURES, CheckOutcome.BLOCKED})
"""A blocked check could not run because an earlier one failed: it counts as a failure."""

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
"""What a person does with a stack, in the order in which people need it and tables show it. Other
features that the suite names come after these."""

CORE_KIND = "restore"
"""The project's central kind of check: restore a default-spec checkpoint into the ModelOpt spec."""
