"""What loading other cells' checkpoints showed: one file for each cell that loads."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from mcore_compat.base import files
from mcore_compat.base.errors import EvidenceError
from mcore_compat.core.outcomes import FAILURES, CheckOutcome
from mcore_compat.exchange.plan import WAYS
from mcore_compat.results import fingerprint
from mcore_compat.results.evidence import CheckResult, Failure

FOLDER = files.ROOT / "reports" / "exchange"

FORMAT = 1

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


def path_of(cell: str, device_class: str, folder: Path = FOLDER) -> Path:
    """Where it lies what a cell loaded."""
    return folder / f"{cell}.{device_class}.json"


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
    known = {**{one.fingerprint: short(one) for one in failures}, **found.failures}
    kept = {name: one for name, one in known.items() if name in named}
    return replace(found, sources=sources, failures=kept)


def _joined(old: Source | None, new: Source) -> Source:
    if old is None or (old.lock, old.manifests) != (new.lock, new.manifests):
        return new
    rest = [way for way in old.ways if way not in new.ways]
    stays = {key: a for key, a in old.answers.items() if key.partition(":")[2] in rest}
    ways = tuple(way for way in WAYS if way in (*rest, *new.ways))
    return replace(new, ways=ways, answers={**stays, **new.answers})


MESSAGE, TRACEBACK = 600, 1500
"""Characters that are kept: the beginning of a message, the end of a traceback."""


def short(one: Failure) -> Failure:
    """A failure as it is kept; its fingerprint is that of the whole message."""
    return replace(one, message=one.message[:MESSAGE], traceback=one.traceback[-TRACEBACK:])


def dumps(found: Exchanged) -> str:
    """The file's text; sorted, and short: what works says only that."""
    sources = {
        name: {
            "digests": {"lock": one.lock, "manifests": one.manifests},
            "pins": dict(one.pins),
            "taken": one.taken,
            "ways": list(one.ways),
            "answers": {key: _short(a) for key, a in one.answers.items()},
        }
        for name, one in found.sources.items()
    }
    return files.dump_json(
        {
            "format": FORMAT,
            "cell": found.cell,
            "device_class": found.device_class,
            "pins": dict(found.pins),
            "digests": {"lock": found.lock, "exchange": found.exchange},
            "from": sources,
            "failures": {name: asdict(one) for name, one in found.failures.items()},
        }
    )


def _short(one: Answer) -> Any:
    said = {"cause": one.cause, "reason": one.reason, "notes": dict(one.notes)}
    kept = {name: value for name, value in said.items() if value}
    return {"outcome": one.outcome.value, **kept} if kept else one.outcome.value


def parse(text: str, where: str) -> Exchanged:
    """From a file's text.

    Raises:
        EvidenceError: it is corrupt, or names a cause that it does not tell.
    """
    try:
        data = json.loads(text)
        if data["format"] != FORMAT:
            raise ValueError(f"format {data['format']}, not {FORMAT}")
        found = Exchanged(
            cell=data["cell"],
            device_class=data["device_class"],
            pins=data["pins"],
            lock=data["digests"]["lock"],
            exchange=data["digests"]["exchange"],
            sources={name: _source(row) for name, row in data["from"].items()},
            failures={name: _failure(row) for name, row in data["failures"].items()},
        )
        for source in found.sources.values():
            for one in source.answers.values():
                if one.cause is not None and one.cause not in found.failures:
                    raise ValueError(f"it does not tell the cause {one.cause}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EvidenceError(
            f"reports/exchange/{where} is corrupt ({error}); remove it and run nox -s exchange"
        ) from None
    return found


def _source(row: Mapping[str, Any]) -> Source:
    return Source(
        lock=row["digests"]["lock"],
        manifests=row["digests"]["manifests"],
        pins=row["pins"],
        taken=row["taken"],
        ways=tuple(row["ways"]),
        answers={key: answered(said) for key, said in row["answers"].items()},
    )


def answered(said: Any) -> Answer:
    """An answer from its row."""
    row = {"outcome": said} if isinstance(said, str) else dict(said)
    return Answer(**{**row, "outcome": CheckOutcome(row["outcome"])})


def _failure(row: Mapping[str, Any]) -> Failure:
    # Not made anew, as in a cell's evidence: the answers name it by what it was.
    return Failure(**row)


def load(path: Path) -> Exchanged:
    """What lies at `path`.

    Raises:
        FileNotFoundError: nothing does.
        EvidenceError: as `parse`.
    """
    return parse(path.read_text(encoding="utf-8", errors="replace"), path.name)


def load_all(folder: Path = FOLDER) -> tuple[Exchanged, ...]:
    """All that was loaded, sorted by file.

    Raises:
        EvidenceError: a file is corrupt.
    """
    return tuple(load(path) for path in sorted(folder.glob("compat-*.json")))


def save(found: Exchanged, folder: Path = FOLDER) -> None:
    """Write it whole or not at all.

    Raises:
        InfrastructureError: the disk is full.
    """
    text = dumps(found)
    path = path_of(found.cell, found.device_class, folder)
    parse(text, path.name)
    files.write_text(path, text)


def gist(one: Failure) -> str:
    """What a failure says, on one line."""
    return fingerprint.plain(" ".join(one.message.split()))
