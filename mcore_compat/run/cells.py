"""Runs cells by name, one after the other, and prints each verdict and how it differs from the
published one."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from mcore_compat.base import foreign, terminal
from mcore_compat.base.errors import CompatError, ExitCode, MatrixError
from mcore_compat.core import combinations
from mcore_compat.core.cells import Cell
from mcore_compat.core.matrix import Matrix
from mcore_compat.core.outcomes import FAILS, CellOutcome, CheckOutcome
from mcore_compat.core.profiles import DEFAULT, Profile
from mcore_compat.core.workspace import Workspace
from mcore_compat.results import answer, comparison, repairs, store, terminal_verdict, verdict
from mcore_compat.results.better_cells import BetterCells
from mcore_compat.results.result import Result, result_path
from mcore_compat.run import machine, own, pipeline
from mcore_compat.run.check_sets import MAIN, ON_A_GPU, CheckSet
from mcore_compat.run.context import Context, Options, say


def run_cells(
    names: Sequence[str], parts: Sequence[str], options: Options, context: Context
) -> int:
    """Run `parts` in cells; without parts the main suite and, with a GPU, all parts.

    Prints how each ended; 0 if all cells are compatible for the profile and the checks of the parts
    that it includes work. Without a profile, all checks of the named parts count.

    Raises:
        UsageError: no such cell; nothing has run then.
    """
    for name in names:
        combinations.named(name, context.matrix, context.releases)
    codes = [] if parts else [run_suite(name, options, context) for name in names]
    whole = not parts and not options.only and machine.device_class() == "gpu"
    check_sets = ON_A_GPU.values() if whole else [ON_A_GPU[part] for part in parts]
    profile = context.profile or (None if parts else DEFAULT)
    place = context if options.publish else own.context(context)
    for name in names if check_sets else ():
        cell = pipeline.chosen(name, context)
        if not parts and not installed(cell, place.workspace):
            continue  # the main result says why
        codes += [run_part(cell, part, options, context, profile) for part in check_sets]
    return together(codes)


def together(codes: Sequence[int]) -> int:
    """The exit code of several runs: 0 if all are 0; else how many are not, and why the first is
    not."""
    failed = [code for code in codes if code]
    if len(failed) < 2:
        return failed[0] if failed else 0
    first = next((why for code in failed if (why := getattr(code, "why", ""))), "")
    return ExitCode(max(failed), f"{len(failed)} of {len(codes)} runs failed; {first}")


def run_suite(name: str, options: Options, context: Context) -> int:
    """Run the main suite in a cell and print the verdict; 0 if it is `compatible`, or for a
    selection of checks if none fails."""
    cell = pipeline.chosen(name, context)
    place, published, how = _place(cell, MAIN, options, context)
    outcome = pipeline.run_cell(name, how, place)
    result = outcome.result
    _say_if_kept(outcome, options)
    # A part of the suite gives no verdict to compare with other cells'.
    show(result, context, advice=not options.only)
    if options.only:
        return part_code(result)
    known = repairs.load_all([result], context.workspace.results)
    for repair in known.values():
        print(f"repaired: works with {repair.requirement}: {repair.condition}")
    if not options.publish:
        print("\n".join(own.compared(result, published)))
    return verdict_code(result, context)


def _place(
    cell: Cell, part: CheckSet, options: Options, context: Context
) -> tuple[Context, Result | None, Options]:
    """Where to store a run, the published result, and how to run."""
    if options.publish:
        return context, None, options
    place, published = own.context(context), None
    if not options.only:  # such a run is not compared
        device = machine.device_class()
        published = own.published_result(cell.name, device, context.workspace, part.name)
    return place, published, own.options(cell, part.name, options, place.workspace)


def verdict_code(result: Result, context: Context) -> int:
    """The exit code of a cell's verdict for the profile; if it is 1, with the first reason."""
    if fits(result, context):
        return 0
    profile = context.profile or DEFAULT
    why = result.reason.message if result.reason else ""
    if result.checks:
        reasons = answer.failures(result, profile, context.matrix.expected)
        why = next((each.text() for each in reasons), why)
    how = f"{verdict.spelt(answer.outcome(result, profile))} for {profile.text()}"
    return _failed(f"{result.cell}: {how}", why)


def part_code(result: Result, profile: Profile | None = None) -> int:
    """The exit code of a part of the suite or of some checks, which give no verdict: 0 if none
    fails of those that the profile includes (None: of all)."""
    failed = [c for c in result.checks if c.outcome in FAILS and (not profile or profile.takes(c))]
    if not failed:
        return 0
    of = "" if result.check_set == MAIN.name else f", {result.check_set}"
    head = f"{result.cell}{of}: {len(failed)} of {len(result.checks)} checks fail"
    return _failed(head, f"{failed[0].check}: {comparison.why(failed[0])}")


def _failed(head: str, why: str) -> ExitCode:
    line = f"{head}: {why}" if why else head
    return ExitCode(1, foreign.plain(" ".join(line.split())))


