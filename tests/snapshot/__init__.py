"""The constraints of one day, which unit tests take for the project's: what a night commits turns
none of them red. What is committed by now is looked at in `test_committed_data.py` alone.

Made anew, where a test wants a release that is not in it, by copying `constraints/` here.
"""

from __future__ import annotations

import datetime
import functools
from pathlib import Path

import pytest

from mcore_compat.analysis.install_line import InstallFacts
from mcore_compat.core import matrix as matrices
from mcore_compat.core import releases as facts
from mcore_compat.core.matrix import Matrix
from mcore_compat.core.releases import Releases
from mcore_compat.core.workspace import VARIABLE, Workspace
from mcore_compat.publish import constraints_files
from mcore_compat.results.result import Result

WORKSPACE = Workspace(Path(__file__).resolve().parent)
DAY = datetime.date(2026, 11, 28)


def matrix() -> Matrix:
    """The matrix of that day, read on that day: none of its rules has expired."""
    return matrices.load(WORKSPACE.matrix, DAY)


def releases() -> Releases:
    """What was known of releases."""
    return facts.load(WORKSPACE.releases)


@functools.cache
def installs() -> InstallFacts:
    """By which environments are made."""
    return InstallFacts(matrix=matrix(), releases=releases())


def use(monkeypatch: pytest.MonkeyPatch, place: Workspace = WORKSPACE) -> None:
    """Let the program take these for the project's, as on that day."""
    monkeypatch.setenv(VARIABLE, str(place.root))
    monkeypatch.setattr(matrices.load, "__defaults__", (DAY,))


def workspace_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A workspace with these constraints and nothing else, which the program takes for its own."""
    place = Workspace(folder)
    place.constraints.symlink_to(WORKSPACE.constraints)
    use(monkeypatch, place)
    return place


def constraints(*results: Result) -> dict[str, str]:
    """By cell: the texts of the constraints files of results."""
    return constraints_files.texts(constraints_files.environments(results, installs()))
