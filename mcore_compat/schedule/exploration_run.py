"""Explores non-default stacks: collects the data for `explore`, runs the cells that it chooses, and
repeats until the time budget is spent."""

from __future__ import annotations

import contextlib
import math
import re
import statistics
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mcore_compat.analysis import explanation, exploration
from mcore_compat.analysis.bisect import release_line
from mcore_compat.analysis.exploration import CellChoice
from mcore_compat.base.errors import InfrastructureError, UsageError
from mcore_compat.core import combinations
from mcore_compat.core.cells import AXES, Cell, Request, series_of
from mcore_compat.environments import kept_wheels, wheelhouse
from mcore_compat.publish.rendering import render
from mcore_compat.resolve.locks import Pin
from mcore_compat.resolve.resolvability import InstallChecks
from mcore_compat.results import store
from mcore_compat.results.result import REAL, Result
from mcore_compat.run import machine, te_extension
from mcore_compat.run.context import Context
from mcore_compat.schedule import matrix_run, plan
from mcore_compat.schedule.jobs import job_options
from mcore_compat.schedule.survey import SUITE_PARTS, build_records, survey

TE = "transformer-engine-torch"

ROUND = 8
"""The number of cells that run before the next choice."""


@dataclass(frozen=True, kw_only=True)
class ExplorationView:
    """What is known before a round. `covered`: how many pairs of versions were tested together, of
    how many that are not known to be impossible."""

    covered: tuple[int, int]
    choices: tuple[CellChoice, ...]

    def description(self) -> str:
        """The cells that would run next, and why."""
        return render("exploration.txt", covered=self.covered, choices=self.choices)


