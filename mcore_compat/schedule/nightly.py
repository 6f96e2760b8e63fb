"""Keeping up with the index: refresh → join → locks → cells → report and what changed.

Thin: what is new, what is proposed and what differs is decided in `keepup` and `compare`.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mcore_compat.base import files
from mcore_compat.base.errors import CompatError, UsageError
from mcore_compat.core import combinations, matrix, releases
from mcore_compat.core.cells import series_of
from mcore_compat.core.matrix import Matrix
from mcore_compat.core.releases import Release, Releases
from mcore_compat.index import package_index
from mcore_compat.results import comparison, evidence
from mcore_compat.results.evidence import Evidence
from mcore_compat.run import pipeline
from mcore_compat.run.pipeline import Context
from mcore_compat.schedule import matrix_run, new_releases
from mcore_compat.schedule.new_releases import NewRelease, Proposal
from mcore_compat.schedule.plan import CellState
from mcore_compat.schedule.selection import WHOLE, Selection, Shard, known_cells
from mcore_compat.schedule.survey import survey

STEPS = ("prepare", "cells", "report")


@dataclass(frozen=True, kw_only=True)
class NightOptions:
    """How a night goes. `step`: one of `STEPS` alone; `before`: a folder of evidence that was
    there earlier, to compare with."""

    jobs: int = 2
    shard: Shard = WHOLE
    step: str | None = None
    every: bool = False
    before: Path | None = None

    def does(self, step: str) -> bool:
        """Whether a step belongs to this run."""
        return self.step in (None, step)


@dataclass(frozen=True, kw_only=True)
class Refreshed:
    """What a refresh came to; nothing is written yet. `text` is matrix.toml's, `declared` what
    it says."""

    known: Releases
    declared: Matrix
    text: str
    added: tuple[Release, ...]
    new: tuple[NewRelease, ...]
    proposals: tuple[Proposal, ...]
    joined: bool

    def lines(self) -> Iterator[str]:
        """What is new and what the matrix lacks, in words."""
        for release in self.added:
            yield f"new: {release.package} {release.version} of {release.uploaded[:10]}"
        if not self.added:
            yield "nothing new"
        for new in self.new:
            yield f"to be run: the cells of {new.package} {new.version}; nox -s nightly"
        for proposal in self.proposals:
            done = self.joined and not proposal.refused
            yield f"{'joins the matrix' if done else 'not in the matrix'}: {proposal.line()}"
        if not self.joined and any(not p.refused for p in self.proposals):
            yield "they join by: nox -s refresh -- --join"
        for lack in new_releases.missing(self.declared, self.known):
            proposed = {p.series for p in self.proposals if p.package == lack.package}
            rest = [s for s in (*lack.older, *lack.newer) if s not in proposed]
            if rest:
                yield f"not on its axis, and left to you: {lack.package} {', '.join(rest)}"


def ask(say: Callable[[str], None], *, join: bool) -> Refreshed:
    """Ask the index; with `join`, new series are on the matrix that is returned.

    Raises:
        InfrastructureError: the index did not answer.
        MatrixError: the matrix is not valid, or would not be with what joins it.
    """
    try:
        before = releases.load()
    except CompatError:
        before = Releases({})
    after = package_index.refresh(before, package_index.client(), say)
    declared = matrix.load()
    proposed = new_releases.proposals(declared, after)
    text = matrix.PATH.read_text(encoding="utf-8")
    if join:
        text = new_releases.join(text, proposed)
        declared = checked(text, after)
    return Refreshed(
        known=after,
        declared=declared,
        text=text,
        added=package_index.added(before, after),
        new=new_releases.news(kept(), before, after),
        proposals=proposed,
        joined=join,
    )


def checked(text: str, known: Releases) -> Matrix:
    """The matrix of a text, whose every cell there is. Raises MatrixError where it is not valid."""
    declared = matrix.parse(text, matrix.PATH.name, datetime.date.today())
    combinations.cells(declared, known)
    return declared


def kept(path: Path = new_releases.PATH) -> tuple[NewRelease, ...]:
    """The new releases of which cells are still to be run."""
    return new_releases.loads(path.read_text(encoding="utf-8")) if path.exists() else ()


def write(found: Refreshed) -> None:
    """Write what a refresh came to; files that would be the same are left alone."""
    # What is new first: once the release is known, no later refresh would see it.
    _keep(found.new)
    texts = {releases.PATH: releases.dumps(found.known), matrix.PATH: found.text}
    for path, text in texts.items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            files.write_text(path, text)


def _keep(new: Sequence[NewRelease], path: Path = new_releases.PATH) -> None:
    if not new:
        path.unlink(missing_ok=True)
    elif not path.exists() or path.read_text(encoding="utf-8") != new_releases.dumps(new):
        files.write_text(path, new_releases.dumps(new))


def to_run(here: Context, new: Sequence[NewRelease], options: NightOptions) -> tuple[str, ...]:
    """The names of the cells that a night runs."""
    known = survey(known_cells(here), here)
    return options.shard.part(new_releases.touched(known, new, every=options.every))


def selection(names: Sequence[str]) -> Selection:
    """Those cells and no other."""
    return Selection(names=tuple(names))


def prepare(here: Context, names: Sequence[str]) -> None:
    """Keep the evidence that newer patches will replace; make the locks."""
    cells = [cell for cell in known_cells(here) if cell.name in names]
    known = survey(cells, here)
    keep_replaced(known)
    matrix_run.resolve(known, here)


def replaced() -> Path:
    """Where evidence of older patches is kept for the comparison."""
    return files.home() / "replaced"


def keep_replaced(known: Sequence[CellState]) -> None:
    """Copy evidence of older patches away. A run that was cut short finds the copies of the first
    one: what is not behind any more is not copied."""
    for one in known:
        path = evidence.path_of(one.cell.name, pipeline.device_class())
        if one.behind:
            found = evidence.load(path, validate=False, whole=False)
            to = evidence.path_of(one.cell.name, found.device_class, replaced())
            files.write_text(to, evidence.dumps(found))


def earlier(folder: Path | None, say: Callable[[str], None]) -> tuple[Evidence, ...]:
    """Evidence that was there before: in `folder`, and kept when it was replaced.

    Raises:
        UsageError: there is no such folder.
    """
    if folder is not None and not folder.is_dir():
        raise UsageError(f"--before: {folder} is not a folder of evidence")
    places = (folder, replaced()) if folder is not None else (replaced(),)
    return tuple(one for place in places for one in all_in(place, say))


def all_in(folder: Path, say: Callable[[str], None]) -> Iterator[Evidence]:
    """All evidence below `folder`; one corrupt file must not take a night's summary away."""
    for path in sorted(folder.glob("compat-*/*.json")):
        try:
            yield evidence.load(path, validate=False, whole=False)
        except CompatError as error:
            say(f"mcore-compat: passed over: {error}")


