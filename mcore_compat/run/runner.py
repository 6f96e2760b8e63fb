"""Runs a check set with an environment's Python, and hands on what the suite says as it comes.

Standard library only: a bundle carries this to machines that have nothing else.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mcore_compat.base.errors import EvidenceError, InfrastructureError
from mcore_compat.base.processes import Runner
from mcore_compat.run import machine
from mcore_compat.run.check_sets import CheckSet
from mcore_compat.run.machine import VISIBLE


@dataclass(frozen=True, kw_only=True)
class SuiteEnvironment:
    """Where checks run: an environment's Python and variables, pytest's folder (`tools`), the
    suite, and where logs go. `name` is that of the cell."""

    name: str
    python: Path
    tools: Path
    variables: Mapping[str, str]
    suite: Path
    logs: Path


@dataclass(kw_only=True)
class EventTail:
    """Reads the lines that a growing events file has gained since the last look."""

    path: Path
    on_event: Callable[[Mapping[str, Any]], None]
    _read: int = field(default=0, init=False)
    seen: int = field(default=0, init=False)

    def drain(self) -> None:
        """Pass on every whole line; a line still being written waits for the next call."""
        if not self.path.exists():
            return
        with self.path.open("rb") as source:
            source.seek(self._read)
            data = source.read()
        whole = data.rfind(b"\n") + 1
        for line in data[:whole].splitlines(keepends=True):
            # Counted first: an interruption while it is taken must not bring it twice.
            self._read += len(line)
            self.seen += 1
            self.on_event(json.loads(line))


def run_suite(
    check_set: CheckSet,
    place: SuiteEnvironment,
    *,
    run: Runner,
    say: Callable[[str], None],
    on_event: Callable[[Mapping[str, Any]], None],
    device_class: str | None,
    only: str | None = None,
    check_limit: float | None = None,
    limit: float | None = None,
) -> None:
    """Ask the checks of a set, to the end; `on_event` gets each event of the suite's protocol.

    `device_class`: what the suite is expected to find, None: whatever it says. `check_limit`:
    seconds that a check may take at most, also one that asks for more; None: each its own limit, or
    the suite's. `limit`: seconds for all of them, where not the set's own.

    Raises:
        EvidenceError: the checks cannot run.
        InfrastructureError: they did not start or did not come to their end, or the machine failed;
            `on_event` has had what they said until then.
    """
    watch = machine.Watch(device_class)
    problems: list[str] = []
    last, checks = "", 0

    def take(event: Mapping[str, Any]) -> None:
        nonlocal last, checks
        watch.see(event)
        last = event["event"]
        checks += last == "check"
        if last == "error":
            problems.append(str(event.get("message")).partition("\n")[0])
        on_event(event)

    place.logs.mkdir(parents=True, exist_ok=True)
    tail = EventTail(path=place.logs / "events.jsonl", on_event=take)
    log = place.logs / "suite.log"
    for path in (tail.path, log):
        path.unlink(missing_ok=True)

    def line(text: str) -> None:
        tail.drain()
        say(f"  {text}")

    whole = check_set.limit if limit is None else limit
    argv = _command(check_set, place, tail.path, only, check_limit)
    try:
        done = run(
            argv,
            timeout=whole,
            env=place.variables,
            cwd=place.suite.parent,
            log=log,
            on_line=line,
        )
    finally:
        tail.drain()
    what = check_set.words
    if tail.seen == 0:
        output = done.output.strip().splitlines()[-1:] or ["it printed nothing"]
        raise InfrastructureError(f"{what} did not start: {output[0]} (log: {log})")
    if done.timed_out:
        raise InfrastructureError(f"{what} passed its limit of {whole:.0f} s (log: {log})")
    if problems:
        raise EvidenceError(f"{what} cannot run: {problems[0]}")
    if last != "end":
        raise InfrastructureError(
            f"{what} ended early in {place.name}, after {checks} checks, with exit code "
            f"{done.returncode} (log: {log}); run it again"
        )


def _command(
    check_set: CheckSet,
    place: SuiteEnvironment,
    events: Path,
    only: str | None,
    check_limit: float | None,
) -> list[str | os.PathLike[str]]:
    argv: list[str | os.PathLike[str]] = [place.python, "-u", place.suite / "run.py"]
    argv += ["--tools", place.tools, "--events", events]
    if check_limit is not None:
        argv += ["--timeout", str(check_limit)]
    if place.variables.get(VISIBLE) == "":
        # All devices are hidden: asked for one, the suite would take that for a fault of torch's.
        argv += ["--gpu", "never"]
    if only:
        argv += ["--only", only]
    if check_set.name != "main":
        argv += ["--checks", check_set.folder(place.suite)]
    return argv
