"""What a run needs beside its cell: the declared matrix, the facts, how processes are run."""

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
    """How checks are run. `limit`: seconds that one may take at most, None: each its own limit;
    `only`: words that checks match; `force`: also where the result is up to date; `publish`: into
    the published results, not this machine's own (`run.own`)."""

    force: bool = False
    publish: bool = False
    only: str | None = None
    limit: float | None = None


@dataclass(frozen=True, kw_only=True)
class Context:
    """What every stage needs; `run` is the one door to processes, `say` prints progress.
    `te_extension`: the one that is asked for, None: whichever there is (`run.te_extension`)."""

    workspace: Workspace
    matrix: Matrix
    releases: Releases
    run: Runner
    say: Callable[[str], None]
    uv: Path
    te_extension: str | None = None
    profile: Profile | None = None
    """For whom verdicts are given, where that was asked; None: `default`."""


def say(line: str) -> None:
    """Progress; on stderr, so that a verdict can be piped. Where nobody can read it, a run goes on
    all the same: what it came to is told by what it stores and by its exit code."""
    with contextlib.suppress(OSError, ValueError):
        # Of what foreign programs print nothing may steer the terminal.
        print(foreign.plain(line), file=sys.stderr, flush=True)


def context(te_extension: str | None = None, profile: ProfileWords | None = None) -> Context:
    """The workspace that is meant, its matrix and the facts, loaded; uv, found.

    Raises:
        CompatError: what is named is no workspace, a file of it is not valid, or there is no uv.
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
        InfrastructureError: there is none.
    """
    try:
        import uv

        return Path(uv.find_uv_bin())
    except (ImportError, FileNotFoundError):
        path = shutil.which("uv")
    if path is None:
        raise InfrastructureError("uv was not found; install this package with its dependencies")
    return Path(path)