def show(result: Result, context: Context, *, advice: bool = True, every: bool = False) -> None:
    """Print the verdict of a cell; `advice`: if it is not compatible, also better cells; `every`:
    also the outcome of each check."""
    console = terminal.console(soft_wrap=not sys.stdout.isatty())
    profile = context.profile or DEFAULT
    instead = None
    if advice:
        fit = fits(result, context)
        others = () if fit else _repaired(context.workspace.results, result.device_class)
        instead = BetterCells(others, profile).of(result.cell, result.pins)
    rules = context.matrix.expected
    terminal_verdict.show(result, instead, console, rules, profile=profile, every=every)


def _repaired(folder: Path, device_class: str) -> tuple[Result, ...]:
    """All results of main suites of a device class, as published: as their repairs leave them."""
    results = other_results(folder, device_class)
    try:
        return repairs.applied_to_all(results, folder)[0]
    except CompatError as error:
        say(f"mcore-compat: repairs are skipped: {error}")
        return results


def other_results(folder: Path, device_class: str = "*") -> tuple[Result, ...]:
    """All results of main suites in a folder, or those of a device class; corrupt files are
    skipped."""
    results = []
    for path in sorted(folder.glob(f"compat-*/main.{device_class}.json")):
        try:
            results.append(store.load(path, whole=False))
        except CompatError as error:
            say(f"mcore-compat: skipped: {error}")
    return tuple(results)


def fits(result: Result, context: Context) -> bool:
    """Whether a cell is compatible for the profile. A failure that the matrix declares counts, too:
    to declare it does not help a user of the cell."""
    return answer.outcome(result, context.profile or DEFAULT) is CellOutcome.COMPATIBLE


def unexpected(result: Result, published: Result | None, declared: Matrix) -> str:
    """The first new failure of a result, in a line: one that the matrix does not declare and that
    the published result did not have, or the reason why no check ran; empty if there is none."""
    if not result.checks or result.outcome is CellOutcome.ERROR:
        lost = result.outcome is CellOutcome.ERROR or (published and published.checks)
        why = f": {result.reason.message}" if result.reason else ""
        return f"{result.cell}: {result.outcome.value}{why}" if lost else ""
    new = {change.check for change in comparison.unlike(published, result)} if published else None
    for check in verdict.unexpected(result, declared.expected):
        if new is None or check.check in new:
            return f"{result.cell}: {check.check} is {check.outcome.value}: {comparison.why(check)}"
    return ""


def outlived(results: Sequence[Result], declared: Matrix, *, every: bool = False) -> int:
    """Print which declared failures work now, and which declarations expired; with `every` also
    which match no failure. Returns the exit code of a matrix error if one of them must be corrected
    now, else 0: an expired one with `every` alone. `every`: `results` are all results."""
    lines = verdict.outlived(results, declared.expected)
    if every:
        lines += verdict.unused(results, declared.expected)
        lines += verdict.expired(declared.expired)
    elif declared.expired:
        count = len(declared.expired)
        say(f"mcore-compat: matrix.toml: expired rules ({count}); nox -s report lists them")
    for line in lines:
        say(f"mcore-compat: {line}")
    return MatrixError.exit_code if lines else 0


def installed(cell: Cell, workspace: Workspace) -> bool:
    """Whether the stored result of the cell's main suite has checks."""
    path = result_path(cell.name, machine.device_class(), workspace.results)
    return path.exists() and bool(store.load(path, whole=False).checks)


def run_part(
    cell: Cell, part: CheckSet, options: Options, context: Context, profile: Profile | None
) -> int:
    """Run a part of the suite in a cell and print how it ended; its exit code as `part_code`."""
    place, published, how = _place(cell, part, options, context)
    outcome = pipeline.run_part(cell, part, how, place)
    result = outcome.result
    _say_if_kept(outcome, options)
    print("\n".join(part_lines(result)))
    if not options.publish and not options.only:
        print("\n".join(own.compared(result, published)))
    return part_code(result, profile)


def _say_if_kept(outcome: pipeline.Outcome, options: Options) -> None:
    """Print that the result was up to date and nothing ran."""
    if outcome.fresh:
        result = outcome.result
        whose = "the published result" if options.publish else "this machine's own run"
        print(
            f"{result.cell}: nothing changed since {whose} of {result.taken}; --force runs it again"
        )


def part_lines(result: Result) -> Iterable[str]:
    """How a part ended in a cell: a line, and why checks do not work."""
    counts = Counter(check.outcome for check in result.checks)
    outcomes = ", ".join(f"{verdict.spelt(o)} {counts[o]}" for o in CheckOutcome if counts[o])
    yield f"{result.cell}, {result.check_set}, device class {result.device_class}: " + (
        outcomes or "no check"
    )
    if not result.complete:
        yield "  incomplete: not all checks of this part have run"
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
