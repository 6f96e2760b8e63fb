"""Draws outcomes of published results by a seed, for somebody to repeat by hand.

    python tests/referee/draw.py SEED COUNT [FOLDER]

One line each: the cell, the check, what is published of it. Drawn are checks that made an
assertion or say that a release lacks something, of `main.host.json` below `reports/results`; each
kind of check at most once before any is drawn twice, so that the rare ones have their turn.
"""

from __future__ import annotations

import json
import random
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

ASSERTED = ("works", "works-with", "broken", "unsupported")


def published(folder: Path, suite: str | None = None) -> Iterator[tuple[str, str, str]]:
    """`(cell, check, outcome)` of each check that was asked; `suite`: of results of that digest."""
    for path in sorted(folder.glob("compat-*/main.host.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        if suite is None or result["suite"] == suite:
            for check in result["checks"]:
                if check["outcome"] in ASSERTED:
                    yield result["cell"], check["check"], check["outcome"]


def newest(folder: Path) -> str:
    """The digest of the suite by which the result that was taken last was made.

    Raises:
        ValueError: there is no result.
    """
    read = (
        json.loads(p.read_text(encoding="utf-8")) for p in folder.glob("compat-*/main.host.json")
    )
    return str(max(read, key=lambda result: result["taken"])["suite"])


def drawn(
    rows: Iterable[tuple[str, str, str]], seed: int, count: int
) -> list[tuple[str, str, str]]:
    """`count` of the rows, or all where there are fewer; sorted."""
    order = random.Random(seed)
    kinds: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
    for row in sorted(rows):
        kinds[row[1].partition("[")[0]].append(row)
    for of_kind in kinds.values():
        order.shuffle(of_kind)
    taken: list[tuple[str, str, str]] = []
    while any(kinds.values()) and len(taken) < count:
        turn = sorted(kind for kind in kinds if kinds[kind])
        order.shuffle(turn)
        taken += [kinds[kind].pop() for kind in turn[: count - len(taken)]]
    return sorted(taken)


def main(argv: list[str]) -> int:
    seed, count = int(argv[0]), int(argv[1])
    folder = Path(argv[2] if len(argv) > 2 else "reports/results")
    for row in drawn(published(folder, newest(folder)), seed, count):
        print(*row)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