def minutes_of(text: str) -> float:
    """Minutes of `90`, `90m` or `1.5h`.

    Raises:
        UsageError: invalid, or zero.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(m|min|h)?", text.strip())
    minutes = float(match[1]) * (60 if match[2] == "h" else 1) if match else 0.0
    if not 0 < minutes < math.inf:
        raise UsageError(f'--budget: invalid time "{text}"; write e.g. 60m or 2h')
    return minutes


@dataclass(frozen=True, kw_only=True)
class Combinations:
    """Every combination of the axes that is not known to be impossible; `installs`: whether one can
    be installed, as far as the resolver can tell. To resolve all takes minutes of CPU time."""

    every: Sequence[Cell]
    installs: InstallChecks


@contextlib.contextmanager
def combined(context: Context, *, offline: bool) -> Iterator[Combinations]:
    """The combinations of the axes. Answers of the resolver are kept at the end of the block."""
    with InstallChecks(context.matrix, context.releases, offline=offline) as checks:
        every = []
        for cell in combinations.product(context.matrix, context.releases):
            known = checks.known(cell)
            if known is None or known.installs is not False:
                every.append(cell)
        context.say(f"{len(every)} combinations: choosing, and resolving what may be chosen")
        yield Combinations(every=every, installs=checks)


def patches(results: Sequence[Result], pairs: set[tuple[str, str]], context: Context) -> list[Cell]:
    """The tested cells of some pairs with one release replaced by another patch of its series:
    where results change next to a series, its patches show on which side."""
    cells: dict[str, Cell] = {}
    for e in results:
        if e.checks and (e.pins["megatron-core"], e.pins["nvidia-modelopt"]) in pairs:
            for axis in exploration.PACKAGES:
                for other in _other_patches(axis, e.pins[axis], context):
                    cell = _spelt({**e.pins, axis: other}, context)
                    if not combinations.violations(cell, context.releases):
                        cells[cell.name] = cell
    return list(cells.values())


def _other_patches(axis: str, version: str, context: Context) -> list[str]:
    known = (r.version for r in context.releases.of(axis) if not r.yanked)
    return [v for v in known if series_of(v) == series_of(version) and v != version]


def _spelt(pins: Mapping[str, str], context: Context) -> Cell:
    """The cell of exact releases; a release that is the newest of its series is named by the
    series."""
    mcore, modelopt, te, torch, python = (pins[axis] for axis in AXES)
    exact = Request(mcore=mcore, modelopt=modelopt, te=te, torch=torch, python=python)
    request = release_line.by_series(exact, context.releases)
    return combinations.cell(request, context.matrix, context.releases)


def view(
    context: Context,
    minutes: float,
    jobs: int,
    *,
    among: Combinations,
    most: int | None = None,
    ran: Collection[str] = (),
) -> ExplorationView:
    """The coverage, and the cells most worth running within `minutes`, at `most` so
    many; none of those that `ran`, whatever their outcome."""
    device = machine.device_class()
    results = tuple(
        e for e in store.load_all(context.workspace.results) if e.device_class == device
    )
    state = exploration.state_of(results)
    covered = exploration.coverage(state, among.every)
    explained = explanation.explain(results)
    pairs = exploration.bases(results, explained)
    near = [c for c in among.every if (c.mcore, c.modelopt) in pairs]
    near += patches(results, pairs, context)
    near = [c for c in near if c.name not in ran]
    keys = {cell.name: te_key(cell) for cell in near}
    built = build_records()
    # Only the real extension is built; a run that does not ask for it uses a stand-in.
    real = context.te_extension == REAL or device == "gpu"
    refused: set[str] = set()
    if real:
        failed = {key for key in keys.values() if kept_wheels.failed_lately(key)}
        here = te_extension.buildable(near, context)
        refused = failed | {key for name, key in keys.items() if name not in here}
    build_minutes = matrix_run.recorded_builds().get(TE, plan.BUILD_S[TE]) / 60
    choices = exploration.choose(
        near,
        state,
        explained,
        exploration.guards_of(results),
        minutes=minutes,
        cost={
            name: ((key,) if real and key not in built else (), build_minutes)
            for name, key in keys.items()
        },
        cell_minutes=_cell_minutes(results) / jobs,
        refused=refused,
        most=most,
        installs=lambda cell: exploration.spells_patch(cell) or among.installs(cell),
    )
    return ExplorationView(covered=covered, choices=choices)


def te_key(cell: Cell) -> str:
    """The wheelhouse's key of TE's extension for a cell: that of a built wheel, if there is one."""
    keys = wheelhouse.keys_of(Pin(name=TE, version=cell.te, hashes=()), cell)
    built = (key for key in keys if (wheelhouse.folder() / str(key) / "build.json").exists())
    return str(next(built, keys[-1]))


def _cell_minutes(results: Sequence[Result]) -> float:
    seconds = [sum(c.seconds or 0 for c in e.checks) for e in results if e.checks]
    return (statistics.median(seconds) * SUITE_PARTS if seconds else plan.CELL_S) / 60


def run(context: Context, *, minutes: float, jobs: int, offline: bool) -> list[str]:
    """Choose and run cells until the budget is spent; returns the names of the cells that ran.

    Raises:
        CompatError: bad input, or the index did not answer.
        InfrastructureError: no cell of a round has a result; those of earlier rounds are kept.
    """
    ends = time.monotonic() + minutes * 60
    with combined(context, offline=offline) as among:
        return _rounds(among, ends, jobs, context)


def _rounds(among: Combinations, ends: float, jobs: int, context: Context) -> list[str]:
    ran: list[str] = []
    while True:
        left = (ends - time.monotonic()) / 60
        seen = view(context, left, jobs, among=among, most=ROUND, ran=ran)
        context.say(seen.description().rstrip())
        cells = [choice.cell for choice in seen.choices]
        if not cells:
            return ran
        result = matrix_run.run(survey(cells, context), context, job_options.here(jobs))
        ran += [cell.name for cell in cells]
        if all(name in result.failed for name in ran[-len(cells) :]):
            why = result.failed[ran[-1]]
            raise InfrastructureError(f"none of {len(cells)} cells has a result: {why}")
