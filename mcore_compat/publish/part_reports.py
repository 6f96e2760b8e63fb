"""The published report of each check set other than the main one. Pure, except `texts`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from mcore_compat.core.cells import parsed
from mcore_compat.core.outcomes import FAILURES, HOLDS
from mcore_compat.core.workspace import Workspace
from mcore_compat.publish import over_base
from mcore_compat.publish.rendering import render
from mcore_compat.results import store, verdict
from mcore_compat.results.result import CheckResult, Result
from mcore_compat.run.check_sets import ON_A_GPU, CheckSet

MEMORY = "peak memory, bytes"
"""The key under which a check of the GPU tier records its peak memory; the same as in `suite/gpu/`
(a test compares them)."""

IMPLEMENTATION = "implementation"
"""The key under which a check of a quantization format records which implementation ran, e.g.
`CUDA extension`."""

Stale = Callable[[Result], str]
"""Why a result over a base is out of date, or empty."""


def texts(workspace: Workspace) -> dict[Path, Callable[[], str]]:
    """By file: the function that makes its text.

    Raises:
        ResultError: a result is corrupt, or one in the folder of results over a base has none.
    """
    return {
        workspace.reports / f"{part.name.upper()}.md": functools.partial(
            markdown,
            part,
            (
                *store.load_all(workspace.results, part.name),
                *over_base.results(part, workspace),
            ),
            functools.partial(over_base.stale, check_set=part, workspace=workspace),
        )
        for part in ON_A_GPU.values()
    }


def never_on_a_gpu(results: Iterable[Result]) -> bool:
    """Whether no check ever made its assertion on a GPU, over a base or not."""
    return all(_not_asked(c) for e in results if e.device_class == "gpu" for c in e.checks)


def markdown(part: CheckSet, results: Sequence[Result], stale: Stale = lambda result: "") -> str:
    """The report of a check set: results of locked cells and over a base."""
    by_class = {
        name: sorted((e for e in results if e.device_class == name), key=_rank)
        for name in sorted({e.device_class for e in results}, reverse=True)
    }
    return render(
        "part.md",
        part=part,
        never=never_on_a_gpu(results),
        over=any(e.base for e in results),
        classes={name: _of_class(mine, stale) for name, mine in by_class.items()},
        gpu=over_base.gpu,
        facts=over_base.facts,
        longest=400,
        memory=MEMORY,
    )


def _rank(e: Result) -> tuple[object, ...]:
    mcore, modelopt = parsed(e.pins["megatron-core"]), parsed(e.pins["nvidia-modelopt"])
    return mcore, modelopt, e.cell, e.base is not None


def _of_class(results: Sequence[Result], stale: Stale) -> dict[str, Any]:
    """All runs on one device class, with the checks of each cause, of each condition, and of each
    reason why checks were not run; `costs`: the checks that recorded their memory."""
    checks = [(e, check) for e in results for check in e.checks]
    silent = sorted((pair for pair in checks if _not_asked(pair[1])), key=_reason)
    return {
        "runs": [(e, stale(e) if e.base else "", *_table(e)) for e in results],
        "causes": [
            (cause, [(e, c) for e, c in checks if _fails_by(c) == cause.fingerprint])
            for cause in verdict.causes(check for _, check in checks)
        ],
        "conditions": [
            (condition, [(e, c) for e, c in checks if c.condition == condition])
            for condition in verdict.conditions(check for _, check in checks)
        ],
        "reasons": [(reason, list(pairs)) for reason, pairs in groupby(silent, _reason)],
        "costs": [(e, c) for e, c in checks if isinstance(c.details.get(MEMORY), int)],
    }


def _fails_by(check: CheckResult) -> str | None:
    return check.failure.fingerprint if check.failure and check.outcome in FAILURES else None


def _reason(pair: tuple[Result, CheckResult]) -> tuple[str, str]:
    return pair[1].outcome.value, pair[1].reason or ""


def _not_asked(check: CheckResult) -> bool:
    return check.outcome not in HOLDS and check.outcome not in FAILURES


def _table(e: Result) -> tuple[list[str], dict[str, list[str]], dict[str, str]]:
    """The table of a result: its columns, the symbols by kind of check, and the implementation by
    kind of check."""
    by_kind = e.by_kind()
    columns = [*e.families(), *([""] if any("" in mine for mine in by_kind.values()) else [])]
    symbols = {
        kind: [verdict.SYMBOLS[mine[f].outcome.value] if f in mine else "" for f in columns]
        for kind, mine in sorted(by_kind.items())
    }
    return columns, symbols, {kind: _implementations(mine) for kind, mine in by_kind.items()}


def _implementations(mine: Mapping[str, CheckResult]) -> str:
    """Which implementation of a format ran; with the families, if they differ."""
    by_text: dict[str, list[str]] = {}
    for family, check in mine.items():
        if name := check.details.get(IMPLEMENTATION):
            by_text.setdefault(str(name), []).append(family or "no family")
    if len(by_text) == 1:
        return next(iter(by_text))
    return "; ".join(f"{', '.join(sorted(f))}: {text}" for text, f in sorted(by_text.items()))
