"""Results over a base, i.e. over packages that were already installed, e.g. in a vendor's
container. They never count as results of a locked cell, and are shown beside it with the
differences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mcore_compat.base import files
from mcore_compat.base.errors import ResultError
from mcore_compat.core.workspace import Workspace
from mcore_compat.results import store, verdict
from mcore_compat.results.result import Base, Result
from mcore_compat.run.check_sets import MAIN, CheckSet


@dataclass(frozen=True, kw_only=True)
class OverBase:
    """A result over a base. `stale`: why it is out of date, or empty."""

    result: Result
    stale: str

    @property
    def lock_of(self) -> str:
        """The cell whose lock was installed over the base."""
        assert self.result.base is not None
        return self.result.base["cell"]

    @property
    def outcome(self) -> str:
        """The outcome in words; an incomplete run has no verdict."""
        e = self.result
        return verdict.spelt(e.outcome) if e.complete else f"incomplete, {len(e.checks)} checks"


def load_all(workspace: Workspace) -> tuple[OverBase, ...]:
    """All results of the main suite over a base, sorted by cell and device class.

    Raises:
        ResultError: as `results`.
    """
    return tuple(
        OverBase(result=e, stale=stale(e, MAIN, workspace)) for e in results(MAIN, workspace)
    )


def results(check_set: CheckSet, workspace: Workspace) -> tuple[Result, ...]:
    """All results of a check set over a base, sorted by cell and device class.

    Raises:
        ResultError: a file is corrupt, or its result has no base.
    """
    every = store.load_all(workspace.over_base, check_set.name)
    for e in every:
        if e.base is None:
            where = f"over-base/{e.cell}/{check_set.name}.{e.device_class}.json"
            raise ResultError(f"reports/{where} is not a result over a base; remove it")
    return every


def stale(result: Result, check_set: CheckSet, workspace: Workspace) -> str:
    """Why a result is out of date, in its lock or its checks; empty if it is not."""
    assert result.base is not None
    path = workspace.lock(result.base["cell"])
    if not path.exists():
        return "the lock is gone"
    if files.sha256_file(path) != result.lock:
        return "the lock changed"
    today = check_set.digest(workspace.suite)
    return "" if result.suite == today else "the suite changed"


def gpu(platform: Mapping[str, Any]) -> str:
    """The GPU of a machine that has one. Plain text."""
    said = f"capability {platform.get('capability')}, driver {platform.get('driver')}"
    return f"{platform['gpu']}, {said}, {platform.get('gpus', 1)} of them"


def facts(base: Base | None) -> tuple[tuple[str, str], ...]:
    """The facts about a base, as name and text: whose lock was installed, and all differences.
    Plain text."""
    if base is None:
        return ()
    rows = [("lock of", base["cell"])]
    if "toolkit" in base:
        rows.append(("CUDA toolkit", base["toolkit"] or "none"))
    for name, versions in sorted(base["differs"].items()):
        there = versions["there"] or "none"
        rows.append(("differs", f"{name} {there} in the base, {versions['lock']} in the lock"))
    rows += [("changed", f"{name}: {how}") for name, how in sorted(base.get("changed", {}).items())]
    return (*rows, *(("requirement not met", text) for text in base["unmet"]))
