"""Results of bundles' runs are taken back, and what each showed is printed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mcore_compat.base import files
from mcore_compat.core import matrix, releases
from mcore_compat.core.workspace import Workspace
from mcore_compat.offline import collection
from mcore_compat.offline.verification import Reference
from mcore_compat.results import verdict
from mcore_compat.results.evidence import MAIN, Evidence
from mcore_compat.run import cells
from mcore_compat.run.check_sets import MAIN as MAIN_SET
from mcore_compat.run.check_sets import ON_A_GPU


def take_back(paths: Sequence[Path], workspace: Workspace) -> list[Evidence]:
    """Take results back and print them, one line for each file and each difference to a lock.

    Raises:
        CompatError: a file is refused; nothing is stored then.
    """
    known = Reference(
        workspace=workspace,
        matrix=matrix.load(workspace.matrix),
        releases=releases.load(workspace.releases),
        suite=MAIN_SET.digest(workspace.suite),
        parts={name: part.digest(workspace.suite) for name, part in ON_A_GPU.items()},
    )
    collected = collection.collect(paths, known)
    for path, result, asked, stays in collected:
        first, *more = _lines(result, asked)
        if stays:
            print(f"{first}; not taken: what is of {stays} stays, this is of {result.taken}")
        else:
            print("\n".join([f"{first}; {files.shown(path)}", *more]))
        for name, versions in sorted((result.base["differs"] if result.base else {}).items()):
            print(f"  {name}: lock {versions['lock']}, there {versions['there'] or 'none'}")
    return [file.result for file in collected]


def _lines(result: Evidence, asked: int) -> list[str]:
    """What came of it: a line, and for a part of the suite why checks did not work."""
    over = f"; over a base, with the lock of {result.base['cell']}" if result.base else ""
    if not result.complete:
        over += f"; incomplete: {len(result.checks)} of {asked} checks"
    if result.check_set != MAIN:
        first, *more = cells.part_lines(result)
        return [f"{first}{over}", *more]
    return [f"{result.cell} ({result.device_class}): {verdict.spelt(result.outcome)}{over}"]
