"""What loading other cells' checkpoints showed: one result for each cell that loads."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mcore_compat.base.errors import EvidenceError
from mcore_compat.core.outcomes import FAILURES, CellOutcome, CheckOutcome
from mcore_compat.exchange.plan import WAYS
from mcore_compat.results import evidence, fingerprint
from mcore_compat.results.evidence import CheckResult, Evidence, Failure
from mcore_compat.run.check_sets import EXCHANGE

NOTED = (
    "load with defaults",
    "lenient load loses",
    "other keys",
    "other names",
    "disabled quantizers",
)
"""What a check recorded that is worth keeping."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """How one checkpoint came over. `cause`: the fingerprint of its failure; `reason`: in words,
    where it was not asked."""

    outcome: CheckOutcome
    cause: str | None = None
    reason: str | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Source:
    """What came of one cell's checkpoints: answers by `family:way`, and what they were."""

    lock: str
    manifests: str
    pins: Mapping[str, str]
    taken: str
    ways: tuple[str, ...]
    answers: Mapping[str, Answer]


@dataclass(frozen=True, kw_only=True)
class Exchanged:
    """All that `cell` loaded. `sources` are by the name of the cell that saved, `failures` by
    fingerprint; `exchange` is the digest of the checks."""

    cell: str
    device_class: str
    pins: Mapping[str, str]
    cuda: int
    lock: str
    exchange: str
    sources: Mapping[str, Source] = field(default_factory=dict)
    failures: Mapping[str, Failure] = field(default_factory=dict)

    def fresh(self, origin: str, ways: Iterable[str], *, lock: str, manifests: str | None) -> bool:
        """Whether `origin`'s checkpoints were loaded in these ways, and are still those that its
        lock makes; `manifests` is None where none are kept here any more."""
        found = self.sources.get(origin)
        if found is None or found.lock != lock or not set(ways) <= set(found.ways):
            return False
        return manifests in (None, found.manifests)


def outdated(found: Iterable[Exchanged], checks: str, locks: Mapping[str, str]) -> list[str]:
    """In words, what was seen with other checks or locks than today's; `locks`: digests by cell."""
    told = []
    for one in sorted(found, key=lambda e: (e.cell, e.device_class)):
        old = [name for name, s in sorted(one.sources.items()) if s.lock != locks.get(name)]
        if one.exchange != checks:
            told.append(f"all that {one.cell} loaded: the checks changed")
        elif one.lock != locks.get(one.cell):
            told.append(f"all that {one.cell} loaded: its lock changed")
        elif old:
            told.append(f"what {one.cell} loaded of {', '.join(old)}: their locks changed")
    return told


def answer(result: CheckResult) -> Answer:
    """A check's result, short: its failure is named by its fingerprint."""
    notes = {name: result.details[name] for name in NOTED if result.details.get(name)}
    failed = result.outcome in FAILURES
    return Answer(
        outcome=result.outcome,
        cause=result.failure.fingerprint if failed and result.failure else None,
        reason=None if failed else result.reason,
        notes=notes,
    )


def with_source(
    found: Exchanged, origin: str, source: Source, failures: Iterable[Failure]
) -> Exchanged:
    """`found` with what came of one more cell's checkpoints; failures that nothing names are left
    out. Of the same checkpoints, what came of other ways stays."""
    sources = {**found.sources, origin: _joined(found.sources.get(origin), source)}
    named = {a.cause for s in sources.values() for a in s.answers.values()}
    # The first that was seen stays, so that the same runs make the same file.
    known = {**{one.fingerprint: one for one in failures}, **found.failures}
    kept = {name: one for name, one in known.items() if name in named}
    return replace(found, sources=sources, failures=kept)


def _joined(old: Source | None, new: Source) -> Source:
    if old is None or (old.lock, old.manifests) != (new.lock, new.manifests):
        return new
    rest = [way for way in old.ways if way not in new.ways]
    stays = {key: a for key, a in old.answers.items() if key.partition(":")[2] in rest}
    ways = tuple(way for way in WAYS if way in (*rest, *new.ways))
    return replace(new, ways=ways, answers={**stays, **new.answers})


