"""Evidence that a bundle's run brought back → evidence of the cell, after it was verified.

Of a part of the suite it lies where that of a run here does. What ran over packages that were
there before lies in `reports/over-base/`, which no table of the cells reads.
"""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mcore_compat import evidence, files, shared, verdict
from mcore_compat.bundle import carried
from mcore_compat.bundle.carried import Known
from mcore_compat.bundle.start import RESULTS
from mcore_compat.errors import EvidenceError, LockError, UsageError
from mcore_compat.evidence import Evidence
from mcore_compat.parts import evidence as parts
from mcore_compat.parts.evidence import Taken
from mcore_compat.parts.part import PARTS

FOLDER = files.ROOT / "reports" / "over-base"
"""Where evidence lies that is of no locked cell: in a folder of its name, as the cells' does, and
of a part of the suite in a folder of the part's."""


@dataclass(frozen=True, kw_only=True)
class Brought:
    """The text of one file of evidence, and where it is from."""

    where: str
    text: str


def found(paths: Iterable[Path]) -> list[Brought]:
    """The files that are meant: each itself, all evidence of runs below each folder, and in each
    archive that a run left.

    Raises:
        EvidenceError: one cannot be read.
        UsageError: one is not there, or has no evidence.
    """
    every: dict[str, Brought] = {}
    for path in paths:
        for one in _brought(path):
            every.setdefault(one.where, one)
    return list(every.values())


def _brought(path: Path) -> list[Brought]:
    if path.is_dir():
        place = path if path.name == "evidence" else path / "evidence"
        mine = sorted((place if place.is_dir() else path).glob("**/compat-*/*.json"))
        if not mine and (path / RESULTS).is_file():
            return _brought(path / RESULTS)
        if not mine:
            raise UsageError(f"{path} has no evidence: no compat-*/*.json in it")
        return [_of_file(one) for one in mine]
    if not path.is_file():
        raise UsageError(f"{path} is not there")
    return _of_archive(path) if path.suffix == ".tar" else [_of_file(path)]


def _of_file(path: Path) -> Brought:
    try:
        return Brought(where=str(path), text=path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EvidenceError(f"{path} cannot be read: {error}") from None


def _of_archive(path: Path) -> list[Brought]:
    """The evidence in an archive; nothing of it is written anywhere."""
    found = []
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                if not (member.isreg() and _EVIDENCE.fullmatch(member.name)):
                    continue  # a log
                content = archive.extractfile(member)
                assert content is not None
                text = content.read().decode("utf-8")
                found.append(Brought(where=f"{path}: {member.name}", text=text))
    except (OSError, ValueError, tarfile.TarError) as error:
        raise EvidenceError(f"{path} cannot be read: {error}") from None
    if not found:
        raise UsageError(f"{path} has no evidence: no evidence/compat-*/*.json in it")
    return found


_EVIDENCE = re.compile(r"evidence/compat-[^/]+/[^/]+\.json")


def read(path: Path, known: Known) -> Evidence | Taken:
    """The evidence in one file, verified; raises as `verified`."""
    return verified(_of_file(path), known)


def verified(one: Brought, known: Known) -> Evidence | Taken:
    """The evidence in a text, verified.

    Raises:
        EvidenceError: it is not of this lock or suite, is damaged, or did not run what it says.
        UsageError: there is no such cell, or no lock of it here.
    """
    try:
        data = json.loads(one.text)
    except ValueError as error:
        raise EvidenceError(f"{one.where} cannot be read: {error}") from None
    problem = next(carried.problems(data), None)
    if problem is not None:
        raise EvidenceError(f"{one.where}: {problem.json_path}: {problem.message[:200]}")
    try:
        made, part = carried.verified(data, known), carried.part_of(data)
        return parts.of(made, PARTS[part]) if part else made
    except (EvidenceError, UsageError, LockError) as error:
        raise type(error)(f"{one.where}: {error}") from None
    except (KeyError, TypeError, ValueError) as error:
        raise EvidenceError(f"{one.where} is no evidence of a bundle's run: {error!r}") from None


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
    every = [verified(one, known) for one in found(paths)]
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
