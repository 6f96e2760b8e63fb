"""What a check showed besides its outcome, kept line by line so that a crash loses nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from suite.events import plain


class Record:
    """Puts data into the check's `details`; what was recorded survives a crash of the check."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, key: str, value: Any) -> None:
        """Record `value` (JSON data, or what has a text) under `key`; a later one replaces it."""
        with self._path.open("a", encoding="utf-8") as out:
            out.write(json.dumps([key, plain(value)]) + "\n")

    def gpu_independent(self, why: str) -> None:
        """State why a failure of this check from here on would be the same with a GPU."""
        with self._path.open("a", encoding="utf-8") as out:
            out.write(json.dumps([None, why]) + "\n")

    def read(self) -> tuple[dict[str, Any], str | None]:
        """`(details, why independent of a GPU)` recorded so far."""
        details: dict[str, Any] = {}
        why = None
        if self._path.exists():
            for line in self._path.read_text(encoding="utf-8").splitlines():
                try:
                    key, value = json.loads(line)
                except ValueError:  # the process died while it wrote this line
                    continue
                if key is None:
                    why = value
                else:
                    details[key] = value
        return details, why
