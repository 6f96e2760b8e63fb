"""Where the matrix, its locks, the results and what is published lie: a workspace.

A workspace is a folder with `constraints/matrix.toml`. The installed package carries a snapshot of
one, which answers questions everywhere and is never written to.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from mcore_compat.base import files
from mcore_compat.base.errors import InfrastructureError, UsageError

VARIABLE = "MCORE_COMPAT_WORKSPACE"
PACKAGE = Path(__file__).resolve().parents[1]
SNAPSHOT = PACKAGE / "snapshot"
CARRIED = (
    "constraints",
    "reports/compatibility.json",
    "reports/constraints",
    "reports/results",
    "reports/verdicts.json",
)
"""What a snapshot has of a workspace; the suite comes with it (`pyproject.toml` names the same)."""


class _Within:
    """A path of a workspace, below its root."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __get__(self, workspace: Workspace, owner: type[Workspace]) -> Path:
        return workspace.root / self._path


@dataclass(frozen=True)
class Workspace:
    """The files of one workspace, by what they are; none of them need be there. `machine`: whose
    own results are meant (`run.own`); empty: those that are published."""

    root: Path
    machine: str = ""

    constraints = _Within("constraints")
    matrix = _Within("constraints/matrix.toml")
    releases = _Within("constraints/releases.json")
    new_releases = _Within("constraints/news.json")
    interfaces = _Within("constraints/interfaces")
    """What each release's Python interface is (`mcore_compat.api`)."""

    digests = _Within("constraints/digests.json")
    """Of the source files that published causes are about (`core.source_digests`)."""

    locks = _Within("constraints/locks")
    suite_tools = _Within("constraints/suite-tools.txt")
    """The lock of what the suite needs beside the packages under test."""

    reports = _Within("reports")
    published_results = _Within("reports/results")
    over_base = _Within("reports/over-base")
    """Results that are of no locked cell (`mcore_compat.publish.over_base`)."""

    published = _Within("reports/compatibility.json")
    verdicts = _Within("reports/verdicts.json")
    """The verdicts alone, for `nox -l`."""

    @property
    def results(self) -> Path:
        """Where the results lie that are meant: a folder a cell."""
        own = self.root / "own-results" / self.machine
        return own if self.machine else self.published_results

    def lock(self, cell: str) -> Path:
        """Where a cell's lock lies."""
        return self.locks / f"{cell}.txt"

    @property
    def containers(self) -> Path:
        """What is known of containers: the workspace's file, else the package's."""
        name = "constraints/containers.toml"
        places = (self.root / name, SNAPSHOT / name, PACKAGE.parent / name)
        return next((place for place in places if place.is_file()), places[0])

    @property
    def suite(self) -> Path:
        """The suite: that of the workspace, else the package's."""
        own = self.root / "suite"
        places = (own, SNAPSHOT / "suite", PACKAGE.parent / "suite")
        return next((place for place in places if (place / "run.py").exists()), own)

    @property
    def is_snapshot(self) -> bool:
        return self.root == SNAPSHOT

    def need_writable(self) -> None:
        """Raises UsageError where this is the snapshot that the package carries."""
        if self.is_snapshot:
            raise UsageError(
                "this folder is no workspace, and the package's own snapshot is only read; make "
                "one: mcore-compat init FOLDER, or name one: --workspace FOLDER"
            )


def find() -> Workspace:
    """The workspace that is meant: `$MCORE_COMPAT_WORKSPACE` (which `--workspace` sets), else the
    working directory, else the checkout that this package was installed from in place, else the
    snapshot in the package.

    Raises:
        UsageError: what is named is no workspace.
    """
    named = os.environ.get(VARIABLE)
    if named:
        # Not by pathlib, which does not know what to do with a user who is none, or with a circle.
        workspace = Workspace(Path(os.path.realpath(os.path.expanduser(named))))
        try:
            why = "" if workspace.matrix.is_file() else "it has no constraints/matrix.toml"
        except OSError as error:
            why = f"it cannot be looked into ({error.strerror})"
        if why:
            raise UsageError(f"{named} is no workspace: {why}")
        return workspace
    roots = (Path.cwd(), PACKAGE.parent)
    places = (Workspace(root) for root in roots)
    return next((place for place in places if place.matrix.is_file()), Workspace(SNAPSHOT))


def make(folder: Path) -> Workspace:
    """A workspace of one's own, with what this package brings: whole, or not there.

    Raises:
        UsageError: there is one already, or something that is no folder.
        InfrastructureError: the disk is full or not writable; there is no workspace then.
    """
    if file := files.in_the_way(folder / "constraints"):
        raise UsageError(f"{file} is there, and no folder")
    if (folder / "constraints").exists():
        raise UsageError(f"{folder} has constraints/ already; name another folder")
    source = SNAPSHOT if SNAPSHOT.is_dir() else PACKAGE.parent
    try:
        with files.disk_errors(folder):
            _copy(source, folder)
    except shutil.Error as error:  # of a folder: what failed, file by file
        raise InfrastructureError(f"cannot write {folder}: {error.args[0][0][2]}") from None
    return Workspace(folder.resolve())


def _copy(source: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    # What makes it a workspace comes last, and at once: one that is half made is none.
    part = folder / ".constraints.part"
    shutil.rmtree(part, ignore_errors=True)
    for name in CARRIED:
        target = part if name == "constraints" else folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (source / name).is_dir():
            shutil.copytree(source / name, target, dirs_exist_ok=True)
        elif (source / name).exists():
            shutil.copyfile(source / name, target)
    part.rename(folder / "constraints")
