"""What must have been asked before a check, and what its outcome means for it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from suite.outcomes import BLOCKED, FAILURES, NEEDS_GPU, UNSUPPORTED


@dataclass(frozen=True)
class Check:
    """One question: `kind`, asked of `family` (None: of the combination as a whole), and of a
    `format` of quantization where it is about one.

    A `record` is none: it only notes what is there, for comparing releases, and has no outcome.
    """

    kind: str
    family: str | None = None
    after: tuple[str, ...] = field(default=())
    feature: str | None = None
    format: str | None = None
    record: bool = False

    @property
    def id(self) -> str:
        return f"{self.kind}[{self.family}]" if self.family else self.kind


def needed(check: Check, ids: Sequence[str] | frozenset[str]) -> list[str]:
    """The ids of the checks that `check` comes after, of those in `ids`.

    A kind stands for the check of the same family where there is one, else for the one
    without a family; `kind[family]` stands for itself.
    """
    found = []
    for kind in check.after:
        for name in (f"{kind}[{check.family}]", kind):
            if name in ids:
                found.append(name)
                break
    return found


def unknown(checks: Sequence[Check]) -> list[str]:
    """Kinds that some check wants to come after but that no check is of; a mistake of ours."""
    known = {check.kind for check in checks} | {check.id for check in checks}
    return sorted({kind for check in checks for kind in check.after} - known)


def order(checks: Sequence[Check]) -> list[Check]:
    """`checks` with prerequisites first, otherwise in the order given.

    Raises:
        ValueError: checks wait for each other.
    """
    ids = frozenset(check.id for check in checks)
    done: set[str] = set()
    left = list(checks)
    result: list[Check] = []
    while left:
        ready = next((c for c in left if done.issuperset(needed(c, ids))), None)
        if ready is None:
            raise ValueError(f"checks wait for each other: {', '.join(c.id for c in left)}")
        left.remove(ready)
        done.add(ready.id)
        result.append(ready)
    return result


def verdict(check: Check, ended: Mapping[str, tuple[str, str | None]]) -> tuple[str, str] | None:
    """`(outcome, reason)` of a check that need not be asked, None where it must be.

    `ended` holds `(outcome, reason)` by check id. A failed prerequisite blocks and is named;
    one that the release does not support, or that needs a GPU, passes that on.
    """
    before = [(name, *ended[name]) for name in needed(check, frozenset(ended))]
    for name, outcome, reason in before:
        if outcome in FAILURES:
            return BLOCKED, f"{name} is {outcome}"
        if outcome == BLOCKED:
            return BLOCKED, reason or name
    for wanted in (UNSUPPORTED, NEEDS_GPU):
        for name, outcome, reason in before:
            if outcome == wanted:
                return wanted, reason if wanted == UNSUPPORTED else f"{name}: {reason}"
    return None
