"""`python -m words`: the words of the list in user-facing text; code 1 if any."""

from __future__ import annotations

from pathlib import Path

import words


def main() -> int:
    root = Path(__file__).resolve().parents[2]
    found = list(words.check(root, words.read()))
    for finding in found:
        print(finding)
    if found:
        print(f"{len(found)} words to replace; the list and its exceptions: tests/words/words.toml")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
