"""Evidence that a bundle's run brought back → evidence of the cell, after it was verified.

Of a part of the suite it lies where that of a run here does. What ran over packages that were
there before lies in `reports/over-base/`, which no table of the cells reads.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from mcore_compat import evidence, files, shared, verdict
from mcore_compat.bundle import carried
from mcore_compat.bundle.carried import Known
from mcore_compat.errors import EvidenceError, LockError, UsageError
from mcore_compat.evidence import Evidence
from mcore_compat.parts import evidence as parts
from mcore_compat.parts.evidence import Taken
from mcore_compat.parts.part import PARTS

FOLDER = files.ROOT / "reports" / "over-base"
"""Where evidence lies that is of no locked cell: in a folder of its name, as the cells' does, and
of a part of the suite in a folder of the part's."""


def found(paths: Iterable[Path]) -> list[Path]:
    """The files that are meant: each itself, and all evidence of runs below each folder.

    Raises:
        UsageError: one is not there, or a folder has none.
    """
    every: list[Path] = []
    for path in paths:
        if path.is_dir():
            place = path if path.name == "evidence" else path / "evidence"
            mine = sorted((place if place.is_dir() else path).glob("**/compat-*/*.json"))
            if not mine:
                raise UsageError(f"{path} has no evidence: no compat-*/*.json in it")
            every += mine
        elif path.is_file():
            every.append(path)
        else:
            raise UsageError(f"{path} is not there")
    return list(dict.fromkeys(every))


def read(path: Path, known: Known) -> Evidence | Taken:
    """The evidence in one file, verified.

    Raises:
        EvidenceError: it is not of this lock or suite, is damaged, or did not run what it says.
        UsageError: there is no such cell, or no lock of it here.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EvidenceError(f"{path} cannot be read: {error}") from None
    problem = next(carried.problems(data), None)
    if problem is not None:
        raise EvidenceError(f"{path}: {problem.json_path}: {problem.message[:200]}")
    try:
        made, part = carried.verified(data, known), carried.part_of(data)
        return parts.of(made, PARTS[part]) if part else made
    except (EvidenceError, UsageError, LockError) as error:
        raise type(error)(f"{path}: {error}") from None
    except (KeyError, TypeError, ValueError) as error:
        raise EvidenceError(f"{path} is no evidence of a bundle's run: {error!r}") from None


def place(one: Evidence | Taken) -> Path:
    """Where this evidence lies."""
    if isinstance(one, Taken):
        folder = FOLDER / one.part if one.base else None
        return parts.path_of(PARTS[one.part], one.cell, one.device_class, folder)
    return evidence.path_of(one.cell, one.device_class, FOLDER if one.base else evidence.FOLDER)


def newer(one: Evidence | Taken) -> str | None:
    """When the evidence was taken that is here already, where it is of the same lock and suite,
    whole and newer than `one`; else None."""
    path = place(one)
    if not path.exists():
        return None
    here: Evidence | Taken
    if isinstance(one, Taken):
        here = parts.load(path)
        still = here.fresh(lock=one.lock, digest=one.digest)
    else:
        here = evidence.load(path, whole=False)
        still = (here.lock, here.suite, here.complete) == (one.lock, one.suite, True)
    return here.taken if still and here.taken > one.taken else None


def collect(paths: Sequence[Path], known: Known) -> list[tuple[Path, Evidence | Taken, str | None]]:
    """Verify all files, then store each but for those that are older than what is here: where it
    lies, what it is, and when that was taken which is newer.

    Raises:
        CompatError: as `found` and `read`; nothing is stored then.
    """
    every = [read(path, known) for path in found(paths)]
    done = []
    for one in every:
        later = newer(one)
        if later is None:
            _store(one)
        done.append((place(one), one, later))
    if any(one.base for one in every if isinstance(one, Evidence)):
        shared.pack(FOLDER)
    return done


def _store(one: Evidence | Taken) -> None:
    if isinstance(one, Taken):
        parts.save(one, PARTS[one.part], place(one).parent)
    elif one.base:
        evidence.save(one, FOLDER)
    else:
        evidence.save(one, evidence.FOLDER)
        verdict.note(one)
