"""What a command that runs cells does with parts, and what `report` publishes of them."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from mcore_compat.base.errors import EvidenceError
from mcore_compat.cli import commands
from mcore_compat.core import combinations
from mcore_compat.core.cells import Cell
from mcore_compat.core.outcomes import FAILURES, CheckOutcome
from mcore_compat.publish import over_base, part_reports
from mcore_compat.results import evidence as main
from mcore_compat.results import verdict
from mcore_compat.results.evidence import Evidence
from mcore_compat.run import parts as running
from mcore_compat.run import pipeline, runner
from mcore_compat.run.check_sets import ON_A_GPU, CheckSet
from mcore_compat.run.context import Context, Options


def run_cells(
    names: Sequence[str],
    parts: Sequence[str],
    *,
    force: bool,
    only: str | None,
    limit: float | None,
) -> int:
    """Run `parts` in cells, or where none is named the main suite and, with a GPU, all parts.

    Prints how each ended; 0 where nothing that was asked failed, or failed as is declared.
    """
    runner.need_limit(limit)
    code = 0
    chosen = [ON_A_GPU[name] for name in parts]
    if not chosen:
        code = commands.run_cells(names, force=force, only=only, limit=limit)
        chosen = with_a_gpu(only)
    if not chosen:
        return code
    here = commands.context()
    for name in names:  # a wrong name ends the command before any cell has run
        combinations.named(name, here.matrix, here.releases)
    options = Options(force=force, only=only, limit=limit)
    for cell in (pipeline.chosen(name, here) for name in names):
        if not parts and not installed(cell):
            continue  # the main evidence says why
        for part in chosen:
            code = max(code, _one(cell, part, options, here))
    return code


def with_a_gpu(only: str | None) -> list[CheckSet]:
    """The parts that a whole run of a cell has: all where there is a GPU, else none."""
    return list(ON_A_GPU.values()) if pipeline.device_class() == "gpu" and not only else []


def installed(cell: Cell) -> bool:
    """Whether a run of the cell's main suite came to its checks."""
    path = main.path_of(cell.name, pipeline.device_class())
    return path.exists() and bool(main.load(path, whole=False).checks)


def _one(cell: Cell, part: CheckSet, options: Options, here: Context) -> int:
    anew = options.force or options.only
    found = None if anew else running.kept(cell, part)
    if found:
        print(f"{cell.name}: fresh evidence of {found.taken}; --force runs it again")
    taken = found or running.run(cell, part, options, here)
    print("\n".join(lines(taken)))
    return 1 if any(_speaks_against(c.outcome) for c in taken.checks) else 0


def _speaks_against(outcome: CheckOutcome) -> bool:
    return outcome in FAILURES or outcome is CheckOutcome.BLOCKED


def lines(taken: Evidence) -> Iterable[str]:
    """How a part ended in a cell."""
    counts = Counter(c.outcome for c in taken.checks)
    said = ", ".join(f"{verdict.spelt(o)} {counts[o]}" for o in CheckOutcome if counts[o])
    where = f"{taken.cell}, {taken.check_set}, device class {taken.device_class}"
    yield f"{where}: {said or 'no check'}"
    if not taken.complete:
        yield "  incomplete: not all checks of this part were asked, so it is no whole result"
    told: dict[str, list[str]] = {}
    for check in taken.checks:
        if check.outcome is not CheckOutcome.WORKS:
            told.setdefault(f"{verdict.spelt(check.outcome)}: {check.reason}", []).append(
                check.check
            )
    for reason, checks in told.items():
        yield f"  {', '.join(checks)}"
        yield f"    {verdict.gist(reason)}"


def texts() -> dict[Path, Callable[[], str]]:
    """What is published of each part, and how its text is made."""
    return {
        over_base.REPORTS / f"{part.name.upper()}.md": functools.partial(
            _text, part, (*main.load_all(check_set=part.name), *_over_base(part))
        )
        for part in ON_A_GPU.values()
    }


def _over_base(part: CheckSet) -> tuple[Evidence, ...]:
    """What ran over a base, sorted by file.

    Raises:
        EvidenceError: a file is corrupt, or tells of no base.
    """
    found = main.load_all(over_base.FOLDER, part.name)
    for one in found:
        if one.base is None:
            where = main.path_of(one.cell, one.device_class, over_base.FOLDER, part.name)
            raise EvidenceError(f"{where.name} of {one.cell} tells of no base; remove it")
    return found


def _text(part: CheckSet, found: Sequence[Evidence]) -> str:
    today = pipeline.suite_digest(part)
    return part_reports.markdown(
        part, found, lambda one: over_base.stale(one.base, one.lock, one.suite, today)
    )
