"""Asks the checks that must notice, in a cell as it is and then with one thing broken."""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mcore_compat.base import files
from mcore_compat.base.errors import CompatError, UsageError
from mcore_compat.base.processes import Runner
from mcore_compat.core.outcomes import FAILURES, HOLDS, CheckOutcome
from mcore_compat.run import runner
from mcore_compat.run.check_sets import MAIN
from mcore_compat.run.machine import VISIBLE
from mcore_compat.run.runner import SuiteEnvironment
from mutants import overlay
from mutants.faults import DoesNotApplyError, Fault, checks_of, patch

CHECK_LIMIT_S = 150.0
"""Seconds that one check may take: one that hangs is to be seen soon, one on a busy machine not."""

SHOWN = 4
"""How many checks a verdict names before it only counts them."""

RUN_LIMIT_S = 1200.0

NOTICED, MISSED, NOT_HERE, ERROR = "noticed", "missed", "does not apply", "error"

Take = Callable[[Mapping[str, Any]], None]
"""What gets each event of the suite."""

Outcomes = Mapping[str, str]
"""By the id of a check, how it ended."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a fault came to in a cell; `detail` is the same whenever the checks end the same."""

    word: str
    detail: str


class _ListedError(Exception):
    """Ends a run as soon as the suite has said which checks it has."""

    def __init__(self, checks: Sequence[str]) -> None:
        super().__init__()
        self.checks = list(checks)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A cell that is broken on purpose: its environment, and how its processes are run."""

    place: SuiteEnvironment
    run: Runner

    @property
    def site(self) -> Path:
        """Where its packages are."""
        return next((self.place.python.parents[1] / "lib").glob("python3*/site-packages"))

    def checks(self) -> list[str]:
        """The ids of all checks of the suite."""

        def stop(event: Mapping[str, Any]) -> None:
            if event["event"] == "start":
                raise _ListedError(event["checks"])

        with _folder() as logs:
            try:
                self._suite(replace(self.place, logs=logs), None, stop)
            except _ListedError as listed:
                return listed.checks
        return []

    def asked(self, checks: Sequence[str], folder: Path | None = None) -> dict[str, str]:
        """How each of `checks` ends, with the overlay `folder` in front.

        Raises:
            ResultError, InfrastructureError: the run did not come to its end.
            UsageError: the suite itself is broken on purpose.
        """
        found: dict[str, str] = {}

        def take(event: Mapping[str, Any]) -> None:
            if event["event"] == "check":
                found[event["check"]] = event["outcome"]

        with _folder() as logs:
            place = replace(self.place, logs=logs)
            if folder is not None:
                own = overlay.variables(place.variables, folder)
                place = replace(place, variables=own)
            self._suite(place, ",".join(checks), take)
        return found

    def _suite(self, place: SuiteEnvironment, only: str | None, take: Take) -> None:
        def whole(event: Mapping[str, Any]) -> None:
            refuse_sabotage(event)
            take(event)

        runner.run_suite(
            MAIN,
            replace(place, variables={**place.variables, VISIBLE: ""}),
            run=self.run,
            say=lambda line: None,
            on_event=whole,
            device_class="host",
            only=only,
            check_limit=CHECK_LIMIT_S,
            limit=RUN_LIMIT_S,
        )

    def broken(self, fault: Fault, there: Sequence[str], before: Outcomes) -> Verdict:
        """What `fault` comes to; `there` are the suite's checks, `before` how they end unharmed.

        Raises:
            As `asked`.
        """
        try:
            change = patch(fault, self.site)
        except DoesNotApplyError as error:
            return Verdict(word=NOT_HERE, detail=str(error))
        checks = checks_of(fault, there)
        able = [check for check in checks if before.get(check) in HOLDS]
        if not able:
            return Verdict(word=MISSED, detail=_unable(fault, checks, before))
        with _folder() as folder:
            overlay.build(self.site, change, folder)
            place = self.place
            why = overlay.unused(place.python, change, folder, place.variables, self.run)
            if why:
                return Verdict(word=ERROR, detail=why)
            after = self.asked(able, folder)
            return judged({check: before[check] for check in able}, after, hangs=fault.hangs)


def refuse_sabotage(event: Mapping[str, Any]) -> None:
    """Let only events of a suite pass that is not broken itself.

    Raises:
        UsageError: it says that it is.
    """
    if event["event"] == "start" and event.get("sabotage"):
        raise UsageError(f"the suite is broken on purpose, too: {event['sabotage']}")


def not_ended(error: CompatError) -> Verdict:
    """What a fault came to whose run did not come to its end; without paths of this machine."""
    first = str(error).partition(" (log: ")[0].partition(" did not start")
    said = f"{first[0]}{first[1]}".removesuffix("; run it again")
    return Verdict(word=ERROR, detail=re.sub(r"(?<![\w.…-])(?:/[^\s/:]+){2,}", "…", said))


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A folder on the file system of the environments, where links to their files can be made."""
    parent = files.home() / "mutants"
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _unable(fault: Fault, checks: Sequence[str], before: Outcomes) -> str:
    if not checks:
        return f"the suite has no check {' or '.join(fault.noticed_by)}"
    ends = sorted({f"{check} is {before.get(check, 'not asked')}" for check in checks})
    return f"unharmed, {', '.join(ends)}"


def judged(before: Outcomes, after: Outcomes, *, hangs: bool = False) -> Verdict:
    """What a fault came to, by how its checks ended without it (all of them held) and with it;
    an error where one only was too slow, and the fault is none that `hangs`."""
    telling = FAILURES if hangs else FAILURES - {CheckOutcome.TIMED_OUT}
    noticed, slow, others = [], [], []
    for check, held in sorted(before.items()):
        now = after.get(check, "not asked")
        conditional = held == CheckOutcome.WORKS and now == CheckOutcome.WORKS_WITH
        if now in telling or conditional:
            noticed.append(f"{check} {now}")
        elif now == CheckOutcome.TIMED_OUT:
            slow.append(f"{check} {now}")
        elif now != held:
            others.append(f"{check} {now}")
    if noticed:
        return Verdict(word=NOTICED, detail=_some(noticed))
    if slow:
        return Verdict(word=ERROR, detail=_some(slow))
    same = [check for check in sorted(before) if after.get(check) == before[check]]
    told = [f"{_some(same)} {'still holds' if len(same) == 1 else 'still hold'}"] if same else []
    return Verdict(word=MISSED, detail="; ".join([*others, *told]))


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"
