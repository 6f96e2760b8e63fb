"""The static check whether many combinations can be installed; it caches its answers."""

from __future__ import annotations

import itertools
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from mcore_compat.base import files, processes
from mcore_compat.core.cells import Cell
from mcore_compat.core.matrix import Matrix
from mcore_compat.core.releases import Releases
from mcore_compat.index import package_index
from mcore_compat.index.metadata import MetadataStore, NotKeptError
from mcore_compat.resolve import resolution, solver
from mcore_compat.resolve.solver import Installability

ASKERS = 12
"""Number of threads that query the index."""

BATCH = 600
"""Combinations per work unit of a process."""

LEFT = "left to uv"
UNKNOWN = "unknown: no metadata in the cache; run without --offline"
"""The answers for combinations that this check cannot decide, and for those without metadata."""


class KeptAnswers(Struct, kw_only=True, frozen=True):
    """The cache file: by digest of the input, the answer and the index of its reason in `reasons`.
    `form` is increased when the check would answer differently."""

    form: Literal[2] = 2
    reasons: list[str]
    answers: dict[str, tuple[bool | None, int]]


@dataclass(frozen=True, kw_only=True)
class InstallAnswers:
    """The answers by cell name; `asked`: how many were not in the cache."""

    verdicts: Mapping[str, Installability]
    asked: int

    def counts(self) -> Counter[str]:
        """How many combinations have each answer."""
        words = {True: "can be installed", False: "cannot be installed", None: LEFT}
        return Counter(UNKNOWN if v.unkept else words[v.installs] for v in self.verdicts.values())

    def reasons(self) -> list[tuple[str, int]]:
        """Why combinations cannot be installed, the most frequent first."""
        counts = Counter(v.reason for v in self.verdicts.values() if v.installs is False)
        return sorted(counts.items(), key=lambda row: (-row[1], row[0]))


def path() -> Path:
    """The cache file."""
    return files.home() / "metadata" / "answers" / "static.json"


def kept() -> dict[str, Installability]:
    """The answers in the cache; none if the file has another form or is truncated."""
    try:
        content = msgspec.json.decode(path().read_bytes(), type=KeptAnswers)
        return {
            digest: Installability(installs=installs, reason=content.reasons[reason])
            for digest, (installs, reason) in content.answers.items()
        }
    except (OSError, msgspec.DecodeError, IndexError):
        return {}  # all are computed again


def keep(answers: Mapping[str, Installability]) -> None:
    """Write answers to the cache, each reason once."""
    reasons = sorted({v.reason for v in answers.values()})
    place = {reason: number for number, reason in enumerate(reasons)}
    rows = {digest: (v.installs, place[v.reason]) for digest, v in sorted(answers.items())}
    text = msgspec.json.encode(KeptAnswers(reasons=reasons, answers=rows)).decode()
    files.write_text(path(), text + "\n", durable=False)


def sweep(
    cells: Iterable[Cell],
    matrix: Matrix,
    releases: Releases,
    *,
    offline: bool,
    jobs: int,
    say: Callable[[str], None],
) -> InstallAnswers:
    """Whether each cell can be installed. With `offline`, the index is never queried.

    Raises:
        InfrastructureError: the index did not answer; earlier answers are kept.
    """
    digests = {c.name: (resolution.asked_for(c, matrix, releases), c) for c in cells}
    answers = kept()
    todo = {digest: cell for digest, cell in digests.values() if digest not in answers}
    todo_now = todo
    try:
        while todo_now:
            say(f"checking {len(todo_now)} of {len(digests)} combinations")
            answers.update(_answered(todo_now, matrix, releases, jobs, say))
            unsaid = {digest: cell for digest, cell in todo_now.items() if answers[digest].unkept}
            if not unsaid or offline:
                break
            # Most lack the same few files: fetching those for some cells is enough for many.
            examples = _examples(unsaid, answers)
            say(f"querying the index for {len(examples)} of {len(unsaid)} of them")
            answers.update(_asked(examples, matrix, releases))
            todo_now = {digest: cell for digest, cell in unsaid.items() if digest not in examples}
    finally:
        keep({digest: answer for digest, answer in answers.items() if not answer.unkept})
    return InstallAnswers(
        verdicts={name: answers[digest] for name, (digest, _) in digests.items()}, asked=len(todo)
    )


