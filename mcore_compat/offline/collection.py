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
from typing import NamedTuple

from mcore_compat.base.errors import EvidenceError, LockError, UsageError
from mcore_compat.offline import node_result, verification
from mcore_compat.offline.node.run_script import RESULTS
from mcore_compat.offline.verification import Reference
from mcore_compat.publish.over_base import FOLDER
from mcore_compat.results import evidence, large_values, verdict
from mcore_compat.results.evidence import Evidence
from mcore_compat.run import part_results as parts
from mcore_compat.run.check_sets import PARTS
from mcore_compat.run.part_results import Taken


@dataclass(frozen=True, kw_only=True)
class ResultText:
    """The text of one file of evidence, and where it is from."""

    where: str
    text: str


class CollectedResult(NamedTuple):
    """One file that was taken back: where its evidence lies, what it is, and how many checks were
    to be asked. `stays`: when that was taken which is there and was not replaced."""

    path: Path
    one: Evidence | Taken
    asked: int
    stays: str | None


def found(paths: Iterable[Path]) -> list[ResultText]:
    """The files that are meant: each itself, all evidence of runs below each folder, and in each
    archive that a run left.

    Raises:
        EvidenceError: one cannot be read.
        UsageError: one is not there, or has no evidence.
    """
    every: dict[str, ResultText] = {}
    for path in paths:
        for one in _brought(path):
            every.setdefault(one.where, one)
    return list(every.values())


def _brought(path: Path) -> list[ResultText]:
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


def _of_file(path: Path) -> ResultText:
    try:
        return ResultText(where=str(path), text=path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EvidenceError(f"{path} cannot be read: {error}") from None


def _of_archive(path: Path) -> list[ResultText]:
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
                found.append(ResultText(where=f"{path}: {member.name}", text=text))
    except (OSError, ValueError, tarfile.TarError) as error:
        raise EvidenceError(f"{path} cannot be read: {error}") from None
    if not found:
        raise UsageError(f"{path} has no evidence: no evidence/compat-*/*.json in it")
    return found


_EVIDENCE = re.compile(r"evidence/compat-[^/]+/[^/]+\.json")


def read(path: Path, known: Reference) -> Evidence | Taken:
    """The evidence in one file, verified; raises as `verified`."""
    return verified(_of_file(path), known)[0]


def verified(one: ResultText, known: Reference) -> tuple[Evidence | Taken, int]:
    """The evidence in a text, verified, and how many checks were to be asked.

    Raises:
        EvidenceError: it is not of this lock or suite, is damaged, or did not run what it says.
        UsageError: there is no such cell, or no lock of it here.
    """
    result = node_result.parse(one.text, one.where)
    try:
        evidence_there = verification.verified(result, known)
        part = result.part and PARTS[result.part.name]
        return (parts.of(evidence_there, part) if part else evidence_there), len(result.checks)
    except (EvidenceError, UsageError, LockError) as error:
        raise type(error)(f"{one.where}: {error}") from None
    except ValueError as error:  # a version that is none
        raise EvidenceError(f"{one.where} is no evidence of a bundle's run: {error}") from None


def place(one: Evidence | Taken) -> Path:
    """Where this evidence lies."""
    if isinstance(one, Taken):
        folder = FOLDER / one.part if one.base else None
        return parts.path_of(PARTS[one.part], one.cell, one.device_class, folder)
    return evidence.path_of(one.cell, one.device_class, FOLDER if one.base else evidence.FOLDER)


def outranked(one: Evidence | Taken) -> bool:
    """Whether the evidence that is here already outranks `one`: of the same lock and suite, it is
    whole and newer, or neither is whole and it has more checks. Not so of a part of the suite: what
    two runs that were cut short have asked is added up."""
    path = place(one)
    if not path.exists():
        return False
    here: Evidence | Taken
    if isinstance(one, Taken):
        here = parts.load(path)
        still = here.fresh(lock=one.lock, digest=one.digest)
    else:
        here = evidence.load(path, whole=False)
        still = (here.lock, here.suite) == (one.lock, one.suite)
    if here.complete:  # what is stored never replaces that by what is not
        return still and here.taken > one.taken
    return still and not one.complete and len(here.checks) > len(one.checks)


def collect(paths: Sequence[Path], known: Reference) -> list[CollectedResult]:
    """Verify all files, then store each but for those that what is here outranks.

    Raises:
        CompatError: as `found` and `verified`; nothing is stored then.
    """
    every = [verified(one, known) for one in found(paths)]
    done = []
    for one, asked in every:
        if not outranked(one):
            _store(one)
        # Asked of the file: what stores evidence leaves what is worth more, too.
        there = str(json.loads(place(one).read_text(encoding="utf-8"))["taken"])
        stays = None if there == one.taken else there
        if stays is None and one.base is None and isinstance(one, Evidence) and one.complete:
            verdict.note(one)
        done.append(CollectedResult(place(one), one, asked, stays))
    if any(one.base for one, _ in every if isinstance(one, Evidence)):
        large_values.pack(FOLDER)
    return done


def _store(one: Evidence | Taken) -> None:
    if isinstance(one, Taken):
        parts.save(one, PARTS[one.part], place(one).parent)
    else:
        evidence.save(one, FOLDER if one.base else evidence.FOLDER)
