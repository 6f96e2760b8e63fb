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
from mcore_compat.offline import verification
from mcore_compat.offline.start import RESULTS
from mcore_compat.offline.verification import Known
from mcore_compat.publish.over_base import FOLDER
from mcore_compat.results import evidence, large_values, verdict
from mcore_compat.results.evidence import MAIN, Evidence


@dataclass(frozen=True, kw_only=True)
class Brought:
    """The text of one file of evidence, and where it is from."""

    where: str
    text: str


class Collected(NamedTuple):
    """One file that was taken back: where its evidence lies, what it is, and how many checks were
    to be asked. `stays`: when that was taken which is there and was not replaced."""

    path: Path
    one: Evidence
    asked: int
    stays: str | None


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


def read(path: Path, known: Known) -> Evidence:
    """The evidence in one file, verified; raises as `verified`."""
    return verified(_of_file(path), known)[0]


def verified(one: Brought, known: Known) -> tuple[Evidence, int]:
    """The evidence in a text, verified, and how many checks were to be asked.

    Raises:
        EvidenceError: it is not of this lock or suite, is damaged, or did not run what it says.
        UsageError: there is no such cell, or no lock of it here.
    """
    try:
        data = json.loads(one.text)
    except ValueError as error:
        raise EvidenceError(f"{one.where} cannot be read: {error}") from None
    problem = next(verification.problems(data), None)
    if problem is not None:
        raise EvidenceError(f"{one.where}: {problem.json_path}: {problem.message[:200]}")
    try:
        return verification.verified(data, known), len(data["events"][0]["checks"])
    except (EvidenceError, UsageError, LockError) as error:
        raise type(error)(f"{one.where}: {error}") from None
    except (KeyError, TypeError, ValueError) as error:
        raise EvidenceError(f"{one.where} is no evidence of a bundle's run: {error!r}") from None


def place(one: Evidence) -> Path:
    """Where this evidence lies."""
    return evidence.path_of(one.cell, one.device_class, folder_of(one), one.check_set)


def folder_of(one: Evidence) -> Path:
    """Of all evidence, or of all that ran over a base."""
    return FOLDER if one.base else evidence.FOLDER


def outranked(one: Evidence) -> bool:
    """Whether the evidence that is here already outranks `one`: of the same lock and suite, it is
    whole and newer. What two runs that were cut short have asked is added up."""
    path = place(one)
    if not path.exists():
        return False
    here = evidence.load(path, whole=False)
    still = (here.lock, here.suite) == (one.lock, one.suite)
    # What is not complete never replaces what is: storing it sees to that.
    return still and here.complete and here.taken > one.taken


def collect(paths: Sequence[Path], known: Known) -> list[Collected]:
    """Verify all files, then store each but for those that what is here outranks.

    Raises:
        CompatError: as `found` and `verified`; nothing is stored then.
    """
    every = [verified(one, known) for one in found(paths)]
    done = []
    for one, asked in every:
        if not outranked(one):
            evidence.save(one, folder_of(one))
        # Asked of the file: what stores evidence leaves what is worth more, too.
        there = str(json.loads(place(one).read_text(encoding="utf-8"))["taken"])
        stays = None if there == one.taken else there
        if stays is None and one.base is None and one.check_set == MAIN and one.complete:
            verdict.note(one)
        done.append(Collected(place(one), one, asked, stays))
    if any(one.base for one, _ in every):
        large_values.pack(FOLDER)
    return done
