"""Imports the results of a bundle's run after verification, and prints a summary of each file.

A result gets the same path as that of a run here. Results over packages that the machine already
had are in `reports/over-base/`, which no table of the cells reads.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from mcore_compat.base import files, foreign
from mcore_compat.base.errors import InfrastructureError, LockError, ResultError, UsageError
from mcore_compat.core import matrix, releases
from mcore_compat.core.workspace import Workspace
from mcore_compat.offline import node_result, verification
from mcore_compat.offline.node.run_script import RESULTS
from mcore_compat.offline.verification import Reference
from mcore_compat.results import large_values, suite_checks, verdict, verdict_index
from mcore_compat.results.result import MAIN, Result, result_path
from mcore_compat.results.store import Batch
from mcore_compat.run import cells
from mcore_compat.run.check_sets import MAIN as MAIN_SET
from mcore_compat.run.check_sets import ON_A_GPU

FOLDERS = ("results", "evidence")
"""The folder in which a bundle's run leaves its results; in older bundles it is `evidence`."""


@dataclass(frozen=True, kw_only=True)
class ResultText:
    """The text of one result file, and where it is from."""

    where: str
    text: str


class CollectedResult(NamedTuple):
    """One imported file: the path of its result, the result, and the number of its checks. `stays`:
    the time of an existing result that is better and was not replaced."""

    path: Path
    result: Result
    asked: int
    stays: str | None


def result_texts(paths: Iterable[Path]) -> list[ResultText]:
    """The result files at these paths: files, all results below folders, and those in archives that
    a run left.

    Raises:
        ResultError: one cannot be read.
        UsageError: one does not exist, or has no results.
    """
    return list({text.where: text for path in paths for text in _texts(path)}.values())


def _texts(path: Path) -> list[ResultText]:
    if path.is_dir():
        places = [path] if path.name in FOLDERS else [path / name for name in FOLDERS]
        places = [place for place in places if place.is_dir()] or [path]
        inside = sorted(file for place in places for file in place.glob("**/compat-*/*.json"))
        if not inside and (path / RESULTS).is_file():
            return _of_archive(path / RESULTS)
        if not inside:
            raise UsageError(f"{path} has no results: no compat-*/*.json in it")
        return [_of_file(file) for file in inside]
    if not path.is_file():
        raise UsageError(f"{path} does not exist")
    return _of_archive(path) if path.suffix == ".tar" else [_of_file(path)]


def _of_file(path: Path) -> ResultText:
    try:
        return ResultText(where=str(path), text=foreign.read(path))
    except OSError as error:
        raise ResultError(f"{path} cannot be read: {error.strerror}") from None


def _of_archive(path: Path) -> list[ResultText]:
    """The results in an archive; nothing is extracted to the disk."""
    texts, result_name = [], rf"({'|'.join(FOLDERS)})/compat-[^/]+/[^/]+\.json"
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                if not (member.isreg() and re.fullmatch(result_name, member.name)):
                    continue  # a log
                content = archive.extractfile(member)
                assert content is not None
                where = f"{path}: {foreign.line(member.name)}"
                text = foreign.text_of(content.read(foreign.MOST_BYTES + 1), where)
                texts.append(ResultText(where=where, text=text))
    except (OSError, ValueError, tarfile.TarError) as error:
        raise ResultError(f"{path} cannot be read: {error}") from None
    if not texts:
        raise UsageError(f"{path} has no results: no results/compat-*/*.json in it")
    return texts


def verified(source: ResultText, reference: Reference) -> tuple[Result, int]:
    """The verified result in a text, and the number of its checks.

    Raises:
        ResultError: it is for another lock or suite, is damaged, or contradicts itself.
        UsageError: there is no such cell, or it has no lock here.
    """
    result = node_result.parse(source.text, source.where)
    try:
        return verification.verified(result, reference), len(result.checks)
    except (ResultError, UsageError, LockError) as error:
        raise type(error)(f"{source.where}: {error}") from None
    except InfrastructureError as error:  # here the file is at fault, not the machine
        raise ResultError(f"{source.where}: {error}") from None
    except ValueError as error:  # an invalid version
        raise ResultError(f"{source.where} is not a result of a bundle: {error}") from None


def _is_outranked(result: Result, path: Path, batch: Batch) -> bool:
    """Whether the existing result is better: for the same lock and suite, complete and newer. Two
    incomplete results are merged."""
    try:
        here = batch.at(path)
    except FileNotFoundError:
        return False
    still = (here.lock, here.suite) == (result.lock, result.suite)
    # `Batch.add` makes sure that an incomplete result never replaces a complete one.
    return still and here.complete and here.taken > result.taken


def collect(paths: Sequence[Path], reference: Reference) -> list[CollectedResult]:
    """Verify all files, then store them, except where the existing result is better; all or none.

    Raises:
        CompatError: as `result_texts` and `verified`, or the disk is full; then nothing is stored.
    """
    workspace = reference.workspace
    results = [verified(source, reference) for source in result_texts(paths)]
    collected, batch, noted = [], Batch(), []
    for result, asked in results:
        folder = workspace.over_base if result.base else workspace.results
        path = result_path(result.cell, result.device_class, folder, result.check_set)
        if not _is_outranked(result, path, batch):
            batch.add(result, folder)
        # Check what will be stored: `Batch.add`, too, keeps a better result.
        there = batch.at(path).taken
        stays = None if there == result.taken else there
        if stays is None and not result.base and result.check_set == MAIN and result.complete:
            noted.append(result)
        collected.append(CollectedResult(path, result, asked, stays))
    with verdict_index.noting(noted, workspace.verdicts) as index:
        batch.write(index)
    if any(result.base for result, _ in results):
        large_values.pack(workspace.over_base)
    return collected


def reference(workspace: Workspace) -> Reference:
    """What results are verified with, from a workspace.

    Raises:
        CompatError: its matrix or `releases.json` cannot be read.
    """
    return Reference(
        workspace=workspace,
        matrix=matrix.load(workspace.matrix),
        releases=releases.load(workspace.releases),
        suite=MAIN_SET.digest(workspace.suite),
        parts={name: part.digest(workspace.suite) for name, part in ON_A_GPU.items()},
        checks={
            check_set.name: suite_checks.of(workspace.suite, check_set.folder(workspace.suite))
            for check_set in (MAIN_SET, *ON_A_GPU.values())
        },
    )


def take_back(paths: Sequence[Path], workspace: Workspace) -> list[Result]:
    """Import results and print one line for each file and each difference from a lock.

    Raises:
        CompatError: a file is refused; then nothing is stored.
    """
    collected = collect(paths, reference(workspace))
    for path, result, asked, stays in collected:
        first, *more = _lines(result, asked)
        if stays:
            print(f"{first}; not stored: this is of {result.taken}, the result of {stays} is kept")
        else:
            print("\n".join([f"{first}; {files.shown(path)}", *more]))
        for name, versions in sorted((result.base["differs"] if result.base else {}).items()):
            print(f"  {name}: lock {versions['lock']}, there {versions['there'] or 'none'}")
    return [file.result for file in collected]


def _lines(result: Result, asked: int) -> list[str]:
    """The outcome in a line, and for a part of the suite why checks failed."""
    over = f"; over a base, with the lock of {result.base['cell']}" if result.base else ""
    if not result.complete:
        over += f"; incomplete: {len(result.checks)} of {asked} checks"
    if result.check_set != MAIN:
        first, *more = cells.part_lines(result)
        return [f"{first}{over}", *more]
    return [f"{result.cell} ({result.device_class}): {verdict.spelt(result.outcome)}{over}"]
