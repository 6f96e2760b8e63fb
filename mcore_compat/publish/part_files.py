"""The published report of each part of the suite that is run by itself."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

from mcore_compat.base.errors import EvidenceError
from mcore_compat.publish import over_base, part_reports
from mcore_compat.run import part_results
from mcore_compat.run.check_sets import PARTS, Part
from mcore_compat.run.part_results import Taken


def texts() -> dict[Path, Callable[[], str]]:
    """By file: how its text is made.

    Raises:
        EvidenceError: a result is corrupt, or lies among those over a base and tells of none.
    """
    return {
        part.report: functools.partial(
            _text, part, (*part_results.load_all(part), *_over_base(part))
        )
        for part in PARTS.values()
    }


def _over_base(part: Part) -> list[Taken]:
    """What ran over a base, sorted by file."""
    paths = sorted((over_base.FOLDER / part.name).glob("compat-*.json"))
    results = [part_results.load(path) for path in paths]
    for path, result in zip(paths, results, strict=True):
        if result.base is None:
            where = f"reports/over-base/{part.name}/{path.name}"
            raise EvidenceError(f"{where} tells of no base; remove it")
    return results


def _text(part: Part, results: tuple[Taken, ...]) -> str:
    today = part.digest()
    return part_reports.markdown(
        part,
        results,
        lambda result: over_base.stale(result.base, result.lock, result.digest, today),
    )
