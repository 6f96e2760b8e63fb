"""Faults tried in one cell, several at a time; what is known of the unharmed cell is kept."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from mcore_compat.base import files, processes
from mcore_compat.base.errors import InfrastructureError, Interrupted, ResultError
from mcore_compat.base.processes import Completed, Runner
from mcore_compat.core.outcomes import CheckOutcome
from mcore_compat.run import engine, pipeline
from mcore_compat.run.check_sets import MAIN
from mcore_compat.run.context import Context
from mutants import score
from mutants.asking import ERROR, NOTICED, Cell, Verdict, not_ended
from mutants.faults import DoesNotApplyError, Fault, checks_of, patch

PASSING = (CheckOutcome.CRASHED, CheckOutcome.TIMED_OUT)
"""Ends of a check in the unharmed cell that may be the machine's: asked again by each session."""

Ask = Callable[[Fault], Verdict]
Ends = list[tuple[Fault, Verdict]]


@dataclass(frozen=True)
class Stoppable:
    """Runs processes until `ended` is set; then it starts none any more."""

    run: Runner
    ended: threading.Event

    def __call__(self, argv: Sequence[Any], **options: Any) -> Completed:
        """As the runner.

        Raises:
            Interrupted: the session has been ended.
        """
        if self.ended.is_set():
            raise Interrupted("the session has been ended")
        return self.run(argv, **options)


class Session:
    """One cell, and the faults that are put into it; each verdict is written when it is known."""

    def __init__(self, name: str, context: Context, faults: Mapping[str, Fault]) -> None:
        self.name, self.context, self.faults = name, context, faults
        self.suite = MAIN.digest(context.workspace.suite)[:12]
        self._keeping = threading.Lock()
        self._ended = threading.Event()

    def wanted(self, known: score.Score, fault: Fault, *, resume: bool, unnoticed: bool) -> bool:
        """Whether a fault is to be tried, going by what is known of it."""
        told = known[self.name]["faults"].get(fault.id) if self.name in known else None
        if told is None or told["fault"] != fault.digest:
            return True
        done = resume and told["suite"] == self.suite
        return not done and not (unnoticed and told["verdict"] == NOTICED)

    def listed(self, todo: Mapping[str, Fault]) -> None:
        """Say where each fault fits, and which checks must notice; nothing is broken."""
        with self._cell() as (cell, _):
            there = cell.checks()
            for fault in todo.values():
                try:
                    where = str(patch(fault, cell.site).file)
                except DoesNotApplyError as error:
                    where = f"does not apply: {error}"
                print(f"{self.name} {fault.id}: {where}; {', '.join(checks_of(fault, there))}")

    def tried(self, todo: Mapping[str, Fault], jobs: int) -> Ends:
        """Ask the unharmed cell once, then each fault, `jobs` at a time; in the end, one at a
        time, those once more of which nothing is known."""
        if not todo:
            return []
        with self._cell() as (cell, lock):
            there, before = self._unharmed(cell, lock, todo)

            def ask(fault: Fault) -> Verdict:
                try:
                    return cell.broken(fault, there, before)
                except (ResultError, InfrastructureError) as error:
                    return not_ended(error)

            return self._settled(ask, list(todo.values()), jobs)

    def _settled(self, ask: Ask, todo: Sequence[Fault], jobs: int) -> Ends:
        """Each fault with its verdict; an error is believed when it comes a second time."""

        def once(fault: Fault) -> tuple[Fault, Verdict]:
            verdict = ask(fault)
            self._keep(fault, verdict, final=verdict.word != ERROR)
            return fault, verdict

        first = self._in_parallel(once, todo, jobs)
        ends = [end for end in first if end[1].word != ERROR]
        for fault in (fault for fault, verdict in first if verdict.word == ERROR):
            verdict = ask(fault)
            self._keep(fault, verdict, final=True)
            ends.append((fault, verdict))
        return ends

    def _in_parallel(
        self, once: Callable[[Fault], tuple[Fault, Verdict]], todo: Sequence[Fault], jobs: int
    ) -> Ends:
        """`once` of each fault; what ends one of them, or this thread, ends them all."""
        with ThreadPoolExecutor(max_workers=jobs) as pool:
            futures = [pool.submit(once, fault) for fault in todo]
            try:
                done, _ = wait(futures, return_when=FIRST_EXCEPTION)
                for future in done:  # one that raised comes before those that were not waited for
                    future.result()
                return [future.result() for future in futures]
            except BaseException:
                self._ended.set()
                pool.shutdown(wait=False, cancel_futures=True)
                # A thread may have looked at the event just before it was set.
                while not all(future.done() for future in futures):
                    processes.end_all()
                    time.sleep(0.1)
                raise

    @contextmanager
    def _cell(self) -> Iterator[tuple[Cell, str]]:
        """The cell, made where it is not there, and the digest of its lock."""
        resolved = pipeline.resolved_cell(pipeline.chosen(self.name, self.context), self.context)
        with engine.place_of(resolved, MAIN, self.context) as place:
            run = Stoppable(self.context.run, self._ended)
            yield Cell(place=place, run=run), resolved.lock.digest

    def _unharmed(
        self, cell: Cell, lock: str, todo: Mapping[str, Fault]
    ) -> tuple[list[str], dict[str, str]]:
        """The suite's checks, and how those that `todo` names end in the cell as it is; what was
        asked once is kept for the same suite and lock."""
        path = files.home() / "mutants" / f"{self.name}.json"
        stamp = {"suite": self.suite, "lock": lock}
        kept = json.loads(path.read_text()) if path.exists() else {}
        if kept.get("of") != stamp:
            kept = {"of": stamp, "checks": cell.checks(), "ends": {}}
        there, ends = kept["checks"], lasting(kept["ends"])
        named = {check for fault in todo.values() for check in checks_of(fault, there)}
        missing = sorted(named - set(ends))
        ends.update(cell.asked(missing) if missing else {})
        files.write_text(path, files.dump_json({**kept, "ends": lasting(ends)}))
        return there, ends

    def _keep(self, fault: Fault, verdict: Verdict, *, final: bool) -> None:
        """Say a verdict, and write it where it is `final`.

        Raises:
            Interrupted: the session has been ended, and that may be what it is of.
        """
        with self._keeping:
            if self._ended.is_set():
                raise Interrupted("the session has been ended")
            more = "" if final else " (asked again, alone, after the others)"
            print(f"{self.name} {fault.id}: {verdict.word}: {verdict.detail}{more}", flush=True)
            if final:
                score.keep(self.name, fault, verdict, self.suite, self.faults)


def lasting(ends: Mapping[str, str]) -> dict[str, str]:
    """Of how checks ended, what the same cell would give again."""
    return {check: outcome for check, outcome in ends.items() if outcome not in PASSING}
