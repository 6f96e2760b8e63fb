"""Runs cells that save and load, several at a time, and writes the report."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from mcore_compat.base import files, processes
from mcore_compat.base.errors import CompatError, InfrastructureError
from mcore_compat.core.outcomes import CheckOutcome
from mcore_compat.exchange import plan, report, run
from mcore_compat.exchange.pairs import Work
from mcore_compat.exchange.plan import Pair
from mcore_compat.exchange.transfer_results import answers
from mcore_compat.results import store
from mcore_compat.results.result import Result
from mcore_compat.run import machine
from mcore_compat.run.check_sets import EXCHANGE
from mcore_compat.run.context import Context


def exchange(
    work: Work, context: Context, tell: Callable[[str], None], jobs: int = 1
) -> dict[str, CompatError]:
    """Run the pairs that are out of date, `jobs` cells at a time, write the report and `tell` how
    all selected pairs ended; by cell, why it could not run.

    A checkpoint that does not load is a result, not an error.

    Raises:
        CompatError: another exchange is running, or this one was interrupted.
    """
    failed: dict[str, CompatError] = {}
    if work.todo:
        with run.alone():
            _run(work, failed, context, jobs)
    place = context.workspace
    stored = store.load_all(place.results, EXCHANGE.name)
    texts = report.texts(stored, run.outdated(stored, place))
    for name, text in texts.items():
        files.write_text(place.reports / name, text)
        tell(files.shown(place.reports / name))
    for line in _summary(work.pairs, stored):
        tell(line)
    for name, error in failed.items():
        tell(f"{name}: not done: {error}")
    return failed


def _run(work: Work, failed: dict[str, CompatError], context: Context, jobs: int) -> None:
    """Save, then load; errors are put into `failed`, by cell."""
    saved = {name: kept for name, kept in work.kept.items() if kept is not None}

    def save(name: str) -> None:
        with _noted(name, failed, context):
            saved[name] = run.save(work.cells[name], _naming(name, context, jobs))

    def load(name: str) -> None:
        pairs = [p for p in work.todo if p.target == name and p.origin in saved]
        if pairs:
            with _noted(name, failed, context):
                run.load(work.cells[name], pairs, saved, _naming(name, context, jobs))

    _each(save, work.saves, jobs)
    _each(load, sorted({p.target for p in work.todo}), jobs)


def _naming(name: str, context: Context, jobs: int) -> Context:
    """If several cells run at a time, each line begins with its cell."""
    if jobs == 1:
        return context
    return replace(context, say=lambda line: context.say(f"{name}: {line}"))


def _each(do: Callable[[str], None], names: Sequence[str], jobs: int) -> None:
    """Do it for each name, `jobs` at a time; the first that raises ends all others."""
    if jobs == 1:
        for name in names:
            do(name)
        return
    with ThreadPoolExecutor(jobs) as pool:
        running = [pool.submit(do, name) for name in names]
        try:
            for one in running:
                one.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            while not all(one.done() for one in running):
                processes.end_all()  # repeatedly: a thread may be about to start the next
                time.sleep(0.1)
            raise


@contextlib.contextmanager
def _noted(name: str, failed: dict[str, CompatError], context: Context) -> Iterator[None]:
    """A cell that cannot run must not end the others; its error is printed at the end."""
    try:
        yield
    except CompatError as error:
        if error.exit_code not in (2, InfrastructureError.exit_code):
            raise
        context.say(f"{name}: {error}")
        failed[name] = error


def _summary(pairs: Sequence[Pair], stored: Sequence[Result]) -> Iterator[str]:
    """How the selected pairs ended, way by way."""
    device = machine.device_class()
    by_cell = {result.cell: answers(result) for result in stored if result.device_class == device}
    ended: dict[str, list[CheckOutcome]] = {way: [] for way in plan.WAYS}
    for pair in pairs:
        for key, answer in by_cell.get(pair.target, {}).get(pair.origin, {}).items():
            if key.partition(":")[2] in pair.ways:
                ended[key.partition(":")[2]].append(answer.outcome)
    for way, outcomes in ended.items():
        counts = (f"{outcomes.count(o)} {o}" for o in CheckOutcome if o in outcomes)
        yield f"{way}: {', '.join(counts) or 'not run'}"