class InstallChecks:
    """Whether cells can be installed, one at a time, for who needs few of them. A block: at its end
    the new answers and metadata go to the cache."""

    def __init__(self, matrix: Matrix, releases: Releases, *, offline: bool) -> None:
        self._matrix, self._releases = matrix, releases
        client = None if offline else package_index.client()
        self._store = MetadataStore(client=client, known=releases)
        self._answers = kept()
        self.asked = 0
        """The number of cells whose answer was not in the cache."""

    def known(self, cell: Cell) -> Installability | None:
        """The answer in the cache."""
        return self._answers.get(self._digest(cell))

    def __call__(self, cell: Cell) -> bool:
        """False if a cell cannot be installed, True if it can or the resolver cannot tell.

        Raises:
            InfrastructureError: the index did not answer.
        """
        digest = self._digest(cell)
        if digest not in self._answers:
            self.asked += 1
            self._answers[digest] = _answer(cell, self._matrix, self._releases, self._store)
        return self._answers[digest].installs is not False

    def _digest(self, cell: Cell) -> str:
        return resolution.asked_for(cell, self._matrix, self._releases)

    def __enter__(self) -> InstallChecks:
        return self

    def __exit__(self, *error: object) -> None:
        self._store.save()
        if self.asked:
            keep({digest: a for digest, a in self._answers.items() if not a.unkept})


def _examples(cells: Mapping[str, Cell], answers: Mapping[str, Installability]) -> dict[str, Cell]:
    """Some cells for each file that is not in the cache."""
    by_reason: dict[str, list[str]] = {}
    for digest in cells:
        by_reason.setdefault(answers[digest].reason, []).append(digest)
    return {
        d: cells[d] for digests in by_reason.values() for d in digests[:: max(1, len(digests) // 4)]
    }


def _answered(
    todo: Mapping[str, Cell],
    matrix: Matrix,
    releases: Releases,
    jobs: int,
    say: Callable[[str], None],
) -> Iterator[tuple[str, Installability]]:
    """Answers from the cache alone, by `jobs` processes."""
    # Similar cells need the same packages: process them one after another.
    order = sorted(todo.items(), key=lambda row: (row[1].torch, row[1].te, row[1].name))
    batches = [order[place : place + BATCH] for place in range(0, len(order), BATCH)]
    if len(batches) == 1:
        yield from _batch(batches[0], matrix, releases)
        return
    count = 0
    # The workers end when this process ends for any reason.
    with ProcessPoolExecutor(
        jobs, initializer=processes.die_with_parent, initargs=(signal.SIGKILL,)
    ) as pool:
        rows = pool.map(_batch, batches, itertools.repeat(matrix), itertools.repeat(releases))
        for batch in rows:
            yield from batch
            count += len(batch)
            say(f"  {count} of {len(order)} checked")


def _batch(
    batch: Sequence[tuple[str, Cell]], matrix: Matrix, releases: Releases
) -> list[tuple[str, Installability]]:
    store = MetadataStore()
    return [(digest, _answer(cell, matrix, releases, store)) for digest, cell in batch]


def _answer(cell: Cell, matrix: Matrix, releases: Releases, store: MetadataStore) -> Installability:
    try:
        return solver.verdict(cell, matrix, releases, store)
    except NotKeptError as missing:
        return Installability(installs=None, reason=f"not in the cache: {missing}", unkept=True)


def _asked(
    todo: Mapping[str, Cell], matrix: Matrix, releases: Releases
) -> Iterator[tuple[str, Installability]]:
    """Answers that need the index; most of the time is spent waiting for it."""
    store = MetadataStore(client=package_index.client(), known=releases)
    try:
        with ThreadPoolExecutor(max_workers=ASKERS) as pool:
            rows = pool.map(
                lambda row: (row[0], _answer(row[1], matrix, releases, store)), todo.items()
            )
            yield from rows
    finally:
        store.save()
