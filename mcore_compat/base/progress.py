"""Progress lines of long steps."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable

EVERY_S = 15.0

_STEP = re.compile(r"^\s*\[(\d+)/(\d+)\]")


class Heartbeat:
    """`with Heartbeat(say, "installing"):` prints the elapsed time every `every` seconds.

    Build output passed to `step` adds the number of steps: `installing: 20 of 30 steps, 45 s`.
    """

    def __init__(self, say: Callable[[str], None], what: str, every: float = EVERY_S) -> None:
        self._say = say
        self._what = what
        self._every = every
        self._steps = ""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def step(self, line: str) -> None:
        """Read one line of output; only ninja's `[20/30] …` counts."""
        match = _STEP.match(line)
        if match:
            self._steps = f"{match[1]} of {match[2]} steps, "

    def _beat(self) -> None:
        started = time.monotonic()
        while not self._ended.wait(self._every):
            self._say(f"  {self._what}: {self._steps}{time.monotonic() - started:.0f} s")

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()
