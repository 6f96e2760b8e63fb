"""The published report of each check set beside the main one."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

from mcore_compat.base.errors import EvidenceError
from mcore_compat.core.workspace import Workspace
from mcore_compat.publish import over_base, part_reports
from mcore_compat.results import evidence
from mcore_compat.results.evidence import Evidence
from mcore_compat.run.check_sets import ON_A_GPU, CheckSet


def texts(workspace: Workspace) -> dict[Path, Callable[[], str]]:
    """By file: how its text is made.

    Raises:
        EvidenceError: a result is corrupt, or lies among those over a base and tells of none.
    """
    return {
        workspace.reports / f"{part.name.upper()}.md": functools.partial(
            _text,
            part,
            (*evidence.load_all(workspace.results, part.name), *_over_base(part, workspace)),
            workspace,
        )
        for part in ON_A_GPU.values()
    }


def _over_base(part: CheckSet, workspace: Workspace) -> tuple[Evidence, ...]:
    """What ran over a base, sorted by file."""
    results = evidence.load_all(workspace.over_base, part.name)
    for result in results:
        if result.base is None:
            where = f"over-base/{result.cell}/{part.name}.{result.device_class}.json"
            raise EvidenceError(f"reports/{where} tells of no base; remove it")
    return results


def _text(part: CheckSet, results: tuple[Evidence, ...], workspace: Workspace) -> str:
    return part_reports.markdown(
        part, results, lambda result: over_base.stale(result, part, workspace)
    )
