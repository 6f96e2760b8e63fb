"""The words of the suite: families, features, outcomes, and how a check says more than works."""

from __future__ import annotations

FAMILIES = ("gpt", "mla-moe", "llama4-moe", "hybrid-mamba")
"""The model architectures; `suite.families` knows how each is built."""

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
"""What a person does with a stack, in the order in which people need it; a check is of one."""

WORKS = "works"
WORKS_WITH = "works-with"
BROKEN = "broken"
UNSUPPORTED = "unsupported"
NEEDS_GPU = "needs-gpu"
BLOCKED = "blocked"
CRASHED = "crashed"
TIMED_OUT = "timed-out"

FAILURES = frozenset({BROKEN, CRASHED, TIMED_OUT})
"""Outcomes of a prerequisite that make the checks after it `blocked`."""


class WorksWith(Exception):  # noqa: N818 (how a check ended, not an error)
    """With all defaults it fails as `refused` says; under `condition`, public Python code that a
    caller can paste, it holds and nothing is lost."""

    def __init__(self, condition: str, refused: BaseException) -> None:
        super().__init__(condition)
        self.condition = condition
        self.refused = refused


class Unsupported(Exception):  # noqa: N818 (a statement about the release, not an error)
    """The release does not have the feature; established by looking. The message says where."""


class NeedsGpu(Exception):  # noqa: N818 (a statement about the machine, not an error)
    """The check cannot be asked without a GPU; the message says why."""
