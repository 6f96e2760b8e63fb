"""What a run needs beside its cell: the matrix, the releases, and how to run processes."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mcore_compat.base import foreign, processes
from mcore_compat.base.errors import InfrastructureError
from mcore_compat.base.processes import Runner
from mcore_compat.core import matrix, releases, workspace
from mcore_compat.core.matrix import Matrix
from mcore_compat.core.profiles import Profile
from mcore_compat.core.releases import Releases
from mcore_compat.core.workspace import Workspace
from mcore_compat.run.profile_words import ProfileWords


@dataclass(frozen=True, kw_only=True)
class Options:
    """How checks run. `limit`: time limit of a check in seconds, None: each its own; `only`: words
    that select checks; `force`: run also if the result is up to date; `publish`: store into the
    published results instead of this machine's own (`run.own`)."""

    force: bool = False
    publish: bool = False
    only: str | None = None
    limit: float | None = None


@dataclass(frozen=True, kw_only=True)
class Context:
    """What every stage needs; `run` runs processes, `say` prints progress. `te_extension`: the one
    of the option, None: whichever is available (`run.te_extension`)."""

    workspace: Workspace
    matrix: Matrix
    releases: Releases
    run: Runner
    say: Callable[[str], None]
    uv: Path
    te_extension: str | None = None
    profile: Profile | None = None
    """The profile of the option, for verdicts; None: `default`."""


def say(line: str) -> None:
    """Print progress on stderr, so that a verdict can be piped. If stderr cannot be written, the
    run continues: its stored result and its exit code give the outcome."""
    with contextlib.suppress(OSError, ValueError):
        # Output of foreign programs must not control the terminal.
        print(foreign.plain(line), file=sys.stderr, flush=True)


def context(te_extension: str | None = None, profile: ProfileWords | None = None) -> Context:
    """Find the workspace and uv, and load the matrix and the releases.

    Raises:
        CompatError: not a workspace, a file in it is not valid, or uv is missing.
    """
    place = workspace.find()
    declared = matrix.load(place.matrix)
    return Context(
        workspace=place,
        matrix=declared,
        releases=releases.load(place.releases),
        run=processes.run,
        say=say,
        uv=find_uv(),
        te_extension=te_extension,
        profile=profile.profile(declared, place.suite) if profile else None,
    )


def find_uv() -> Path:
    """The `uv` beside this Python, else the one on PATH.

    Raises:
        InfrastructureError: uv is missing.
    """
    try:
        import uv

        return Path(uv.find_uv_bin())
    except (ImportError, FileNotFoundError):
        path = shutil.which("uv")
    if path is None:
        raise InfrastructureError("uv was not found; install this package with its dependencies")
    return Path(path)
