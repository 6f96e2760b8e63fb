"""On the other machine: runs the suite in a cell's environment, and writes the evidence.

`run.py` calls this after it has verified the bundle. Evidence is written anew after each check, so
that a run which is cut short, however, leaves what it had learnt.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import signal
import socket
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mcore_compat.base import files, processes
from mcore_compat.base.errors import CompatError, InfrastructureError, Interrupted, UsageError
from mcore_compat.offline.node import environment, parallel
from mcore_compat.offline.node.environment import PARTS, NodeEnvironment, NodeRun, say
from mcore_compat.offline.node.parallel import BAD
from mcore_compat.run import machine, runner
from mcore_compat.run.check_sets import GPU, MAIN, RANKS, CheckSet
from mcore_compat.run.runner import Place

SCHEMA = 1

CHECK_SETS: Mapping[str | None, CheckSet] = {None: MAIN, "ranks": RANKS, "gpu": GPU}
"""By the part of the suite that is asked for."""


def main(args: argparse.Namespace, root: Path, digest: str) -> int:
    """Run the cells that were asked for; the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    into = Path(args.into or root).resolve()
    # Imported out of its wheel, for this Python need not have it.
    sys.path.insert(0, str(sorted(root.glob("wheels/packaging-*-none-any.whl"))[-1]))
    here = NodeRun(root=root, digest=digest, into=into, args=args)
    try:
        if min(1.0 if args.limit is None else args.limit, args.suite_limit, args.j) <= 0:
            raise UsageError("--limit, --suite-limit, -j: must be more than 0")
        loopback()
        with files.disk_errors(into):
            into.mkdir(parents=True, exist_ok=True)
            if args.j > 1 or args.results:
                return parallel.run(args.cell, args.j, here, lambda cell: ended(cell, here))
            for name in args.cell:
                run_cell(name, here)
    except CompatError as error:
        print(f"run.py: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("run.py: interrupted", file=sys.stderr)
        return Interrupted.exit_code
    return 0


def ended(name: str, here: NodeRun) -> int:
    """Run one cell in a process of its own; the exit code."""
    try:
        with files.disk_errors(here.into):
            run_cell(name, here)
    except CompatError as error:
        print(f"run.py: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return Interrupted.exit_code
    return 0


def loopback() -> None:
    """Refuse a machine that cannot speak to itself: process groups need that, and a check that
    fails for want of it could be taken for one that needs a GPU.

    Raises:
        InfrastructureError: there is no loopback interface, or it is down.
    """
    with socket.socket() as here, socket.socket() as other:
        other.settimeout(5)
        try:
            here.bind(("127.0.0.1", 0))
            here.listen()
            other.connect(here.getsockname())
        except OSError as error:
            raise InfrastructureError(f"this machine has no loopback interface: {error}") from None


def run_cell(name: str, here: NodeRun) -> None:
    """Run one cell: the parts of the suite that are asked for, else the main suite and, with a GPU,
    all parts.

    Raises:
        CompatError: bad input, or a failure of the surroundings; evidence of what had come to its
            end is there then, and says that it is not complete.
    """
    said = json.loads((here.root / "cells" / f"{name}.json").read_text(encoding="utf-8"))
    asked: list[str | None] = [part for part in PARTS if getattr(here.args, part)]
    if here.args.main:
        asked.append(None)
    with environment.alone(name, here), environment.made(said, here) as there:
        if not asked and ask(said, None, there, here) == "gpu" and not here.args.only:
            asked = [*PARTS]
        for part in asked:
            ask(said, part, there, here)


def ask(said: Mapping[str, Any], part: str | None, there: NodeEnvironment, here: NodeRun) -> str:
    """Ask the checks of the main suite, or of one of its parts; the device class that they were
    asked on. Raises as `run_cell`."""
    name = f"{said['cell']}.{part}" if part else said["cell"]
    kept = ResultFile(said=said, part=part, there=there, here=here)
    place = Place(
        name=said["cell"],
        python=there.python,
        tools=there.tools,
        variables=there.variables,
        suite=here.root / "suite",
        logs=here.into / "logs" / name,
    )
    say(f"running {part or 'the suite'} in {said['cell']}")
    try:
        runner.run_suite(
            CHECK_SETS[part],
            place,
            run=processes.run,
            say=say,
            on_event=kept.take,
            device_class=machine.device_class() if machine.driver() else None,
            only=here.args.only,
            check_limit=here.args.limit,
            limit=here.args.suite_limit,
        )
    finally:
        if any(event["event"] == "check" for event in kept.events):
            show(name, kept.events)
            print(f"evidence: {kept.path}")
    return str(kept.events[0]["device_class"])


@dataclass(kw_only=True)
class ResultFile:
    """The evidence of one run, as `collect` takes it: what the suite said so far."""

    said: Mapping[str, Any]
    part: str | None
    there: NodeEnvironment
    here: NodeRun
    events: list[Mapping[str, Any]] = field(default_factory=list)
    taken: str = field(
        default_factory=lambda: datetime.datetime.now(datetime.timezone.utc).strftime(
            "%Y-%m-%dT%H:%M:%SZ"
        )
    )

    def take(self, event: Mapping[str, Any]) -> None:
        """Keep an event; the file is written anew where something was learnt by it."""
        self.events.append(event)
        if event["event"] == "start":
            self._put_aside()
        elif event["event"] in ("check", "end"):
            files.write_text(self.path, self.text(), durable=False)
            if self.complete:
                for path in self._aside():
                    path.unlink()

    @property
    def complete(self) -> bool:
        """Some of the checks, however many, are no verdict."""
        return self.events[-1]["event"] == "end" and not self.here.args.only

    def _put_aside(self) -> None:
        """What an earlier run has learnt stays until this one has come to its end."""
        if self.path.exists():
            taken = json.loads(self.path.read_text(encoding="utf-8"))["taken"]
            os.replace(self.path, self.path.with_suffix(f".{taken.replace(':', '')}.json"))

    def _aside(self) -> list[Path]:
        return sorted(self.path.parent.glob(f"{self.path.stem}.[0-9]*Z.json"))

    @property
    def path(self) -> Path:
        device = self.events[0]["device_class"]
        kind = f"{device}-base" if self.there.base else device
        folder: Path = self.here.into / "evidence" / self.said["cell"]
        return folder / f"{self.part or MAIN.name}.{kind}.json"

    def text(self) -> str:
        root, part = self.here.root, self.part
        suite = root / "suite"
        data = {
            "base": self.there.base,
            "bundle": self.here.digest,
            "cell": self.said["cell"],
            "complete": self.complete,
            "folders": list(self.there.folders),
            "lock": files.sha256_file(root / self.said["lock"]),
            "part": part and {"name": part, "digest": CHECK_SETS[part].digest(suite)},
            "schema": SCHEMA,
            "suite": MAIN.digest(suite),
            "taken": self.taken,
            "wheels": dict(self.there.wheels),
        }
        return files.json_with_rows(data, "events", self.events)


def show(name: str, events: Sequence[Mapping[str, Any]]) -> None:
    """What the checks came to, and why where they did not work."""
    checks = [event for event in events if event["event"] == "check"]
    counts = Counter(check["outcome"] for check in checks)
    print(f"{name} ({events[0]['device_class']}): ", end="")
    print(", ".join(f"{outcome} {n}" for outcome, n in sorted(counts.items())) or "no check")
    for check in checks:
        if check["outcome"] in BAD:
            reason = " ".join(str(check["reason"] or "").split())
            print(f"  {check['check']}: {check['outcome']}: {reason[:160]}")
