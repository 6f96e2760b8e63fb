"""Runs a check set with an environment's Python, and passes on the suite's events as they come.

Standard library only: bundles run this on machines that have nothing else.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mcore_compat.base import files, process_marks, temporary
from mcore_compat.base.errors import InfrastructureError, ResultError
from mcore_compat.base.processes import Runner
from mcore_compat.run import infrastructure, room
from mcore_compat.run.check_sets import CheckSet
from mcore_compat.run.confirmation import Doubts
from mcore_compat.run.machine import VISIBLE


@dataclass(frozen=True, kw_only=True)
class SuiteEnvironment:
    """Where checks run: an environment's Python and variables, pytest's folder (`tools`), the
    suite, and the folder for logs. `name`: the cell's."""

    name: str
    python: Path
    tools: Path
    variables: Mapping[str, str]
    suite: Path
    logs: Path


SOCKET_BYTES, _BELOW = 107, 32
"""The maximum length of a socket's path, and what Python and torch append to the temporary folder
for it: `pymp-xxxxxxxx/listener-xxxxxxxx`."""

EVENTS = "events-*.jsonl"
"""The name of an events file: each process of the suite has its own, so that a process left behind
by a killed run cannot write into a newer one's."""


@dataclass(kw_only=True)
class EventTail:
    """Reads the new lines of a growing events file. `folder`: this run's temporary folder, which is
    cut from paths, so that equal runs have equal events."""

    path: Path
    on_event: Callable[[Mapping[str, Any]], None]
    folder: str = ""
    _read: int = field(default=0, init=False)
    seen: int = field(default=0, init=False)

    def drain(self) -> None:
        """Pass on every whole line; an incomplete line waits for the next call."""
        if not self.path.exists():
            return
        with self.path.open("rb") as source:
            source.seek(self._read)
            data = source.read()
        whole = data.rfind(b"\n") + 1
        for line in data[:whole].splitlines(keepends=True):
            # Counted first, so that an interruption does not pass it on twice.
            self._read += len(line)
            self.seen += 1
            own = f"/{self.folder}".encode()
            self.on_event(_event(line.replace(own, b"") if self.folder else line))


_TEXTS = {"check": ("check", "outcome"), "record": ("record",), "start": ("device_class",)}
"""By event: its fields that must be texts."""


def _event(line: bytes) -> Mapping[str, Any]:
    """An event of the suite's protocol from its line.

    Raises:
        InfrastructureError: the line is not an event.
    """
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        event = None
    if not isinstance(event, dict) or not _is_whole(event):
        raise InfrastructureError(f"the suite wrote an invalid event: {line[:80]!r}")
    return event


def _is_whole(event: Mapping[str, Any]) -> bool:
    """Whether it has the fields that are used before it becomes part of a result."""
    failure = event.get("failure")
    texts = [event.get(name) for name in ("event", *_TEXTS.get(str(event.get("event")), ()))]
    if isinstance(failure, dict):
        texts += [failure.get(name) for name in ("type", "message", "traceback")]
    return isinstance(failure, dict | None) and all(isinstance(text, str) for text in texts)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Which checks of a set run, and their time limits in seconds: `check_limit` for each, also one
    that declares more (None: its own limit, or the suite's), `limit` for all together (None: the
    set's own)."""

    check_set: CheckSet
    only: str | None = None
    check_limit: float | None = None
    limit: float | None = None

    @property
    def seconds(self) -> float:
        return self.check_set.limit if self.limit is None else self.limit


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
    known: Mapping[str, str] = MappingProxyType({}),
    before_again: Callable[[], None] = lambda: None,
) -> None:
    """Run the checks of a set to the end; `on_event` gets each event of the suite's protocol.

    `device_class`: what the suite must find, None: whatever it reports. `only`, `check_limit`,
    `limit`: as in `Asked`. `known`: outcome by check of the stored result of the same lock and
    suite. A check with a doubtful outcome runs again before its event is passed on (see
    `run.confirmation`); `before_again` is called before that.

    Raises:
        ResultError: the checks cannot run.
        InfrastructureError: they did not start or did not run to the end, or the machine failed;
            `on_event` got their events until then.
    """
    asked = Asked(check_set=check_set, only=only, check_limit=check_limit, limit=limit)
    folders = (_temporary_of(place), place.logs, room.SHM)
    room.require(folders)
    doubts, end = Doubts(known), []

    def first(event: Mapping[str, Any]) -> None:
        if doubts.passed_on(event):
            on_event(event)
        elif event["event"] == "end":
            end.append(event)

    with room.Sampler(folders).running() as sampler:
        watch = infrastructure.Watch(device_class, sampler.short)
        _once(asked, place, watch, run=run, say=say, on_event=first)
        if doubts.open:
            before_again()
        while doubts.open:
            checks = doubts.again()
            for name, why in checks.items():
                say(f"{name} runs again: {why}")
            rest = replace(asked, only=",".join(checks))
            _once(rest, place, watch, run=run, say=say, on_event=doubts.take)
    for event in (*doubts.settled(), *end):
        on_event(event)


