"""Makes all published files from the results; the only place that knows every feature which
publishes something."""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mcore_compat.base import file_group, files
from mcore_compat.base.errors import InfrastructureError
from mcore_compat.core import (
    combinations,
    matrix,
    profiles,
    releases,
    source_digests,
    workspace,
)
from mcore_compat.core.matrix import Matrix
from mcore_compat.core.profiles import DEFAULT
from mcore_compat.core.workspace import Workspace
from mcore_compat.exchange import report as exchange_report
from mcore_compat.exchange import run as exchange_run
from mcore_compat.publish import collation, over_base, part_reports, report, site
from mcore_compat.publish.report import Text
from mcore_compat.publish.site import staleness
from mcore_compat.publish.site.view import Site
from mcore_compat.resolve import locks
from mcore_compat.results import large_values, repairs, store, verdict, verdict_index
from mcore_compat.results.result import Result
from mcore_compat.run import cells
from mcore_compat.run.check_sets import EXCHANGE, MAIN
from mcore_compat.upgrade import examples

Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Publication:
    """What the published files are made from."""

    workspace: Workspace
    declared: Matrix
    results: Sequence[Result]
    exchanged: Sequence[Result]
    collated: collation.Collated

    @property
    def texts(self) -> Mapping[Path, Text]:
        """By file but the site's: the function that makes its text."""
        return {**self.texts_of_all, **self.texts_of_each}

    @functools.cached_property
    def texts_of_each(self) -> Mapping[Path, Text]:
        """Those that show one result after the other."""
        return report.of_each(self.collated, self.workspace.reports)

    @functools.cached_property
    def texts_of_all(self) -> Mapping[Path, Text]:
        """Those that follow from all results together."""
        place = self.workspace
        outdated = exchange_run.outdated(self.exchanged, place)
        exchange_texts = exchange_report.texts(self.exchanged, outdated)
        return {
            **report.of_all(self.collated, place.reports),
            **{
                place.reports / name: functools.partial(str, text)
                for name, text in exchange_texts.items()
            },
            **examples.texts(self.collated, self.exchanged, place),
            **part_reports.texts(place),
        }


def collect() -> Publication:
    """All results, and the files that are made from them.

    Raises:
        InfrastructureError: verdicts are published, but no results exist.
    """
    place = workspace.find()
    declared = matrix.load(place.matrix)
    known = releases.load(place.releases)
    gc.disable()  # nearly all objects live until the process ends
    results = store.load_all(place.results)
    if not results and verdict_index.has_any(place.verdicts):
        where = files.shown(place.results)
        raise InfrastructureError(
            f"{where} has no results, but verdicts are published; restore the results, or remove "
            f"{files.shown(place.verdicts)}"
        )
    declared_cells = combinations.cells(declared, known)
    collated = collation.collate(
        results,
        declared_cells,
        declared,
        known,
        over_base.load_all(place),
        repairs.load_all(results, place.results),
    )
    exchanged = store.load_all(place.results, EXCHANGE.name)
    return Publication(
        workspace=place,
        declared=declared,
        results=collated.found,
        exchanged=exchanged,
        collated=collated,
    )


def check(tell: Tell) -> int:
    """Print which published files differ from what the results make; the exit code."""
    published = collect()
    drifted = report.drift(published.texts)
    for path in drifted:
        tell(f"{files.shown(path)} is out of date; write it with: nox -s report")
    unpacked = large_values.unpacked(published.workspace.results)
    for path in unpacked:
        tell(f"{files.shown(path)} is not packed; pack it with: nox -s report")
    code = cells.outlived(published.results, published.declared, every=True)
    return code or (1 if drifted or unpacked else 0)


def write(tell: Tell) -> int:
    """Write all files or none, print each cell's verdict and the files; the exit code.

    Raises:
        InfrastructureError: the disk is full or not writable; no file was changed.
    """
    published = collect()
    with file_group.Changes() as changes:
        pages = _stage_all(published, changes)
        for path in report.outdated(published.texts):
            changes.remove(path)
        with large_values.lock():
            large_values.stage(published.workspace.results, changes)
            changes.commit()
    for result in published.results:
        why = (
            result.reason.message
            if result.reason
            else "; ".join(profiles.counted(result.points, DEFAULT)) or "nothing"
        )
        tell(f"{result.cell} ({result.device_class}): {verdict.spelt(result.outcome)}; {why}")
    named = [path for path in published.texts if path.parent == published.workspace.reports]
    names = ", ".join(files.shown(path) for path in named)
    rest = len(published.texts) - len(named)
    tell(f"{names}, {rest} texts for upstream, files of constraints and examples of upgrades")
    folder = files.shown(published.workspace.reports / site.FOLDER)
    tell(f"{folder}/index.html and {pages - 1} other files")
    return cells.outlived(published.results, published.declared, every=True)


def _stage_all(published: Publication, changes: file_group.Changes) -> int:
    """Write `reports/site/` into a folder beside it, and the other files beside theirs; returns the
    number of files of the site.

    Raises:
        MatrixError: the digests of sources are not valid.
        LockError: a lock is damaged, so whether its results are up to date is unknown.
    """
    place, collated = published.workspace, published.collated
    paths = {e.cell: place.lock(e.cell) for e in collated.found}
    digests = {name: locks.digest_at(path) for name, path in paths.items() if path.exists()}
    why = staleness.stale(collated, MAIN.digest(place.suite), digests)
    pages, also = site.halves(Site(collated, why, source_digests.load(place.digests)))
    changes.expect(published.texts_of_each)
    # The texts come last: what pages and texts need of all results is then known already.
    return changes.write_folder(
        place.reports / site.FOLDER,
        pages,
        also,
        then=lambda: report.stage(published.texts_of_all, changes),
        also_then=lambda: report.stage(published.texts_of_each, changes),
    )
