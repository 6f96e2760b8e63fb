"""This machine's own runs, compared with the published results.

A clone has results of other machines. A user who runs a cell wants to know what happens here: so
the suite runs although the published result is up to date, and no published file changes (`git
status` stays clean, and no result gets into a commit unnoticed). A machine's own results are in
`own-results/MACHINE/`, which git ignores, in the same format, one folder a cell. A cell is up to
date if it ran on the machine of that name, in that workspace, with the same lock, suite and Python.
`run` reads them, and `show` and `explain` for a cell without a published result.

Commands that make results to publish use `reports/results` alone and ignore own runs: `matrix`,
`nightly`, `explore`, `bisect`, `upgrade`, `exchange`, `collect`, and `run --publish`, which jobs of
a matrix use.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator
from dataclasses import replace

from mcore_compat.base.errors import ResultError
from mcore_compat.core.cells import Cell
from mcore_compat.core.workspace import Workspace
from mcore_compat.results import comparison, store
from mcore_compat.results.comparison import Change
from mcore_compat.results.result import MAIN, Result, out_of_date, result_path
from mcore_compat.run import machine
from mcore_compat.run.context import Context, Options

MOST = 10
"""The number of checks to name that differ from the published result."""


def workspace(published: Workspace) -> Workspace:
    """The workspace with this machine's own results instead of the published ones."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", platform.node()).strip("-")
    return replace(published, machine=name or "this-machine")


def context(published: Context) -> Context:
    """As `published`, with this machine's own results."""
    return replace(published, workspace=workspace(published.workspace))


def options(cell: Cell, check_set: str, asked: Options, place: Workspace) -> Options:
    """As `asked`; a damaged own result is replaced."""
    path = result_path(cell.name, machine.device_class(), place.results, check_set)
    try:
        if path.exists():
            store.load(path)
    except ResultError:
        return replace(asked, force=True)
    return asked


def published_result(
    cell: str, device: str, place: Workspace, check_set: str = MAIN
) -> Result | None:
    """The published result of a check set in a cell.

    Raises:
        ResultError: it is corrupt.
    """
    path = result_path(cell, device, place.published_results, check_set)
    return store.load(path, whole=False) if path.exists() else None


def compared(own: Result, published: Result | None) -> Iterator[str]:
    """Lines: the published result that an own one is compared with, and the differences."""
    if published is None:
        yield (
            f"no result is published for device class {own.device_class}; to publish one: --publish"
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
    yield f"unlike the result {day}: {len(changes)} of {asked} checks have another outcome here"
    yield from (f"  {change.check}: {_ending(change)}" for change in changes[:MOST])
    if len(changes) > MOST:
        yield f"  and {len(changes) - MOST} more"


def _aside(own: Result, published: Result) -> str:
    """Other differences between the two, in brackets; empty if there are none."""
    python = own.pins.get("python", "")
    why = out_of_date(published, lock=own.lock, suite=own.suite, python=python)
    said = [f"out of date: {why}"] if why else []
    if own.checks and published.checks and own.te_extension != published.te_extension:
        said.append(f"with the {published.te_extension} extension of Transformer Engine")
    return f" ({'; '.join(said)})" if said else ""


def _ending(change: Change) -> str:
    """`works -> broken`: the published outcome and this one."""
    old, new = (each.value if each else "not run" for each in (change.old, change.new))
    if old != new:
        return f"{old} -> {new}"
    return f"{old}, {'with another cause' if change.otherwise else 'under another condition'}"
