"""What ran over packages that were there before, a vendor's container for example: never evidence
of a locked cell, and shown beside it with what it differs in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mcore_compat.base import files
from mcore_compat.base.errors import EvidenceError
from mcore_compat.core.workspace import Workspace
from mcore_compat.results import evidence, verdict
from mcore_compat.results.evidence import Evidence
from mcore_compat.run.check_sets import MAIN, CheckSet

INTRO = (
    "Over a base: megatron-core and ModelOpt of a cell's lock were installed over the torch and "
    "Transformer Engine of another machine. That is evidence of what was there, not of the locked "
    "cell, and counts in no verdict of one."
)


@dataclass(frozen=True, kw_only=True)
class OverBase:
    """One such result; `stale`: why it does not hold any more, else empty."""

    evidence: Evidence
    stale: str

    @property
    def lock_of(self) -> str:
        """The cell whose lock it was made from."""
        return str(_base(self.evidence.base)["cell"])

    @property
    def outcome(self) -> str:
        """In words: a run that was cut short has no verdict."""
        e = self.evidence
        return verdict.spelt(e.outcome) if e.complete else incomplete(len(e.checks))


def incomplete(checks: int) -> str:
    """What is said in the place of a verdict."""
    return f"incomplete, {checks} checks"


def load_all(workspace: Workspace) -> tuple[OverBase, ...]:
    """All of the main suite, sorted by cell and device class; the parts' is theirs to read.

    Raises:
        EvidenceError: a file is corrupt, or tells of no base.
    """
    found = evidence.load_all(workspace.over_base)
    for e in found:
        if e.base is None:
            where = f"over-base/{e.cell}/main.{e.device_class}.json"
            raise EvidenceError(f"reports/{where} tells of no base; remove it")
    return tuple(OverBase(evidence=e, stale=stale(e, MAIN, workspace)) for e in found)


def stale(result: Evidence, check_set: CheckSet, workspace: Workspace) -> str:
    """Why a result does not hold any more: its lock or its checks are not today's."""
    path = workspace.lock(str(_base(result.base)["cell"]))
    if not path.exists():
        return "the lock is gone"
    if files.sha256_file(path) != result.lock:
        return "the lock changed"
    today = check_set.digest(workspace.suite)
    return "" if result.suite == today else "the suite changed"


def _base(base: Mapping[str, Any] | None) -> Mapping[str, Any]:
    assert base is not None
    return base


def gpu(platform: Mapping[str, Any]) -> str:
    """Which GPU, on a machine that has one. Plain text."""
    said = f"capability {platform.get('capability')}, driver {platform.get('driver')}"
    return f"{platform['gpu']}, {said}, {platform.get('gpus', 1)} of them"


def facts(base: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """What is said of a base, each with its name: whose lock, and all that differs. Plain text."""
    rows = [("lock of", str(base["cell"]))]
    if "toolkit" in base:
        rows.append(("CUDA toolkit", str(base["toolkit"] or "none")))
    for name, said in sorted(base["differs"].items()):
        there = said["there"] or "none"
        rows.append(("differs", f"{name} {there} there, {said['lock']} in the lock"))
    rows += [("changed", f"{name}: {said}") for name, said in sorted(_changed(base).items())]
    rows += [("requirement not met", str(text)) for text in base["unmet"]]
    return tuple(rows)


def _changed(base: Mapping[str, Any]) -> Mapping[str, str]:
    said: Mapping[str, str] = base.get("changed") or {}
    return said


def data(one: OverBase) -> dict[str, Any]:
    """What `compatibility.json` says of it beside what it says of a cell."""
    e = one.evidence
    cut = {} if e.complete else {"outcome": None}  # what it came to is no verdict
    return {
        **cut,
        "complete": e.complete,
        "stale": one.stale or None,
        "base": dict(_base(e.base)),
    }
