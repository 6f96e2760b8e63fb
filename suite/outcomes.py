"""The words of the suite: families, outcomes, and how a check says that it cannot be asked."""

from __future__ import annotations

FAMILIES = ("gpt", "mla-moe", "llama4-moe", "hybrid-mamba")
"""The model architectures; `suite.families` knows how each is built."""

WORKS = "works"
BROKEN = "broken"
UNSUPPORTED = "unsupported"
NEEDS_GPU = "needs-gpu"
BLOCKED = "blocked"
CRASHED = "crashed"
TIMED_OUT = "timed-out"

FAILURES = frozenset({BROKEN, CRASHED, TIMED_OUT})
"""Outcomes of a prerequisite that make the checks after it `blocked`."""


class Unsupported(Exception):  # noqa: N818 (a statement about the release, not an error)
    """The release does not have the feature; established by looking. The message says where."""


class NeedsGpu(Exception):  # noqa: N818 (a statement about the machine, not an error)
    """The check cannot be asked without a GPU; the message says why."""
