"""What a run needs beside its cell: the declared matrix, the facts, how processes are run."""

from __future__ import annotations

import sys

from mcore_compat.base import processes
from mcore_compat.core import matrix, releases
from mcore_compat.run import pipeline
from mcore_compat.run.pipeline import Context


def say(line: str) -> None:
    """Progress; on stderr, so that a verdict can be piped."""
    print(line, file=sys.stderr, flush=True)


def context() -> Context:
    """The declared matrix and the facts, loaded; uv, found."""
    return Context(
        matrix=matrix.load(),
        releases=releases.load(),
        run=processes.run,
        say=say,
        uv=pipeline.find_uv(),
    )
