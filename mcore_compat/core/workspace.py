"""The workspace: the folder of the matrix, the locks, the results and the published files.

A workspace is a folder with `constraints/matrix.toml`. The installed package contains a read-only
snapshot of one, so that its commands work everywhere.
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
"""The parts of a workspace in a snapshot, beside the suite (`pyproject.toml` names the same)."""


class _Within:
    """A path below the workspace's root."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __get__(self, workspace: Workspace, owner: type[Workspace]) -> Path:
        return workspace.root / self._path


@dataclass(frozen=True)
class Workspace:
    """The paths of one workspace; the files may be missing. `machine`: use this machine's own
    results (`run.own`); empty: the published ones."""

    root: Path
    machine: str = ""

    constraints = _Within("constraints")
    matrix = _Within("constraints/matrix.toml")
    releases = _Within("constraints/releases.json")
    new_releases = _Within("constraints/news.json")
    interfaces = _Within("constraints/interfaces")
    """The Python interface of each release (`mcore_compat.api`)."""

    digests = _Within("constraints/digests.json")
    """Of the source files that published causes are about (`core.source_digests`)."""

    version_ranges = _Within("constraints/version_ranges.json")
    """Versions of other packages that each release's code accepts (`around.release_ranges`)."""

    locks = _Within("constraints/locks")
    suite_tools = _Within("constraints/suite-tools.txt")
    """The lock of the suite's own tools, such as pytest."""

    reports = _Within("reports")
    published_results = _Within("reports/results")
    over_base = _Within("reports/over-base")
    """Results that do not belong to a locked cell (`mcore_compat.publish.over_base`)."""

    published = _Within("reports/compatibility.json")
    verdicts = _Within("reports/verdicts.json")
    """Only the verdicts, for `nox -l`."""

    @property
    def results(self) -> Path:
        """The folder of the results, with one folder a cell."""
        own = self.root / "own-results" / self.machine
        return own if self.machine else self.published_results

    def lock(self, cell: str) -> Path:
        """The path of a cell's lock."""
        return self.locks / f"{cell}.txt"

    @property
    def containers(self) -> Path:
        """The file of known containers: the workspace's, else the package's."""
        name = "constraints/containers.toml"
        places = (self.root / name, SNAPSHOT / name, PACKAGE.parent / name)
        return next((place for place in places if place.is_file()), places[0])

    @property
    def suite(self) -> Path:
        """The suite: the workspace's, else the package's."""
        own = self.root / "suite"
        places = (own, SNAPSHOT / "suite", PACKAGE.parent / "suite")
        return next((place for place in places if (place / "run.py").exists()), own)

    @property
    def is_snapshot(self) -> bool:
        return self.root == SNAPSHOT

    def need_writable(self) -> None:
        """Raise UsageError if this is the package's read-only snapshot."""
        if self.is_snapshot:
            raise UsageError(
                "this folder is not a workspace, and the package's snapshot is read-only; make "
                "one: mcore-compat init FOLDER, or name one: --workspace FOLDER"
            )


def find() -> Workspace:
    """The current workspace: `$MCORE_COMPAT_WORKSPACE` (which `--workspace` sets), else the working
    directory, else the checkout of an editable installation, else the snapshot in the package.

    Raises:
        UsageError: the named folder is not a workspace.
    """
    named = os.environ.get(VARIABLE)
    if named:
        # Not pathlib, which fails on an unknown user and on a symlink loop.
        workspace = Workspace(Path(os.path.realpath(os.path.expanduser(named))))
        try:
            why = "" if workspace.matrix.is_file() else "it has no constraints/matrix.toml"
        except OSError as error:
            why = f"it cannot be read ({error.strerror})"
        if why:
            raise UsageError(f"{named} is not a workspace: {why}")
        return workspace
    roots = (Path.cwd(), PACKAGE.parent)
    places = (Workspace(root) for root in roots)
    return next((place for place in places if place.matrix.is_file()), Workspace(SNAPSHOT))


def make(folder: Path) -> Workspace:
    """Make a new workspace from this package's content, completely or not at all.

    Raises:
        UsageError: one exists already, or a file is in the way.
        InfrastructureError: the disk is full or not writable; no workspace is left behind.
    """
    if file := files.in_the_way(folder / "constraints"):
        raise UsageError(f"{file} exists and is not a folder")
    if (folder / "constraints").exists():
        raise UsageError(f"{folder} has constraints/ already; name another folder")
    source = SNAPSHOT if SNAPSHOT.is_dir() else PACKAGE.parent
    try:
        with files.disk_errors(folder):
            _copy(source, folder)
    except shutil.Error as error:  # of copytree: a list of the failures
        raise InfrastructureError(f"cannot write {folder}: {error.args[0][0][2]}") from None
    return Workspace(folder.resolve())


def _copy(source: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    # The matrix makes it a workspace: move it last, in one step.
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