def summary(
    new: Sequence[NewRelease], known: Releases, now: Sequence[Evidence], before: Sequence[Evidence]
) -> list[str]:
    """What each new release broke and fixed, as Markdown. Pure."""
    if not new:
        return ["No new release of megatron-core or ModelOpt."]
    said = []
    for one in new:
        uploaded = known.get(one.package, one.version).uploaded[:10]
        said += [f"## {one.package} {one.version}, of {uploaded}", ""]
        mine = [e for e in now if e.complete and e.pins[one.package] == one.version]
        for found in sorted(mine, key=_order):
            said += _compared(found, one.package, (*now, *before))
        if not mine:
            said.append("No cell was run.")
        said.append("")
    return said


def _order(found: Evidence) -> tuple[tuple[int, ...], str]:
    series = (series_of(found.pins[axis]) for axis in ("megatron-core", "nvidia-modelopt"))
    return tuple(int(part) for one in series for part in one.split(".")), found.cell


def _compared(found: Evidence, package: str, others: Sequence[Evidence]) -> list[str]:
    """Against the newest known-good cell; where a newer release was no good, against that too."""
    good = comparison.baseline(found, package, others)
    last = comparison.baseline(found, package, others, good=False)
    if good is None:
        return [f"- `{found.cell}`: {found.outcome.value}; nothing older to compare with"]
    said = comparison.lines(good, found, package)
    if last is not None and dict(last.pins) != dict(good.pins):
        said += comparison.lines(last, found, package)
    return said


def settle(here: Context, new: Sequence[NewRelease]) -> tuple[NewRelease, ...]:
    """Forget the new releases of which every cell has been run; what is left."""
    left = new_releases.unsettled(survey(known_cells(here), here), new)
    _keep(left)
    return left


def with_(here: Context, found: Refreshed) -> Context:
    """The same surroundings with what a refresh came to."""
    return replace(here, matrix=found.declared, releases=found.known)
