"""A stand-in for the suite's process: the engine runs it, and reads what it writes as a suite's."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support import START, event

from mcore_compat.base.processes import Completed

END: dict[str, Any] = {"event": "end", "seconds": 1.0}
EVENTS: list[dict[str, Any]] = [START, event("import[torch]"), END]


def line_of(one: Mapping[str, Any]) -> bytes:
    """An event as the suite writes it."""
    return json.dumps(one, ensure_ascii=False).encode() + b"\n"


def is_suite(argv: Sequence[str | os.PathLike[str]]) -> bool:
    """Whether a process that is asked for is the suite's."""
    return "--events" in argv


@dataclass
class SuiteProcess:
    """Writes `events`, and prints a line after each but the last.

    `raises` is what interrupts it after its last event. `argv` and `options` are what it was last
    run with, `runs` how often.
    """

    events: list[Any] = field(default_factory=lambda: list(EVENTS))
    output: str = ""
    returncode: int = 0
    timed_out: bool = False
    raises: BaseException | None = None
    argv: list[str] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    runs: int = 0

    def __call__(self, argv: Sequence[str | os.PathLike[str]], **options: Any) -> Completed:
        self.runs += 1
        self.argv = [os.fspath(a) for a in argv]
        tell = options.pop("on_line", None)
        self.options = options
        path = Path(self.after("--events"))
        for number, one in enumerate(self.events, start=1):
            with path.open("ab") as out:
                out.write(line_of(one))
            if tell and number < len(self.events):
                tell(f"line {number}")
        if self.raises:
            raise self.raises
        return Completed(
            argv=tuple(self.argv),
            returncode=self.returncode,
            output=self.output,
            seconds=1.0,
            timed_out=self.timed_out,
        )

    def after(self, option: str) -> str:
        """The word after an option that it was run with."""
        return self.argv[self.argv.index(option) + 1]