CHECK = re.compile(r"restore-from\[(?P<cell>[^:\]]+):(?P<key>[^:\]]+:[^:\]]+)\]")
"""The id of a check that loads: the cell that saved, and `family:way`."""


def result_of(found: Exchanged) -> Evidence:
    """As the result that is kept: a check for each checkpoint."""
    return Evidence(
        check_set=EXCHANGE.name,
        cell=found.cell,
        device_class="gpu" if found.device_class == "gpu" else "host",
        outcome=CellOutcome.UNTESTED,
        reason=None,
        taken=max((source.taken for source in found.sources.values()), default=evidence.now()),
        pins=found.pins,
        cuda=found.cuda,
        lock=found.lock,
        suite=found.exchange,
        wheels={},
        checks=tuple(sorted(_checks(found), key=lambda check: check.check)),
        sources={
            origin: evidence.Source(
                lock=source.lock,
                manifests=source.manifests,
                pins=source.pins,
                taken=source.taken,
                ways=source.ways,
            )
            for origin, source in found.sources.items()
        },
    )


def _checks(found: Exchanged) -> Iterator[CheckResult]:
    for origin, source in found.sources.items():
        for key, answer in source.answers.items():
            yield CheckResult(
                check=f"restore-from[{origin}:{key}]",
                kind="restore-from",
                family=key.partition(":")[0],
                outcome=answer.outcome,
                seconds=None,
                reason=answer.reason,
                failure=found.failures[answer.cause] if answer.cause else None,
                details=dict(answer.notes),
            )


def exchanged_of(result: Evidence) -> Exchanged:
    """What a result says, by the cell that saved.

    Raises:
        EvidenceError: a check is of no cell that it names.
    """
    answers: dict[str, dict[str, Answer]] = {origin: {} for origin in result.sources}
    for check in result.checks:
        match = CHECK.fullmatch(check.check)
        if match is None or match["cell"] not in answers:
            where = f"{result.cell}/{EXCHANGE.name}.{result.device_class}.json"
            raise EvidenceError(
                f"{where}: {check.check} is of no cell that saved; {evidence.way_out(where)}"
            )
        answers[match["cell"]][match["key"]] = Answer(
            outcome=check.outcome,
            cause=check.failure.fingerprint if check.failure else None,
            reason=check.reason,
            notes=check.details,
        )
    return Exchanged(
        cell=result.cell,
        device_class=result.device_class,
        pins=result.pins,
        cuda=result.cuda,
        lock=result.lock,
        exchange=result.suite,
        sources={
            origin: Source(
                lock=source.lock,
                manifests=source.manifests,
                pins=source.pins,
                taken=source.taken,
                ways=source.ways,
                answers=answers[origin],
            )
            for origin, source in result.sources.items()
        },
        failures={c.failure.fingerprint: c.failure for c in result.checks if c.failure},
    )


def path_of(cell: str, device_class: str, folder: Path) -> Path:
    """Where it lies what a cell loaded."""
    return evidence.path_of(cell, device_class, folder, EXCHANGE.name)


def load(path: Path) -> Exchanged:
    """What lies at `path`.

    Raises:
        FileNotFoundError: nothing does.
        EvidenceError: it is corrupt.
    """
    return exchanged_of(evidence.load(path))


def load_all(folder: Path) -> tuple[Exchanged, ...]:
    """All that was loaded, sorted by file.

    Raises:
        EvidenceError: a file is corrupt.
    """
    return tuple(map(exchanged_of, evidence.load_all(folder, EXCHANGE.name)))


def save(found: Exchanged, folder: Path) -> None:
    """Write it whole or not at all.

    Raises:
        InfrastructureError: the disk is full.
    """
    evidence.save(result_of(found), folder)


def gist(one: Failure) -> str:
    """What a failure says, on one line."""
    return fingerprint.plain(" ".join(one.message.split()))
