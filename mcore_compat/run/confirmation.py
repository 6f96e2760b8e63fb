"""Checks with a doubtful outcome run again, in a new process, before they count.

An outcome is doubtful if the check's process was killed or hung, if the check failed because
another of its processes was gone, or if it fails and a result of the same lock and suite says that
it works. The outcome that occurs twice counts; a check that also had another one says so in its
details (`flapping`). Imports only what a bundle has.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from mcore_compat.base.errors import InfrastructureError
from mcore_compat.run.infrastructure import FROM_OUTSIDE

Event = Mapping[str, Any]
"""Of the suite's protocol."""

RUNS = 3
"""The maximum number of runs of a check."""

FLAPPING = "flapping"
"""The detail of a check that ended differently in several runs: all its own outcomes, in order."""

_LEFT_OUT = "left_out"
"""The detail of a check that does not run on a stand-in (`results.result`)."""

_HOLDS = ("works", "works-with")
_DIED = ("crashed", "timed-out")

_LOST = re.compile(
    r"exited unexpectedly|terminated (?:by signal|unexpectedly)|was killed|died unexpectedly"
    r"|exitcode|exit code:? -|SIGKILL|SIGTERM|BrokenPipeError|ConnectionResetError"
    r"|Broken pipe|Connection reset|Connection closed by"
)
"""Messages about another process that is gone."""

_UNREPORTED = "exited with code 70 "
"""The reason if the suite's process of a check could not write the check's result."""


class Doubts:
    """The checks that must run again; their events are held back until their outcome is settled."""

    def __init__(self, known: Mapping[str, str]) -> None:
        """`known`: outcome by check of the stored result, of the same lock and suite."""
        self._known = known
        self._roots: dict[str, str] = {}
        self._followers: dict[str, str] = {}
        self._runs: list[dict[str, Event]] = [{}]

    def passed_on(self, event: Event) -> bool:
        """Whether an event of the first run counts; else it is held back."""
        if event.get("event") != "check":
            return not (event.get("event") == "end" and self._roots)
        name = str(event["check"])
        root = self._root_of(event)
        why = None if root else self._why(event)
        if root:
            self._followers[name] = root
        elif why:
            self._roots[name] = why
        else:
            return True
        self._runs[0][name] = event
        return False

    @property
    def open(self) -> bool:
        """Whether some check has no outcome that occurred twice.

        Raises:
            InfrastructureError: after the last run one still has none.
        """
        undecided = [name for name in self._roots if self._settled(name) is None]
        if undecided and len(self._runs) >= RUNS:
            raise InfrastructureError(_differently(undecided[0], self._outcomes(undecided[0])))
        return bool(undecided)

    def again(self) -> dict[str, str]:
        """Begin another run; its checks, and why they run again: the doubtful ones, and those that
        were blocked by one."""
        self._runs.append({})
        follow = {name: f"{root} runs again" for name, root in self._followers.items()}
        return dict(sorted({**self._roots, **follow}.items()))

    def take(self, event: Event) -> None:
        """Take an event of a further run."""
        if event.get("event") == "check":
            self._runs[-1][str(event["check"])] = event

    def settled(self) -> list[Event]:
        """The events that were held back, with their final outcome.

        Raises:
            InfrastructureError: a check ended by a signal from outside each time, or differently
                each time.
        """
        return [self._event(name) for name in self._runs[0]]

    def _why(self, event: Event) -> str | None:
        outcome, known = event["outcome"], self._known.get(event["check"])
        if outcome in _HOLDS or outcome == known or _LEFT_OUT in (event.get("details") or {}):
            return None
        if known in _HOLDS:
            return f"it is {outcome}, and was {known} with the same lock and suite"
        if outcome in _DIED:
            return str(event.get("reason") or outcome)
        failure = event.get("failure") or {}
        lost = _LOST.search(f"{failure.get('type')}: {failure.get('message')}")
        return f"a process of it was gone: {lost[0]}" if failure and lost else None

    def _root_of(self, event: Event) -> str | None:
        """The doubtful check before it that decided its outcome."""
        reason = str(event.get("reason") or "")
        if event["outcome"] not in ("blocked", "needs-gpu", "unsupported"):
            return None
        for name in self._roots:
            if reason.startswith((f"{name} ", f"{name}:")):
                return name
        return None

    def _ends(self, name: str) -> list[Event]:
        return [run[name] for run in self._runs if name in run]

    def _outcomes(self, name: str) -> list[str]:
        return [str(event["outcome"]) for event in self._ends(name)]

    def _settled(self, name: str) -> tuple[str, str | None] | None:
        """The outcome that a doubtful check had at least twice; None if there is none."""
        ends = Counter(map(_end, self._ends(name)))
        end, count = ends.most_common(1)[0]
        return end if count > 1 else None

    def _event(self, name: str) -> Event:
        root = self._followers.get(name, name)
        alike = [
            run for run in self._runs if root in run and _end(run[root]) == self._settled(root)
        ]
        events = [run[name] for run in alike if name in run]
        if len({_end(event) for event in events}) != 1:
            raise InfrastructureError(_differently(name, self._outcomes(name)))
        event = events[0]
        if _of_others(event):
            raise InfrastructureError(
                f"{name}: {event['reason']}, {len(events)} times: another program ends it"
            )
        outcomes = [str(e["outcome"]) for e in self._ends(name) if not _of_others(e)]
        if len(set(outcomes)) == 1 or name in self._followers:
            return event
        return {**event, "details": {**(event.get("details") or {}), FLAPPING: outcomes}}


def _of_others(event: Event) -> bool:
    """Whether a check ended by a signal from outside, or could not write its result: that is not an
    outcome of the check."""
    kind = (event.get("failure") or {}).get("type")
    unreported = str(event.get("reason")).startswith(_UNREPORTED)
    return event["outcome"] == "crashed" and (kind in FROM_OUTSIDE or unreported)


def _end(event: Event) -> tuple[str, str | None]:
    """What must be equal for two runs to have the same outcome."""
    return str(event["outcome"]), (event.get("failure") or {}).get("type")


def _differently(name: str, outcomes: list[str]) -> str:
    return f"{name} ended differently each time: {', '.join(outcomes)}; run it again"
