"""Whether two cells restore the same tensors and compute the same logits, as far as they recorded
them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mcore_compat.core.outcomes import HOLDS
from mcore_compat.results.result import CheckResult, Result

LOGITS = "inference-numbers"
DIGEST = "digest"
"""The key under which a check records the digest of the names, shapes and values of all tensors of
a restored model."""

MODELS = ("build-default", "build-modelopt")


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The tensors of one model whose name, shape or type differs between the two cells."""

    check: str
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Logits:
    """The logits of one family. `same`, `differ`: the steps whose logits are, or are not, the same
    bit for bit in both cells; `off`: the largest difference between the ModelOpt spec and the
    default one, in FROM and in TO."""

    family: str
    same: tuple[str, ...]
    differ: tuple[str, ...]
    off: tuple[float | None, float | None]


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The numbers of both cells, compared.

    - `same`, `differ`: the checks that work in both, by whether their digests are equal.
    - `counts`: for those that differ, the number of tensors in FROM and in TO.
    - `values`: the checks in `differ` whose tensors differ in their values only.
    """

    same: tuple[str, ...] = ()
    differ: tuple[str, ...] = ()
    counts: Mapping[str, tuple[int, int]] | None = None
    values: tuple[str, ...] = ()
    shapes: tuple[Shape, ...] = ()
    logits: tuple[Logits, ...] = ()


def numbers(old: Result, new: Result) -> Numbers:
    """Compare what both results recorded."""
    both = _both(old, new)
    pairs = [(a, b) for a, b in both if DIGEST in a.details and DIGEST in b.details]
    same = tuple(a.check for a, b in pairs if a.details[DIGEST] == b.details[DIGEST])
    differ = tuple(a.check for a, b in pairs if a.check not in same)
    counts = {
        a.check: (a.details["tensors"], b.details["tensors"])
        for a, b in pairs
        if a.check in differ and {"tensors"} <= {*a.details} & {*b.details}
    }
    shapes = (_shape(a, b) for a, b in both if a.kind in MODELS)
    logits = (_logits(a, b) for a, b in both if a.kind == LOGITS)
    return Numbers(
        same=same,
        differ=differ,
        counts=counts,
        values=tuple(a.check for a, _ in pairs if a.check in differ and _alike(a, both)),
        shapes=tuple(s for s in shapes if s is not None),
        logits=tuple(steps for steps in logits if steps is not None),
    )


def _both(old: Result, new: Result) -> list[tuple[CheckResult, CheckResult]]:
    """The checks that work in both, with both results. Sorted."""
    after = {c.check: c for c in new.checks if c.outcome in HOLDS}
    works = [c for c in old.checks if c.outcome in HOLDS and c.check in after]
    return [(c, after[c.check]) for c in sorted(works, key=lambda c: c.check)]


def _alike(check: CheckResult, both: Sequence[tuple[CheckResult, CheckResult]]) -> bool:
    """Whether a check restores a model whose tensors have the same names and shapes in both."""
    models = [(a, b) for a, b in both if a.kind in MODELS and a.family == check.family]
    whole = check.kind.startswith("restore") and len(models) == len(MODELS)
    return whole and all(a.details.get("tensors") == b.details.get("tensors") for a, b in models)


def _shape(old: CheckResult, new: CheckResult) -> Shape | None:
    before, after = old.details.get("tensors"), new.details.get("tensors")
    if not isinstance(before, Mapping) or not isinstance(after, Mapping) or before == after:
        return None
    both = {*before} & {*after}
    return Shape(
        check=old.check,
        added=tuple(sorted({*after} - {*before})),
        removed=tuple(sorted({*before} - {*after})),
        changed=tuple(sorted(name for name in both if before[name] != after[name])),
    )


def _logits(old: CheckResult, new: CheckResult) -> Logits | None:
    steps = sorted(n for n in {*old.details} & {*new.details} if n.endswith(f": {DIGEST}"))
    if not steps:
        return None
    same = [name for name in steps if old.details[name] == new.details[name]]
    return Logits(
        family=old.family or "",
        same=tuple(name.partition(":")[0] for name in same),
        differ=tuple(name.partition(":")[0] for name in steps if name not in same),
        off=(_off(old.details), _off(new.details)),
    )


def _off(details: Mapping[str, Any]) -> float | None:
    differences = details.get("differences")
    return max(differences.values(), default=None) if isinstance(differences, Mapping) else None
