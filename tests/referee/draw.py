"""Draw outcomes of published results by a seed, for somebody to repeat by hand.

    python tests/referee/draw.py SEED COUNT [FOLDER]

Prints a line for each: the cell, the check, the published outcome. It draws from the checks in
`main.host.json` below `reports/results` that made an assertion or found that the release lacks the
feature; no kind of check is drawn twice before each was drawn once, so that rare kinds appear.
"""

from __future__ import annotations

import random
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from mcore_compat.base.errors import CompatError  # noqa: E402
from mcore_compat.core.outcomes import HOLDS, CheckOutcome  # noqa: E402
from mcore_compat.results import store  # noqa: E402
from mcore_compat.results.result import Result  # noqa: E402

USAGE = "usage: python tests/referee/draw.py SEED COUNT [FOLDER]"
ASSERTED = HOLDS | {CheckOutcome.BROKEN, CheckOutcome.UNSUPPORTED}


def results(folder: Path) -> Iterator[Result]:
    """The results of cells without a GPU, sorted by cell.

    Raises:
        ResultError: one is corrupt.
    """
    for path in sorted(folder.glob("compat-*/main.host.json")):
        yield store.load(path, whole=False)


def published(folder: Path, suite: str | None = None) -> Iterator[tuple[str, str, str]]:
    """`(cell, check, outcome)` of each check that ran; `suite`: only of that suite's digest."""
    for result in results(folder):
        if suite is None or result.suite == suite:
            for check in result.checks:
                if check.outcome in ASSERTED:
                    yield result.cell, check.check, str(check.outcome)


def newest(folder: Path) -> str:
    """The digest of the suite that made the newest result.

    Raises:
        ValueError: there is no result.
    """
    last = max(results(folder), key=lambda result: result.taken, default=None)
    if last is None:
        raise ValueError(f"no result below {folder}")
    return last.suite


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
    """Print the rows that are drawn; 2 where the arguments or the results are wrong."""
    try:
        numbers, folders = [int(word) for word in argv[:2]], argv[2:]
    except ValueError:
        numbers, folders = [], []
    if len(numbers) < 2 or numbers[1] < 1 or len(folders) > 1:
        print(USAGE, file=sys.stderr)
        return 2
    folder = Path(folders[0] if folders else "reports/results")
    try:
        rows = list(published(folder, newest(folder)))
    except (ValueError, CompatError) as error:
        print(f"draw.py: {error}", file=sys.stderr)
        return 2
    for row in drawn(rows, *numbers):
        print(*row)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
