"""On the other machine: runs the suite in a cell's environment, and writes the evidence.

`run.py` calls this after it has verified the bundle.
"""

from __future__ import annotations

import argparse
import datetime
import json
import signal
import socket
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mcore_compat import files, machine, proc, runner
from mcore_compat.bundle import environments
from mcore_compat.bundle.environments import Environment, Here, say
from mcore_compat.errors import CompatError, InfrastructureError, Interrupted, UsageError

SCHEMA = 1

PARTS = ("ranks", "gpu")
"""Parts of the suite that are run by themselves: folders below `suite/`, and options."""

BAD = ("broken", "crashed", "timed-out")


def main(args: argparse.Namespace, root: Path, digest: str) -> int:
    """Run the cells that were asked for; the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    into = Path(args.into or root).resolve()
    # Imported out of its wheel, for this Python need not have it.
    sys.path.insert(0, str(sorted(root.glob("wheels/packaging-*-none-any.whl"))[-1]))
    try:
        if min(args.limit, args.suite_limit) <= 0:
            raise UsageError("--limit, --suite-limit: a time limit must be more than 0 s")
        loopback()
        with files.disk_errors(into):
            into.mkdir(parents=True, exist_ok=True)
            for name in args.cell:
                run_cell(name, Here(root=root, digest=digest, into=into, args=args))
    except CompatError as error:
        print(f"run.py: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("run.py: interrupted", file=sys.stderr)
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


def run_cell(name: str, here: Here) -> None:
    """Run one cell: the parts of the suite that are asked for, else the main suite and, with a GPU,
    all parts. Writes evidence of each but with `--only`: some checks are no verdict.

    Raises:
        CompatError: bad input, or a failure of the surroundings; evidence of what had come to its
            end is there then.
    """
    said = json.loads((here.root / "cells" / f"{name}.json").read_text(encoding="utf-8"))
    asked = [part for part in PARTS if getattr(here.args, part)]
    with environments.alone(name, here), environments.made(said, here) as there:
        if not asked and ask(said, None, there, here) == "gpu" and not here.args.only:
            asked = [*PARTS]
        for part in asked:
            ask(said, part, there, here)


def ask(said: Mapping[str, Any], part: str | None, there: Environment, here: Here) -> str:
    """Ask the checks of the main suite, or of one of its parts; the device class that they were
    asked on. Raises as `run_cell`."""
    name = f"{said['cell']}.{part}" if part else said["cell"]
    logs = here.into / "logs" / name
    taken = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    events: list[Mapping[str, Any]] = []
    watch = machine.Watch(machine.device_class() if machine.driver() else None)

    def take(event: Mapping[str, Any]) -> None:
        watch.see(event)
        events.append(event)

    say(f"running {part or 'the suite'} in {said['cell']}")
    done = runner.run_suite(
        python=there.python,
        tools=there.tools,
        variables=there.variables,
        logs=logs,
        run=proc.run,
        on_event=take,
        on_line=lambda line: say(f"  {line}"),
        only=here.args.only,
        check_limit=here.args.limit,
        checks=here.root / "suite" / part if part else None,
        limit=here.args.suite_limit,
    )
    for event in events:
        if event["event"] == "error":
            raise UsageError(f"the suite cannot run: {str(event['message']).splitlines()[0]}")
    show(name, events)
    if events[-1]["event"] != "end":
        raise InfrastructureError(
            f"the suite ended early, with exit code {done.returncode} "
            f"(log: {logs / 'suite.log'}); no evidence is written"
        )
    if here.args.only:
        say("some checks only: no evidence is written")
    else:
        write(said, part, there, events, taken, here)
    return str(events[0]["device_class"])


def write(
    said: Mapping[str, Any],
    part: str | None,
    there: Environment,
    events: Sequence[Mapping[str, Any]],
    taken: str,
    here: Here,
) -> None:
    """Write the evidence of a run, as `collect` takes it: what the suite said, of what bundle."""
    device = events[0]["device_class"]
    kind = f"{device}-base" if there.base else device
    folder: Path = here.into / "evidence" / said["cell"]
    path = folder / (f"{part}.{kind}.json" if part else f"{kind}.json")
    suite = files.sha256_tree(here.root / "suite", deep=False)
    data = {
        "base": there.base,
        "bundle": here.digest,
        "cell": said["cell"],
        "folders": list(there.folders),
        "lock": files.sha256_file(here.root / said["lock"]),
        "part": part and {"name": part, "digest": runner.digest(suite, here.root / "suite" / part)},
        "schema": SCHEMA,
        "suite": suite,
        "taken": taken,
        "wheels": dict(there.wheels),
    }
    files.write_text(path, files.dump_json(data, rows={"events": events}))
    print(f"evidence: {path}")


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
