"""On the node: runs the suite in a cell's environment and writes the result.

`run.py` calls this after it has verified the bundle. The result is rewritten after each check, so
that an interrupted run leaves the finished checks.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mcore_compat.base import files, processes
from mcore_compat.base.errors import CompatError, InfrastructureError, Interrupted, UsageError
from mcore_compat.offline.node import environment, parallel
from mcore_compat.offline.node.environment import PARTS, NodeEnvironment, NodeRun, say
from mcore_compat.offline.node.parallel import BAD
from mcore_compat.run import machine, runner
from mcore_compat.run.check_sets import MAIN, ON_A_GPU
from mcore_compat.run.runner import SuiteEnvironment


def main(run: NodeRun) -> int:
    """Run the requested cells; returns the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return _exit_code(lambda: _cells(run), run)


def _cells(run: NodeRun) -> int:
    args = run.args
    if min(1.0 if args.limit is None else args.limit, args.suite_limit, args.j) <= 0:
        raise UsageError("--limit, --suite-limit, -j: must be more than 0")
    loopback()
    run.into.mkdir(parents=True, exist_ok=True)
    if args.j > 1 or args.results:
        return parallel.run_cells(
            args.cell, args.j, run, lambda c: _exit_code(lambda: run_cell(c, run), run)
        )
    for name in args.cell:
        run_cell(name, run)
    return 0


def _exit_code(call: Callable[[], int | None], run: NodeRun) -> int:
    """The return value of `call`, or the exit code of its exception, which is printed in a line."""
    try:
        with files.disk_errors(run.into):
            return call() or 0
    except CompatError as error:
        print(f"run.py: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("run.py: interrupted", file=sys.stderr)
        return Interrupted.exit_code


def loopback() -> None:
    """Refuse a machine without a loopback interface: process groups need it, and the failure of a
    check without it could be mistaken for one that needs a GPU.

    Raises:
        InfrastructureError: there is no loopback interface, or it is down.
    """
    with socket.socket() as listener, socket.socket() as client:
        client.settimeout(5)
        try:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            client.connect(listener.getsockname())
        except OSError as error:
            raise InfrastructureError(f"this machine has no loopback interface: {error}") from None


def run_cell(name: str, run: NodeRun) -> None:
    """Run one cell: the requested parts of the suite, else the main suite and, with a GPU, all
    parts.

    Raises:
        CompatError: bad input, or an infrastructure error; then there is an incomplete result of
            the finished checks.
    """
    cell = json.loads((run.root / "cells" / f"{name}.json").read_text(encoding="utf-8"))
    parts: list[str | None] = [part for part in PARTS if getattr(run.args, part)]
    if run.args.main:
        parts.append(None)
    with environment.alone(name, run), environment.prepared(cell, run) as prepared:
        if not parts and ask(cell, None, prepared, run) == "gpu" and not run.args.only:
            parts = [*PARTS]
        for part in parts:
            ask(cell, part, prepared, run)


def ask(cell: Mapping[str, Any], part: str | None, prepared: NodeEnvironment, run: NodeRun) -> str:
    """Run the checks of the main suite, or of one of its parts; returns the device class. Raises as
    `run_cell`."""
    name = f"{cell['cell']}.{part}" if part else cell["cell"]
    result = ResultFile(cell=cell, part=part, there=prepared, run=run)
    place = SuiteEnvironment(
        name=cell["cell"],
        python=prepared.python,
        tools=prepared.tools,
        variables=prepared.variables,
        suite=run.root / "suite",
        logs=run.into / "logs" / name,
    )
    say(f"running {part or 'the suite'} in {cell['cell']}")
    try:
        runner.run_suite(
            ON_A_GPU[part] if part else MAIN,
            place,
            run=processes.run,
            say=say,
            on_event=result.take,
            device_class=machine.device_class() if machine.driver() else None,
            only=run.args.only,
            check_limit=run.args.limit,
            limit=run.args.suite_limit,
        )
    finally:
        if any(event["event"] == "check" for event in result.events):
            show(name, result.events)
            print(f"result: {result.path}")
    return str(result.events[0]["device_class"])


@dataclass(kw_only=True)
class ResultFile:
    """The result file of one run, for `collect`: the suite's events so far."""

    cell: Mapping[str, Any]
    part: str | None
    there: NodeEnvironment
    run: NodeRun
    events: list[Mapping[str, Any]] = field(default_factory=list)
    taken: str = field(default_factory=lambda: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))

    def take(self, event: Mapping[str, Any]) -> None:
        """Add an event; rewrites the file after the end of a check or of the run."""
        self.events.append(event)
        if event["event"] == "start":
            # Keep the result of an earlier run until this run is complete.
            if self.path.exists():
                taken = json.loads(self.path.read_text(encoding="utf-8"))["taken"]
                os.replace(self.path, self.path.with_suffix(f".{taken.replace(':', '')}.json"))
        elif event["event"] in ("check", "end"):
            files.write_text(self.path, self.text(), durable=False)
            if self.complete:
                for path in sorted(self.path.parent.glob(f"{self.path.stem}.[0-9]*Z.json")):
                    path.unlink()

    @property
    def complete(self) -> bool:
        """Whether all checks ran: a selection of checks never gives a verdict."""
        return self.events[-1]["event"] == "end" and not self.run.args.only

    @property
    def path(self) -> Path:
        device = self.events[0]["device_class"]
        kind = f"{device}-base" if self.there.base else device
        folder: Path = self.run.into / "results" / self.cell["cell"]
        return folder / f"{self.part or MAIN.name}.{kind}.json"

    def text(self) -> str:
        root, part = self.run.root, self.part
        suite = root / "suite"
        data = {
            "base": self.there.base,
            "bundle": self.run.digest,
            "cell": self.cell["cell"],
            "complete": self.complete,
            "folders": list(self.there.folders),
            "lock": files.sha256_file(root / self.cell["lock"]),
            "part": part and {"name": part, "digest": ON_A_GPU[part].digest(suite)},
            "schema": 1,
            "suite": MAIN.digest(suite),
            "taken": self.taken,
            "wheels": dict(self.there.wheels),
        }
        return files.json_with_rows(data, "events", self.events)


def show(name: str, events: Sequence[Mapping[str, Any]]) -> None:
    """Print the outcomes, and the reasons of failures."""
    checks = [event for event in events if event["event"] == "check"]
    counts = Counter(check["outcome"] for check in checks)
    print(f"{name} ({events[0]['device_class']}): ", end="")
    print(", ".join(f"{outcome} {n}" for outcome, n in sorted(counts.items())) or "no check")
    for check in checks:
        if check["outcome"] in BAD:
            reason = " ".join(str(check["reason"] or "").split())
            print(f"  {check['check']}: {check['outcome']}: {reason[:160]}")
