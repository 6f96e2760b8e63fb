"""`nox -s mutants -- [options]`: break cells on purpose, print and write the score."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from fnmatch import fnmatchcase
from pathlib import Path

from mcore_compat.base import processes
from mcore_compat.base.errors import CompatError, InfrastructureError, Interrupted
from mcore_compat.run import context as contexts
from mcore_compat.run import engine, pipeline
from mcore_compat.run.check_sets import MAIN
from mcore_compat.run.context import Context
from mcore_compat.run.runner import SuiteEnvironment
from mutants import CELLS, score
from mutants.asking import ERROR, MISSED, NOTICED, Cell, Verdict
from mutants.faults import DoesNotApplyError, Fault, catalogue, checks_of, patch


def parse(argv: list[str]) -> argparse.Namespace:
    """The command line; ends the process with code 2 where it is wrong."""
    parser = argparse.ArgumentParser(prog="nox -s mutants --", description=__doc__)
    parser.add_argument("--cell", action="append", help=f"default: {' and '.join(CELLS)}")
    parser.add_argument("--only", default="*", help="comma-separated ids of faults; globs")
    parser.add_argument("--unnoticed", action="store_true", help="only those not noticed so far")
    parser.add_argument("--resume", action="store_true", help="only those not tried by this suite")
    parser.add_argument("--jobs", type=int, default=1, help="faults at a time")
    parser.add_argument("--list", action="store_true", help="say where faults fit; run nothing")
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    """0: all were noticed; 1: one was missed; else as the program's other commands end."""
    options = parse(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    faults = catalogue()
    words = options.only.split(",")
    chosen = {n: f for n, f in faults.items() if any(fnmatchcase(n, word) for word in words)}
    if not chosen:
        print(f"no fault is named {options.only}", file=sys.stderr)
        return 2
    known = score.read()
    ends: list[Verdict] = []
    try:
        context = contexts.context()
        for name in options.cell or CELLS:
            run = Session(name, context, faults)
            todo = {n: f for n, f in chosen.items() if run.wanted(known, n, options)}
            ends += run.listed(todo) if options.list else run.tried(todo, options.jobs)
    except CompatError as error:
        print(f"mutants: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return Interrupted.exit_code
    words_of = [end.word for end in ends]
    print(f"{words_of.count(NOTICED)} noticed, {words_of.count(MISSED)} missed of {len(ends)}")
    return 3 if ERROR in words_of else int(MISSED in words_of)


class Session:
    """Faults tried in one cell; each verdict is written when it is known."""

    def __init__(self, name: str, context: Context, faults: Mapping[str, Fault]) -> None:
        self.name, self.context, self.faults = name, context, faults
        self.suite = MAIN.digest(context.workspace.suite)[:12]
        self.lock = threading.Lock()

    def wanted(self, known: score.Score, fault: str, options: argparse.Namespace) -> bool:
        """Whether a fault is to be tried, going by what is known of it."""
        told = known.get(self.name, {}).get(fault)
        if told is None:
            return True
        done = options.resume and told["suite"] == self.suite
        return not done and not (options.unnoticed and told["verdict"] == NOTICED)

    def listed(self, todo: Mapping[str, Fault]) -> list[Verdict]:
        """Say where each fault fits, and which checks must notice; nothing is broken."""
        with self._cell() as place:
            cell = Cell(place=place, run=self.context.run)
            there = cell.checks()
            for fault in todo.values():
                try:
                    where = str(patch(fault, cell.site).file)
                except DoesNotApplyError as error:
                    where = f"does not apply: {error}"
                print(f"{self.name} {fault.id}: {where}; {', '.join(checks_of(fault, there))}")
        return []

    def _cell(self) -> AbstractContextManager[SuiteEnvironment]:
        resolved = pipeline.resolved_cell(pipeline.chosen(self.name, self.context), self.context)
        return engine.place_of(resolved, MAIN, self.context)

    def tried(self, todo: Mapping[str, Fault], jobs: int) -> list[Verdict]:
        """Ask the unharmed cell once, then each fault, `jobs` at a time."""
        if not todo:
            return []
        with self._cell() as place:
            cell = Cell(place=place, run=self.context.run)
            there = cell.checks()
            wanted = {c for fault in todo.values() for c in checks_of(fault, there)}
            before = cell.asked(sorted(wanted)) if wanted else {}

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

    def _keep(self, fault: Fault, verdict: Verdict) -> None:
        with self.lock:
            print(f"{self.name} {fault.id}: {verdict.word}: {verdict.detail}", flush=True)
            if verdict.word != ERROR:  # the surroundings: tried again, never published
                score.keep(self.name, fault.id, verdict, self.suite, self.faults)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    sys.exit(main(sys.argv[1:]))
