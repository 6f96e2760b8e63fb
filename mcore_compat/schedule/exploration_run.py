"""Explores off the default stacks: gathers what `explore` needs, runs what it chooses, goes on."""

from __future__ import annotations

import math
import re
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

from packaging.version import Version

from mcore_compat.analysis import explanation, exploration
from mcore_compat.analysis.exploration import CellChoice
from mcore_compat.base.errors import InfrastructureError, UsageError
from mcore_compat.core import combinations
from mcore_compat.core.cells import Cell
from mcore_compat.environments import wheelhouse
from mcore_compat.publish.rendering import render
from mcore_compat.resolve import resolvability
from mcore_compat.resolve.locks import Pin
from mcore_compat.results import evidence, store
from mcore_compat.results.evidence import Evidence
from mcore_compat.run import machine, pipeline
from mcore_compat.run.context import Context
from mcore_compat.schedule import matrix_run, plan
from mcore_compat.schedule.jobs import job_options
from mcore_compat.schedule.survey import SUITE_PARTS, build_records, survey

TE = "transformer-engine-torch"

ROUND = 6
"""Cells that are run before what they showed is looked at."""


@dataclass(frozen=True, kw_only=True)
class ExplorationView:
    """What is known before a round. `covered`: pairs of versions that were tested together, and
    all that can be installed."""

    covered: tuple[int, int]
    choices: tuple[CellChoice, ...]

    def description(self) -> str:
        """What would be run next, and why."""
        return render("exploration.txt", covered=self.covered, choices=self.choices)


def minutes_of(text: str) -> float:
    """Minutes of `90`, `90m` or `1.5h`.

    Raises:
        UsageError: neither, or no time at all.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(m|min|h)?", text.strip())
    minutes = float(match[1]) * (60 if match[2] == "h" else 1) if match else 0.0
    if not 0 < minutes < math.inf:
        raise UsageError(f'--budget: "{text}" is no time; write e.g. 60m or 2h')
    return minutes


def view(context: Context, minutes: float, jobs: int, *, offline: bool) -> ExplorationView:
    """The evidence, what can be installed, and what is worth running within `minutes`."""
    device = machine.device_class()
    results = tuple(
        e for e in store.load_all(context.workspace.results) if e.device_class == device
    )
    product = tuple(combinations.product(context.matrix, context.releases))
    answers = resolvability.sweep(
        product, context.matrix, context.releases, offline=offline, jobs=jobs, say=context.say
    )
    possible = tuple(c for c in product if answers.verdicts[c.name].installs is not False)
    state = exploration.state_of(results)
    explained = explanation.explain(results)
    pairs = exploration.bases(results, explained)
    near = tuple(c for c in possible if (c.mcore, c.modelopt) in pairs)
    keys = {cell.name: te_key(cell) for cell in near}
    built = build_records()
    # Only the real extension is built; where it is not asked for, a stand-in takes its place.
    real = context.te_extension == evidence.REAL or device == "gpu"
    failed = {k for k in keys.values() if (wheelhouse.folder() / k / "failed.json").exists()}
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
        refused=failed | _without_nvcc(near, keys, context) if real else set(),
    )
    return ExplorationView(covered=exploration.coverage(state, possible), choices=choices)


def te_key(cell: Cell) -> str:
    """The wheelhouse's key of TE's extension for a cell."""
    return str(wheelhouse.keys_of(Pin(name=TE, version=cell.te, hashes=()), cell)[-1])


def _cell_minutes(results: Sequence[Evidence]) -> float:
    seconds = [sum(c.seconds or 0 for c in e.checks) for e in results if e.checks]
    return (statistics.median(seconds) * SUITE_PARTS if seconds else plan.CELL_S) / 60


def _without_nvcc(cells: Sequence[Cell], keys: dict[str, str], context: Context) -> set[str]:
    """Keys of TE releases that need an nvcc which the machine lacks: those for which a stack of
    the matrix says so, and all older ones."""
    stacks = [s for stacks in context.matrix.stacks.values() for s in stacks if s.toolkit]
    newest = max((s.te for s in stacks), key=Version, default=None)
    if newest is None or pipeline.toolkit_of(context):
        return set()
    return {keys[c.name] for c in cells if Version(c.te) <= Version(newest)}


def run(context: Context, *, minutes: float, jobs: int, offline: bool) -> list[str]:
    """Choose, run, look again, until the budget is spent; the names of the cells that were run.

    Raises:
        CompatError: bad input, or the index did not answer.
        InfrastructureError: no cell of a round came to a result; those of earlier rounds are kept.
    """
    ends = time.monotonic() + minutes * 60
    ran: list[str] = []
    while True:
        seen = view(context, (ends - time.monotonic()) / 60, jobs, offline=offline)
        context.say(seen.description().rstrip())
        cells = [choice.cell for choice in seen.choices if choice.cell.name not in ran][:ROUND]
        if not cells:
            return ran
        result = matrix_run.run(survey(cells, context), context, job_options.here(jobs))
        ran += [cell.name for cell in cells]
        if all(name in result.failed for name in ran[-len(cells) :]):
            why = result.failed[ran[-1]]
            raise InfrastructureError(f"none of {len(cells)} cells came to a result: {why}")
