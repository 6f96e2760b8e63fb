"""Cells by name, one after the other: each is run, how it ended is printed, and whether that is as
the matrix declares."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from mcore_compat.base import terminal
from mcore_compat.base.errors import CompatError, MatrixError
from mcore_compat.core import combinations
from mcore_compat.core.cells import Cell
from mcore_compat.core.matrix import Matrix
from mcore_compat.core.outcomes import FAILS, CellOutcome, CheckOutcome
from mcore_compat.core.profiles import DEFAULT
from mcore_compat.core.workspace import Workspace
from mcore_compat.results import answer, evidence, repairs, store, terminal_verdict, verdict
from mcore_compat.results.better_cells import BetterCells
from mcore_compat.results.evidence import Evidence
from mcore_compat.run import machine, pipeline
from mcore_compat.run.check_sets import ON_A_GPU, CheckSet
from mcore_compat.run.context import Context, Options, say


def run_cells(
    names: Sequence[str], parts: Sequence[str], options: Options, context: Context
) -> int:
    """Run `parts` in cells, or where none is named the main suite and, with a GPU, all parts.

    Prints how each ended; 0 where nothing that was asked failed, or failed as is declared.

    Raises:
        UsageError: a name is no cell's; nothing has run then.
    """
    for name in names:
        combinations.named(name, context.matrix, context.releases)
    code = 0
    if not parts:
        code = max((run_suite(name, options, context) for name in names), default=0)
    whole = not parts and not options.only and machine.device_class() == "gpu"
    check_sets = ON_A_GPU.values() if whole else [ON_A_GPU[part] for part in parts]
    for name in names if check_sets else ():
        cell = pipeline.chosen(name, context)
        if not parts and not installed(cell, context.workspace):
            continue  # the main result says why
        for part in check_sets:
            code = max(code, _run_part(cell, part, options, context))
    return code


def run_suite(name: str, options: Options, context: Context) -> int:
    """Run the main suite in a cell and print the verdict; 0 where that is as expected."""
    result = _evidence_of(pipeline.run_cell(name, options, context))
    # A part of the suite is no verdict: nothing to compare with other cells'.
    show(result, context, advice=not options.only)
    known = repairs.load_all([result], context.workspace.results)
    for repair in () if options.only else known.values():
        print(f"repaired: works with {repair.requirement}: {repair.condition}")
    return 0 if options.only or fits(result, context) else 1


def show(result: Evidence, context: Context, *, advice: bool = True, every: bool = False) -> None:
    """Print the verdict of a cell; `advice`: where it is not compatible, also what is better;
    `every`: also what became of each check."""
    console = terminal.console(soft_wrap=not sys.stdout.isatty())
    profile = context.profile or DEFAULT
    instead = None
    if advice:
        fit = fits(result, context)
        others = () if fit else other_results(context.workspace.results, result.device_class)
        instead = BetterCells(others, profile).of(result.cell, result.pins)
    rules = context.matrix.expected
    terminal_verdict.show(result, instead, console, rules, profile=profile, every=every)


def other_results(folder: Path, device_class: str = "*") -> tuple[Evidence, ...]:
    """All results of main suites in a folder, or those of a device class; one corrupt file must not
    take the rest away."""
    results = []
    for path in sorted(folder.glob(f"compat-*/main.{device_class}.json")):
        try:
            results.append(store.load(path, whole=False))
        except CompatError as error:
            say(f"mcore-compat: passed over: {error}")
    return tuple(results)


def fits(result: Evidence, context: Context) -> bool:
    """Whether a cell is compatible for the profile that is asked for. A failure that the matrix
    declares is one all the same: who relies on the cell is not helped by its being known."""
    return answer.outcome(result, context.profile or DEFAULT) is CellOutcome.COMPATIBLE


def as_declared(result: Evidence, declared: Matrix) -> bool:
    """Whether a cell ends as was to be expected: the surroundings did not fail, and the matrix
    declares every failure."""
    known = result.outcome is not CellOutcome.ERROR
    return known and not verdict.unexpected(result, declared.expected)


def outlived(results: Sequence[Evidence], declared: Matrix, *, every: bool = False) -> int:
    """Say which declared failures work by now, and with `every` result there is which are none at
    all; the exit code of an error of the matrix where there are such, else 0."""
    lines = verdict.outlived(results, declared.expected)
    lines += verdict.unused(results, declared.expected) if every else ()
    for line in lines:
        say(f"mcore-compat: {line}")
    return MatrixError.exit_code if lines else 0


def installed(cell: Cell, workspace: Workspace) -> bool:
    """Whether a run of the cell's main suite came to its checks."""
    path = evidence.path_of(cell.name, machine.device_class(), workspace.results)
    return path.exists() and bool(store.load(path, whole=False).checks)


def _run_part(cell: Cell, part: CheckSet, options: Options, context: Context) -> int:
    result = _evidence_of(pipeline.run_part(cell, part, options, context))
    print("\n".join(part_lines(result)))
    return 1 if fails(result) else 0


def fails(result: Evidence) -> bool:
    """Whether something that a part asked failed."""
    return any(check.outcome in FAILS for check in result.checks)


def _evidence_of(outcome: pipeline.Outcome) -> Evidence:
    """The evidence of a run, told where it was there already."""
    result = outcome.evidence
    if outcome.fresh:
        print(f"{result.cell}: fresh evidence of {result.taken}; --force runs it again")
    return result


def part_lines(result: Evidence) -> Iterable[str]:
    """How a part ended in a cell: a line, and why checks did not work."""
    counts = Counter(check.outcome for check in result.checks)
    outcomes = ", ".join(f"{verdict.spelt(o)} {counts[o]}" for o in CheckOutcome if counts[o])
    yield f"{result.cell}, {result.check_set}, device class {result.device_class}: " + (
        outcomes or "no check"
    )
    if not result.complete:
        yield "  incomplete: not all checks of this part were asked, so it is no whole result"
    checks: dict[str, list[str]] = {}
    for check in result.checks:
        if check.outcome is not CheckOutcome.WORKS:
            why = (
                f"{check.condition}; without it: {check.reason}"
                if check.condition
                else check.reason
            )
            reason = f"{verdict.spelt(check.outcome)}: {why}"
            checks.setdefault(reason, []).append(check.check)
    for reason, names in checks.items():
        yield f"  {', '.join(names)}"
        yield f"    {verdict.gist(reason)}"
