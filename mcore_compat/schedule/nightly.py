"""Checks for new releases and tests them: refresh → join → locks → cells → report and changes.

`new_releases` decides what is new and proposed, `results/comparison` what differs.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mcore_compat.base import data, file_group, files
from mcore_compat.base.data import DataError
from mcore_compat.base.errors import CompatError, MatrixError, UsageError
from mcore_compat.core import combinations, matrix, releases
from mcore_compat.core.cells import AXES, Cell, parsed, series_of
from mcore_compat.core.matrix import Matrix
from mcore_compat.core.releases import Release, Releases
from mcore_compat.core.workspace import Workspace
from mcore_compat.index import package_index
from mcore_compat.publish.rendering import render
from mcore_compat.results import comparison, store
from mcore_compat.results.result import REAL, Result, result_path
from mcore_compat.run import cells, machine, te_extension
from mcore_compat.run.context import Context
from mcore_compat.schedule import matrix_run, new_releases
from mcore_compat.schedule.jobs.job_options import JobOptions
from mcore_compat.schedule.matrix_run import MatrixResult
from mcore_compat.schedule.new_releases import NewRelease, Proposal
from mcore_compat.schedule.plan import CellStatus
from mcore_compat.schedule.survey import WHOLE, Shard, known_cells, survey


@dataclass(frozen=True, kw_only=True)
class NightOptions:
    """Options of a nightly run. `step`: only `prepare`, `cells` or `report`; `before`: a folder of
    earlier results to compare with."""

    jobs: int = 2
    shard: Shard = WHOLE
    step: str | None = None
    every: bool = False
    before: Path | None = None

    def does(self, step: str) -> bool:
        """Whether a step belongs to this run."""
        return self.step in (None, step)


@dataclass(frozen=True, kw_only=True)
class Refresh:
    """The outcome of a refresh, not yet written. `text`: that of matrix.toml; `declared`: the
    matrix that it declares."""

    known: Releases
    declared: Matrix
    text: str
    added: tuple[Release, ...]
    new: tuple[NewRelease, ...]
    proposals: tuple[Proposal, ...]
    joined: bool

    def description(self) -> str:
        """What is new and what the matrix lacks, in words."""
        proposed = {(proposal.package, proposal.series) for proposal in self.proposals}
        left = {
            gap.package: [s for s in (*gap.older, *gap.newer) if (gap.package, s) not in proposed]
            for gap in new_releases.missing(self.declared, self.known)
        }
        return render(
            "refresh.txt",
            added=self.added,
            new=self.new,
            proposals=self.proposals,
            joined=self.joined,
            left={package: series for package, series in left.items() if series},
        )


def ask(
    workspace: Workspace, say: Callable[[str], None], *, join: bool, allow_removals: bool = False
) -> Refresh:
    """Query the index; with `join`, the returned matrix has the new series.

    Raises:
        InfrastructureError: the index did not answer, or lacks releases that were known (unless
            with `allow_removals`).
        MatrixError: the matrix is not valid, or would not be with the new series.
    """
    try:
        before = releases.load(workspace.releases)
    except CompatError:
        before = Releases({})
    after = package_index.refresh(
        before, package_index.client(), say, allow_removals=allow_removals
    )
    declared = matrix.load(workspace.matrix)
    proposals = new_releases.proposals(declared, after)
    text = workspace.matrix.read_text(encoding="utf-8")
    if join:
        text = new_releases.join(text, proposals)
        declared = matrix.parse(text, workspace.matrix.name, datetime.date.today())
        combinations.cells(declared, after)  # raises if one of them has no release
    return Refresh(
        known=after,
        declared=declared,
        text=text,
        added=package_index.added(before, after),
        new=new_releases.news(kept(workspace), before, after),
        proposals=proposals,
        joined=join,
    )


def kept(workspace: Workspace) -> tuple[NewRelease, ...]:
    """The new releases whose cells have not all run.

    Raises:
        MatrixError: their file cannot be read.
    """
    path = workspace.new_releases
    try:
        return new_releases.loads(data.text_of(path))
    except FileNotFoundError:
        return ()
    except DataError as error:
        raise MatrixError(f"{path.name} cannot be read: {error}; remove it") from None


def write(refresh: Refresh, workspace: Workspace) -> None:
    """Write the outcome of a refresh, all files or none; unchanged files are not written.

    Raises:
        InfrastructureError: the disk is full or not writable; nothing was changed.
    """
    texts = {
        # New releases first: once releases.json has one, no later refresh finds it.
        workspace.new_releases: new_releases.dumps(refresh.new) if refresh.new else None,
        workspace.releases: releases.dumps(refresh.known),
        workspace.matrix: refresh.text,
    }
    file_group.write_all({path: text for path, text in texts.items() if _differs(path, text)})


def _differs(path: Path, text: str | None) -> bool:
    return (path.read_text(encoding="utf-8") if path.exists() else None) != text


def _keep(new: Sequence[NewRelease], path: Path) -> None:
    text = new_releases.dumps(new) if new else None
    if _differs(path, text):
        file_group.write_all({path: text})


def to_run(here: Context, new: Sequence[NewRelease], options: NightOptions) -> tuple[str, ...]:
    """The names of the cells that a nightly run runs."""
    parts = _by_extension(known_cells(here), here)
    states = [state for cells, how in parts for state in survey(cells, how)]
    return options.shard.part(new_releases.touched(states, new, every=options.every))


def prepare(here: Context, names: Sequence[str]) -> None:
    """Copy the results that newer patches will replace; create the locks."""
    states = survey([cell for cell in known_cells(here) if cell.name in names], here)
    keep_replaced(states, here.workspace.results)
    matrix_run.resolve(states, here)


def run_cells(names: Sequence[str], here: Context, jobs: JobOptions) -> MatrixResult:
    """Run the cells of a nightly run. Cells of default stacks run with Transformer Engine's real
    extension wherever it can be built, so that a stand-in is not published for them."""
    found = [cell for cell in known_cells(here) if cell.name in names]
    results = [
        matrix_run.run(survey(cells, how), how, jobs) for cells, how in _by_extension(found, here)
    ]
    return MatrixResult(
        states=tuple(state for result in results for state in result.states),
        failed={name: why for result in results for name, why in result.failed.items()},
        before={name: old for result in results for name, old in result.before.items()},
    )


def _by_extension(cells: Iterable[Cell], here: Context) -> list[tuple[list[Cell], Context]]:
    """The cells that run with the real extension, and all others, each with their context: default
    cells never run on a stand-in where the extension can be built."""
    every = [*cells]
    real = te_extension.buildable([cell for cell in every if cell.default], here)
    return [
        ([cell for cell in every if cell.name in real], replace(here, te_extension=REAL)),
        ([cell for cell in every if cell.name not in real], here),
    ]


def replaced() -> Path:
    """The folder of results of older patches, for the comparison."""
    return files.home() / "replaced"


def keep_replaced(states: Sequence[CellStatus], folder: Path) -> None:
    """Copy the results of older patches. After an interrupted run the copies of the first run stay:
    a cell that already ran with the newer patch is not copied again."""
    for state in states:
        if state.behind:
            path = result_path(state.cell.name, machine.device_class(), folder)
            old = store.load(path, whole=False)
            to = result_path(state.cell.name, old.device_class, replaced())
            files.write_text(to, store.dumps(old))


def check_folder(folder: Path | None) -> None:
    """Raises UsageError if the folder of earlier results does not exist."""
    if folder is not None and not folder.is_dir():
        raise UsageError(f"--before: {folder} is not a folder of results")


def earlier(folder: Path | None) -> tuple[Result, ...]:
    """Earlier results: in `folder`, and the copies of replaced ones."""
    places = (folder, replaced()) if folder is not None else (replaced(),)
    return tuple(each for place in places for each in cells.other_results(place))


def summary(
    new: Sequence[NewRelease], known: Releases, now: Sequence[Result], before: Sequence[Result]
) -> list[str]:
    """What each new release broke and fixed, as Markdown. Pure."""
    if not new:
        return ["No new release of megatron-core or ModelOpt."]
    lines = []
    for release in new:
        package, version = release.package, release.version
        lines += [f"## {package} {version}, of {known.get(package, version).uploaded[:10]}", ""]
        results = [e for e in now if e.complete and e.pins[package] == version]
        results.sort(key=lambda e: ([parsed(series_of(e.pins[axis])) for axis in AXES[:2]], e.cell))
        for result in results:
            lines += _compared(result, package, (*now, *before))
        lines += [""] if results else ["No cell ran.", ""]
    return lines


def _compared(result: Result, package: str, others: Sequence[Result]) -> list[str]:
    """Compare with the newest cell that was good; if a newer release was not good, with that,
    too."""
    good = comparison.baseline(result, package, others)
    last = comparison.baseline(result, package, others, good=False)
    if good is None:
        return [f"- `{result.cell}`: {result.outcome.value}; nothing older to compare with"]
    lines = comparison.lines(good, result, package)
    if last is not None and dict(last.pins) != dict(good.pins):
        lines += comparison.lines(last, result, package)
    return lines


def settle(here: Context, new: Sequence[NewRelease]) -> tuple[NewRelease, ...]:
    """Forget the new releases whose cells have all run; returns the others."""
    left = new_releases.unsettled(survey(known_cells(here), here), new)
    _keep(left, here.workspace.new_releases)
    return left