def _once(
    asked: Asked,
    place: SuiteEnvironment,
    watch: infrastructure.Watch,
    *,
    run: Runner,
    say: Callable[[str], None],
    on_event: Callable[[Mapping[str, Any]], None],
) -> None:
    """Run one process of the suite to its end; raises as `run_suite`."""
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
    events = place.logs / EVENTS.replace("*", process_marks.new())
    log = place.logs / "suite.log"
    for path in (*place.logs.glob("events*.jsonl"), log):
        path.unlink(missing_ok=True)
    with _temporary(place) as (variables, folder):
        tail = EventTail(path=events, on_event=take, folder=folder)

        def line(text: str) -> None:
            tail.drain()
            say(f"  {text}")

        try:
            done = run(
                _command(asked, place, events),
                timeout=asked.seconds,
                env=variables,
                cwd=place.suite.parent,
                log=log,
                on_line=line,
            )
        finally:
            tail.drain()
    what = asked.check_set.words
    if tail.seen == 0:
        output = done.output.strip().splitlines()[-1:] or ["it printed nothing"]
        raise InfrastructureError(f"{what} did not start: {output[0]} (log: {log})")
    if done.timed_out:
        raise InfrastructureError(f"{what} passed its limit of {asked.seconds:.0f} s (log: {log})")
    if problems:
        raise ResultError(f"{what} cannot run: {problems[0]}")
    if last != "end":
        raise InfrastructureError(
            f"{what} ended early in {place.name}, after {checks} checks, with exit code "
            f"{done.returncode} (log: {log}); run it again"
        )


def _temporary_of(place: SuiteEnvironment) -> Path:
    return Path(place.variables.get("TMPDIR") or tempfile.gettempdir())


@contextlib.contextmanager
def _temporary(place: SuiteEnvironment) -> Iterator[tuple[Mapping[str, str], str]]:
    """The variables of one process of the suite, with its own temporary folder, and the folder's
    name (killed processes leave files there). Without the folder if paths of sockets would be too
    long in it."""
    among = _temporary_of(place)
    with temporary.folder(among) as folder:
        if len(os.fsencode(folder)) + _BELOW > SOCKET_BYTES:
            yield place.variables, ""
        else:
            yield {**_kept(place, among), **place.variables, "TMPDIR": str(folder)}, folder.name


def _kept(place: SuiteEnvironment, among: Path) -> dict[str, str]:
    """Folders for what torch compiles while checks run, kept for later runs of the same
    environment; torch would put it into the temporary folder."""
    name = files.sha256_bytes(os.fsencode(place.python.parent.parent))[:16]
    return {
        "TORCH_EXTENSIONS_DIR": str(among / f"mcore-compat-extensions-{name}"),
        "TORCHINDUCTOR_CACHE_DIR": str(among / f"mcore-compat-inductor-{name}"),
    }


def _command(asked: Asked, place: SuiteEnvironment, events: Path) -> list[str | os.PathLike[str]]:
    argv: list[str | os.PathLike[str]] = [place.python, "-u", place.suite / "run.py"]
    argv += ["--tools", place.tools, "--events", events]
    if asked.check_limit is not None:
        argv += ["--timeout", str(asked.check_limit)]
    if place.variables.get(VISIBLE) == "":
        # All devices are hidden: else the suite would report that as a fault of torch.
        argv += ["--gpu", "never"]
    if asked.only:
        argv += ["--only", asked.only]
    if asked.check_set.name != "main":
        argv += ["--checks", asked.check_set.folder(place.suite)]
    return argv
