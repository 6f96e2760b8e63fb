"""This machine's own runs, and what is published held against them.

A clone brings results of other machines. Who runs a cell in it wants to know what happens here: so
the suite is run although a published result is up to date, and nothing that is published changes
(`git status` stays clean, and nobody's results get into a commit unseen). A machine's own results
lie in `own-results/MACHINE/`, which git ignores, in the one format, a folder a cell; up to date is
a cell that was run on the machine of that name, in that workspace, with the same lock, suite and
Python. They are read by `run`, and by `show` and `explain` of a cell of which nothing is published.

What makes results to be published works on `reports/results` alone, as if there were no own runs:
`matrix`, `nightly`, `explore`, `bisect`, `upgrade`, `exchange`, `collect`, and `run --publish`,
which is what a job of a matrix is.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator
from dataclasses import replace

from mcore_compat.base.errors import EvidenceError
from mcore_compat.core.cells import Cell
from mcore_compat.core.workspace import Workspace
from mcore_compat.results import comparison, evidence, store
from mcore_compat.results.comparison import Change
from mcore_compat.results.evidence import MAIN, Evidence
from mcore_compat.run import machine
from mcore_compat.run.context import Context, Options

MOST = 10
"""Checks that are named, of those that end otherwise than is published."""


def workspace(published: Workspace) -> Workspace:
    """The workspace with the results of this machine's own runs in the place of the published."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", platform.node()).strip("-")
    return replace(published, machine=name or "this-machine")


def context(published: Context) -> Context:
    """As `published`, with this machine's own results."""
    return replace(published, workspace=workspace(published.workspace))


def options(cell: Cell, check_set: str, asked: Options, place: Workspace) -> Options:
    """As `asked`; a damaged own result is made anew, for nobody misses what it said."""
    path = evidence.path_of(cell.name, machine.device_class(), place.results, check_set)
    try:
        if path.exists():
            store.load(path)
    except EvidenceError:
        return replace(asked, force=True)
    return asked


def published_result(
    cell: str, device: str, place: Workspace, check_set: str = MAIN
) -> Evidence | None:
    """What is published of a check set in a cell.

    Raises:
        EvidenceError: it is corrupt.
    """
    path = evidence.path_of(cell, device, place.published_results, check_set)
    return store.load(path, whole=False) if path.exists() else None


def compared(own: Evidence, published: Evidence | None) -> Iterator[str]:
    """In lines: with which published result an own one is compared, and what differs."""
    if published is None:
        yield (
            f"nothing is published of it for device class {own.device_class}; with --publish a run "
            "becomes the published result"
        )
        return
    day = f"published on {published.taken[:10]}{_aside(own, published)}"
    if not (own.checks and published.checks):
        ends = published.outcome, own.outcome
        apart = f"{day}: {ends[0].value} -> here: {ends[1].value}"
        yield f"same as {day}" if ends[0] is ends[1] else apart
        return
    changes = comparison.unlike(published, own)
    if not changes:
        yield f"same as {day}"
        return
    asked = len({check.check for check in (*own.checks, *published.checks)})
    yield f"unlike what was {day}: {len(changes)} of {asked} checks end otherwise here"
    yield from (f"  {change.check}: {_ending(change)}" for change in changes[:MOST])
    if len(changes) > MOST:
        yield f"  and {len(changes) - MOST} more"


def _aside(own: Evidence, published: Evidence) -> str:
    """What else tells the two apart, in brackets; empty where nothing does."""
    python = own.pins.get("python", "")
    why = evidence.stale(published, lock=own.lock, suite=own.suite, python=python)
    said = [f"out of date: {why}"] if why else []
    if own.checks and published.checks and own.te_extension != published.te_extension:
        said.append(f"with the {published.te_extension} extension of Transformer Engine")
    return f" ({'; '.join(said)})" if said else ""


def _ending(change: Change) -> str:
    """`works -> broken`, as published and here."""
    old, new = (each.value if each else "not asked" for each in (change.old, change.new))
    if old != new:
        return f"{old} -> {new}"
    return f"{old}, {'from another cause' if change.otherwise else 'under another condition'}"
