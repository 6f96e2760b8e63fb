"""What a part of the suite showed in a cell: one file for each cell and device class."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from mcore_compat.base import files
from mcore_compat.base.errors import EvidenceError
from mcore_compat.core.outcomes import CheckOutcome
from mcore_compat.results.evidence import DEVICE_CLASSES, CheckResult, Evidence, Failure
from mcore_compat.run.check_sets import PARTS, Part

FORMAT = 1

LEFT_OUT = ("left_behind", "warnings")
"""What a check recorded that says nothing lasting."""

_SAME = ("part", "cell", "device_class", "lock", "digest", "pins", "base")
_MACHINE = ("gpu", "driver", "python")
"""What must be equal for the checks of two runs to be one result."""

MESSAGE, TRACEBACK = 1000, 2000
"""Characters that are kept: the beginning of a message, the end of a traceback."""


@dataclass(frozen=True, kw_only=True)
class Taken:
    """A part, in a cell, on a device class; `digest` is that of the part's checks, `base` as in
    `mcore_compat.results.evidence`."""

    part: str
    cell: str
    device_class: str
    taken: str
    pins: Mapping[str, str]
    lock: str
    digest: str
    platform: Mapping[str, Any] = field(default_factory=dict)
    complete: bool = True
    checks: tuple[CheckResult, ...] = ()
    base: Mapping[str, Any] | None = None

    def fresh(self, *, lock: str, digest: str) -> bool:
        """Whether it still holds: of this lock, of these checks, and run to its end."""
        return self.complete and (self.lock, self.digest) == (lock, digest)


def of(found: Evidence, part: Part) -> Taken:
    """What the suite's runner collected, as this part's.

    Raises:
        EvidenceError: something was broken on purpose.
    """
    for check in found.checks:
        if "sabotage" in check.details:
            said = check.details["sabotage"]
            raise EvidenceError(f"the suite was broken on purpose ({said}); nothing is stored")
    return Taken(
        part=part.name,
        cell=found.cell,
        device_class=found.device_class,
        taken=found.taken,
        pins=found.pins,
        lock=found.lock,
        digest=found.suite,
        platform=found.platform,
        complete=found.complete,
        checks=tuple(map(_short, found.checks)),
        base=found.base,
    )


def _short(check: CheckResult) -> CheckResult:
    failure = check.failure and replace(
        check.failure,
        message=check.failure.message[:MESSAGE],
        traceback=check.failure.traceback[-TRACEBACK:],
    )
    details = {name: value for name, value in check.details.items() if name not in LEFT_OUT}
    return replace(check, failure=failure, details=details)


def path_of(part: Part, cell: str, device_class: str, folder: Path | None = None) -> Path:
    """Where a cell's evidence of a part lies; in the part's folder, where no other is named."""
    return (folder or part.folder) / f"{cell}.{device_class}.json"


def dumps(taken: Taken) -> str:
    """The file's text: sorted, a check a line."""
    return files.dump_json(
        {
            "format": FORMAT,
            "part": taken.part,
            "cell": taken.cell,
            "device_class": taken.device_class,
            "taken": taken.taken,
            "pins": dict(taken.pins),
            "digests": {"lock": taken.lock, "part": taken.digest},
            "platform": dict(taken.platform),
            "complete": taken.complete,
            **({} if taken.base is None else {"base": taken.base}),
        },
        rows={"checks": [{**asdict(c), "outcome": c.outcome.value} for c in taken.checks]},
    )


def parse(text: str, where: str) -> Taken:
    """From a file's text.

    Raises:
        EvidenceError: it is corrupt; names the file and the way out.
    """
    try:
        data = json.loads(text)
        if data["format"] != FORMAT:
            raise ValueError(f"format {data['format']}, not {FORMAT}")
        if data["device_class"] not in DEVICE_CLASSES:
            raise ValueError(f"no such device class: {data['device_class']}")
        return Taken(
            part=data["part"],
            cell=data["cell"],
            device_class=data["device_class"],
            taken=data["taken"],
            pins=data["pins"],
            lock=data["digests"]["lock"],
            digest=data["digests"]["part"],
            platform=data["platform"],
            complete=data["complete"],
            checks=tuple(map(_check, data["checks"])),
            base=data.get("base"),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EvidenceError(
            f"reports/{where} is corrupt ({error!r}); remove it and run the part again"
        ) from None


def _check(row: Mapping[str, Any]) -> CheckResult:
    said = row["failure"]
    return CheckResult(
        **{
            **row,
            "outcome": CheckOutcome(row["outcome"]),
            "failure": Failure(**said) if said else None,
        }
    )


def load(path: Path) -> Taken:
    """What lies at `path`.

    Raises:
        FileNotFoundError: nothing does.
        EvidenceError: it is corrupt, or of another part, cell or device class than its place says.
    """
    where = f"{path.parent.name}/{path.name}"
    taken = parse(path.read_text(encoding="utf-8", errors="replace"), where)
    if where != f"{taken.part}/{taken.cell}.{taken.device_class}.json":
        raise EvidenceError(
            f"reports/{where} is of {taken.part}, {taken.cell}, {taken.device_class}; "
            "remove it and run the part again"
        )
    return taken


def load_all(part: Part) -> tuple[Taken, ...]:
    """All evidence of a part, sorted by file.

    Raises:
        EvidenceError: a file is corrupt.
    """
    return tuple(load(path) for path in sorted(part.folder.glob("compat-*.json")))


def wanted(device_class: str) -> dict[str, str]:
    """The parts that a whole run of a cell has on a device class, each with the digest of what it
    asks by now."""
    return {part.name: part.digest() for part in PARTS.values()} if device_class == "gpu" else {}


def lacking(
    cell: str, *, device_class: str, lock: str, wanted: Mapping[str, str]
) -> tuple[str, ...]:
    """Which of the parts that are `wanted` have no evidence of a cell, or none that still holds.
    Reads files only; what is corrupt does not count."""
    found = []
    for name, digest in wanted.items():
        try:
            taken = load(path_of(PARTS[name], cell, device_class))
            fresh = taken.fresh(lock=lock, digest=digest)
        except (FileNotFoundError, EvidenceError):
            fresh = False
        if not fresh:
            found.append(name)
    return tuple(found)


def save(taken: Taken, part: Part, folder: Path | None = None) -> None:
    """Write it whole or not at all.

    What did not come to its end never replaces what did and is of the same lock and checks; it is
    added to what is there of an earlier run that did not, either. What is corrupt is replaced.

    Raises:
        InfrastructureError: the disk is full.
    """
    path = path_of(part, taken.cell, taken.device_class, folder)
    if not taken.complete:
        with contextlib.suppress(FileNotFoundError, EvidenceError):
            before = load(path)
            if before.fresh(lock=taken.lock, digest=taken.digest):
                return
            taken = added(before, taken)
    text = dumps(taken)
    parse(text, path.name)
    files.write_text(path, text)


def added(before: Taken, after: Taken) -> Taken:
    """`after` with the checks of `before` that it did not ask, where both are of the same lock,
    checks, base and machine; else `after` alone."""
    if any(getattr(before, name) != getattr(after, name) for name in _SAME):
        return after
    if any(before.platform.get(name) != after.platform.get(name) for name in _MACHINE):
        return after
    checks = {check.check: check for check in (*before.checks, *after.checks)}
    return replace(after, checks=tuple(checks[name] for name in sorted(checks)))
