"""Stage evidence → data: `reports/compatibility.json`, made to be built upon. Pure.

Its form is that of `mcore_compat.analysis.published`, whose JSON Schema is published beside it,
versioned by semantic versioning: a new key is a minor version, a key that is gone
or means something else a major one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from mcore_compat.analysis.explanation import Explained
from mcore_compat.analysis.interfaces import changes as drift
from mcore_compat.analysis.rules import Beside, Bound, Rule
from mcore_compat.analysis.rules import CellSighting as Seen
from mcore_compat.base import files
from mcore_compat.core.matrix import Matrix
from mcore_compat.publish import over_base
from mcore_compat.publish.collation import Collated
from mcore_compat.results import verdict
from mcore_compat.results.evidence import Evidence

NAME = "compatibility.json"
SCHEMA = "compatibility.schema.json"
"""Published beside it."""
VERSION = "1.2.0"


def text(all_: Collated) -> str:
    """The file's text."""
    return "".join(parts(all_))


def parts(all_: Collated) -> Iterator[str]:
    """The file's text in pieces."""
    return files.json_pieces(_few(all_), "cells", (row(e, all_.matrix) for e in all_.ordered))


def data(all_: Collated) -> dict[str, Any]:
    """Everything that is published, as the schema says it; sorted."""
    return {**_few(all_), "cells": [row(e, all_.matrix) for e in all_.ordered]}


def _few(all_: Collated) -> dict[str, Any]:
    """All but the cells."""
    return {
        "schema": VERSION,
        "made_by": "nox -s report",
        "axes": {
            "megatron-core": list(all_.matrix.mcore_series),
            "nvidia-modelopt": list(all_.matrix.modelopt_series),
        },
        "causes": [row for name in all_.classes for row in _causes(all_, name)],
        "findings": [asdict(one) for one in all_.findings],
        "intervals": [
            {"device_class": name, **asdict(one)}
            for (name, _), made in all_.intervals.items()
            for one in made
        ],
        "drift": drift.data(all_.drift),
        "over_base": [{**row(o.evidence, all_.matrix), **over_base.data(o)} for o in all_.over],
    }


def row(e: Evidence, matrix: Matrix) -> dict[str, Any]:
    """One cell on one device class."""
    checks: dict[str, list[str]] = {}
    for c in e.checks:
        checks.setdefault(c.outcome.value, []).append(c.check)
    unexpected = {c.check for c in verdict.unexpected(e, matrix.expected)}
    failed = [c for c in e.checks if c.failure]
    return {
        "cell": e.cell,
        "device_class": e.device_class,
        "outcome": e.outcome.value,
        "reason": e.reason.message if e.reason else None,
        "pins": dict(e.pins),
        "cuda": e.cuda,
        "taken": e.taken,
        "digests": {"lock": e.lock, "suite": e.suite},
        "restores": list(verdict.restoring(e)),
        "checks": {outcome: sorted(checks[outcome]) for outcome in sorted(checks)},
        "causes": {c.check: c.failure.fingerprint for c in failed if c.failure},
        "reasons": {c.check: c.reason for c in e.checks if c.reason and not c.failure},
        "unexpected": sorted(unexpected),
    }


def _causes(all_: Collated, device_class: str) -> list[dict[str, Any]]:
    """Each failure once, with the versions over which it was seen."""
    rows = []
    for one in all_.explained[device_class]:
        cause = next(c for e, c in all_.by_cause[one.fingerprint] if e.device_class == device_class)
        rows.append(
            {
                "device_class": device_class,
                "fingerprint": one.fingerprint,
                "type": cause.type,
                "message": verdict.gist(cause.message),
                "frame": cause.frame,
                "gpu_independent": cause.gpu_independent,
                "checks": list(one.checks),
                "cells": [seen.cell for seen in one.seen if seen.broken],
                "attributed_to": list(one.attributed()),
                "rules": _rules(one, one.rules),
                "wider_rules": _rules(one, one.wider),
                "next_cell": one.next_cell,
            }
        )
    return rows


def _rules(one: Explained, rules: Iterable[Rule]) -> list[dict[str, Any]]:
    return [
        {
            "text": rule.text(),
            "checks": list(rule.checks or one.checks),
            "bounds": [_bound(bound) for bound in rule.bounds],
            "contradicted_by": list(rule.contradicted),
            "others_within": _by_what_they_said(rule.others),
        }
        for rule in rules
    ]


def _bound(bound: Bound) -> dict[str, Any]:
    return {
        **asdict(bound),
        "next_below": _beside(bound.next_below),
        "next_above": _beside(bound.next_above),
    }


def _beside(one: Beside | None) -> dict[str, str] | None:
    return {"version": one.version, "said": one.state.value} if one else None


def _by_what_they_said(others: Iterable[Seen]) -> dict[str, list[str]]:
    cells: dict[str, list[str]] = {}
    for one in others:
        cells.setdefault(one.state.value, []).append(one.cell)
    return cells
