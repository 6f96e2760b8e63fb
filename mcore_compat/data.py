"""Stage evidence → data: `reports/compatibility.json`, made to be built upon. Pure.

Its form is `schemas/compatibility.schema.json`, published beside it and versioned by semantic
versioning: a new key is a minor version, a key that is gone or means something else a major one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from packaging.version import Version

from mcore_compat import declared, drift, explain, files, intervals, verdict
from mcore_compat.evidence import Evidence
from mcore_compat.explain import Explained
from mcore_compat.matrix import Matrix
from mcore_compat.releases import Releases

NAME = "compatibility.json"
SCHEMA = Path(__file__).with_name("schemas") / "compatibility.schema.json"
VERSION = "1.0.0"
INTERVAL_AXES = ("megatron-core", "nvidia-modelopt", "transformer-engine", "torch")


def text(found: Sequence[Evidence], matrix: Matrix, releases: Releases) -> str:
    """The file's text."""
    return files.dump_json(data(found, matrix, releases))


def data(found: Sequence[Evidence], matrix: Matrix, releases: Releases) -> dict[str, Any]:
    """Everything that is published, as the schema says it; sorted."""
    classes = sorted({e.device_class for e in found})
    by_class = {name: [e for e in found if e.device_class == name] for name in classes}
    return {
        "schema": VERSION,
        "made_by": "nox -s report",
        "axes": {
            "megatron-core": list(matrix.mcore_series),
            "nvidia-modelopt": list(matrix.modelopt_series),
        },
        "cells": [_cell(e, matrix) for e in sorted(found, key=order)],
        "causes": [row for name in classes for row in _causes(by_class[name], name)],
        "findings": [asdict(one) for one in findings(found, releases)],
        "intervals": [
            {"device_class": name, **asdict(one)}
            for name in classes
            for axis in INTERVAL_AXES
            for one in intervals.every(by_class[name], axis, [r.version for r in releases.of(axis)])
        ],
        "drift": drift.data(drift.changes(found, releases)),
    }


def order(e: Evidence) -> tuple[Version, Version, str, str]:
    """Cells by their releases, then by name and device class."""
    mcore, modelopt = Version(e.pins["megatron-core"]), Version(e.pins["nvidia-modelopt"])
    return mcore, modelopt, e.cell, e.device_class


def _cell(e: Evidence, matrix: Matrix) -> dict[str, Any]:
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


def _causes(found: Sequence[Evidence], device_class: str) -> list[dict[str, Any]]:
    """Each failure once, with the versions over which it was seen."""
    first: dict[str, verdict.Cause] = {}
    for e in found:
        for cause in verdict.causes(e.checks):
            first.setdefault(cause.fingerprint, cause)
    rows = []
    for one in explain.explain(found, []):
        cause = first[one.fingerprint]
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
                "rules": _rules(one),
            }
        )
    return rows


def _rules(one: Explained) -> list[dict[str, Any]]:
    return [
        {
            "text": rule.text(),
            "bounds": [asdict(bound) for bound in rule.bounds],
            "contradicted_by": list(rule.contradicted),
        }
        for rule in one.rules
    ]


def findings(found: Sequence[Evidence], releases: Releases) -> tuple[declared.Finding, ...]:
    """What is declared beside what was seen, of the device class with most evidence."""
    classes = [e.device_class for e in found]
    most = max(sorted(set(classes)), key=classes.count, default="")
    mine = [e for e in found if e.device_class == most]
    return declared.findings(mine, explain.explain(mine, []), releases)
