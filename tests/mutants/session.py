"""Faults tried in one cell, several at a time; what is known of the unharmed cell is kept."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from mcore_compat.base import files, processes
from mcore_compat.base.errors import InfrastructureError
from mcore_compat.run import engine, pipeline
from mcore_compat.run.check_sets import MAIN
from mcore_compat.run.context import Context
from mutants import score
from mutants.asking import ERROR, NOTICED, Cell, Verdict
from mutants.faults import DoesNotApplyError, Fault, checks_of, patch


class Session:
    """One cell, and the faults that are put into it; each verdict is written when it is known."""

    def __init__(self, name: str, context: Context, faults: Mapping[str, Fault]) -> None:
        self.name, self.context, self.faults = name, context, faults
        self.suite = MAIN.digest(context.workspace.suite)[:12]
        self._keeping = threading.Lock()

    def wanted(self, known: score.Score, fault: Fault, *, resume: bool, unnoticed: bool) -> bool:
        """Whether a fault is to be tried, going by what is known of it."""
        told = known.get(self.name, {}).get(fault.id)
        if told is None or told.get("fault") != fault.digest:
            return True
        done = resume and told["suite"] == self.suite
        return not done and not (unnoticed and told["verdict"] == NOTICED)

    def listed(self, todo: Mapping[str, Fault]) -> list[Verdict]:
        """Say where each fault fits, and which checks must notice; nothing is broken."""
        with self._cell() as (cell, _):
            there = cell.checks()
            for fault in todo.values():
                try:
                    where = str(patch(fault, cell.site).file)
                except DoesNotApplyError as error:
                    where = f"does not apply: {error}"
                print(f"{self.name} {fault.id}: {where}; {', '.join(checks_of(fault, there))}")
        return []

    def tried(self, todo: Mapping[str, Fault], jobs: int) -> list[Verdict]:
        """Ask the unharmed cell once, then each fault, `jobs` at a time."""
        if not todo:
            return []
        with self._cell() as (cell, lock):
            there, before = self._unharmed(cell, lock, todo)

            def one(fault: Fault) -> Verdict:
                try:
                    verdict = cell.broken(fault, there, before)
                except InfrastructureError as error:
                    verdict = Verdict(word=ERROR, detail=str(error))
                self._keep(fault, verdict)
                return verdict

            with ThreadPoolExecutor(max_workers=jobs) as pool:
                try:
                    return list(pool.map(one, todo.values()))
                except KeyboardInterrupt:
                    pool.shutdown(wait=False, cancel_futures=True)
                    processes.end_all()
                    raise

    @contextmanager
    def _cell(self) -> Iterator[tuple[Cell, str]]:
        """The cell, made where it is not there, and the digest of its lock."""
        resolved = pipeline.resolved_cell(pipeline.chosen(self.name, self.context), self.context)
        with engine.place_of(resolved, MAIN, self.context) as place:
            yield Cell(place=place, run=self.context.run), resolved.lock.digest

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
        there, ends = kept["checks"], kept["ends"]
        named = {check for fault in todo.values() for check in checks_of(fault, there)}
        missing = sorted(named - set(ends))
        ends.update(cell.asked(missing) if missing else {})
        files.write_text(path, files.dump_json(kept))
        return there, ends

    def _keep(self, fault: Fault, verdict: Verdict) -> None:
        with self._keeping:
            print(f"{self.name} {fault.id}: {verdict.word}: {verdict.detail}", flush=True)
            if verdict.word != ERROR:  # the surroundings: tried again, never published
                score.keep(self.name, fault, verdict, self.suite, self.faults)
