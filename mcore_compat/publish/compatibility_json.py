"""Stage results → data: `reports/compatibility.json`, for other tools to build on. Pure.

`mcore_compat.analysis.published` defines its form; the JSON Schema is published beside it. The
version follows semantic versioning: a new key raises the minor version, a key that is removed or
changes its meaning raises the major one.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from msgspec import convert, to_builtins

from mcore_compat.analysis import concerned_files, error_text
from mcore_compat.analysis.cell_record import CellOutcomes, CellRecord, CheckTable
from mcore_compat.analysis.explanation import Explained
from mcore_compat.analysis.interfaces import changes as drift
from mcore_compat.analysis.published import Compatibility, PublishedCause, PublishedRule
from mcore_compat.analysis.rules import CellSighting, Rule
from mcore_compat.base import files
from mcore_compat.core.matrix import DeclaredReason, Matrix
from mcore_compat.publish.cell_records import grouped, record
from mcore_compat.publish.collation import Collated
from mcore_compat.publish.over_base import OverBase
from mcore_compat.results import verdict
from mcore_compat.results.result import Result

NAME = "compatibility.json"
SCHEMA = "compatibility.schema.json"
"""The file of the JSON Schema, published beside `NAME`."""
VERSION = "3.0.0"


def text(all_: Collated) -> Iterator[str]:
    """The text of the file, in pieces."""
    few = {name: value for name, value in _few(all_).items() if name not in _A_LINE_EACH}
    lines = {name: _few(all_)[name] for name in _A_LINE_EACH}
    return files.json_pieces(few, {**lines, "cells": _rows(all_)})


_A_LINE_EACH = ("drift", "intervals", "outcomes")
"""What has hundreds of elements, beside the cells. Each is a line of the file."""


def known(all_: Collated) -> Compatibility:
    """The content of the file, as a reader of the file gets it."""
    return convert({**_few(all_), "cells": all_.records}, Compatibility)


def _rows(all_: Collated) -> Iterator[Any]:
    known = _check_groups(all_)
    for e, row in zip(all_.ordered, all_.records, strict=True):
        yield _without(known, e, _with_key(row))


def _with_key(cell: CellRecord) -> dict[str, Any]:
    """A cell's row with the key of its outcomes instead of them."""
    row = {k: v for k, v in to_builtins(cell).items() if k not in _OUTCOMES}
    return {**row, "outcomes": _keyed(cell.table)[0]} if cell.by_outcome else row


_OUTCOMES = frozenset(CellOutcomes.__struct_encode_fields__)


@functools.cache
def _keyed(table: CheckTable) -> tuple[str, dict[str, Any]]:
    """How the checks of a cell ended, with its key: the same outcomes have the same."""
    found = {k: v for k, v in to_builtins(table.ended).items() if k in _OUTCOMES}
    return files.sha256_bytes(files.dump_json(found).encode())[:12], found


CheckGroups = Mapping[str, tuple[str | None, str | None]]
"""The feature and the format of each check."""


def _check_groups(all_: Collated) -> CheckGroups:
    """The feature and the format of each check. If results disagree, the newest one decides."""
    results = sorted((*all_.ordered, *(one.result for one in all_.over)), key=lambda e: e.taken)
    return {c.check: (c.feature, c.format) for e in results for c in e.checks}


def _without(known: CheckGroups, e: Result, row: dict[str, Any]) -> dict[str, Any]:
    """A cell's row, without `features` and `formats` if they equal those that the file has for all
    cells."""
    if all(known[c.check] == (c.feature, c.format) for c in e.checks):
        row = {key: value for key, value in row.items() if key not in ("features", "formats")}
    return row


@functools.cache
def _few(all_: Collated) -> Mapping[str, Any]:
    """Everything in the file but the cells. Sorted."""
    known = _check_groups(all_)
    return {
        "schema": VERSION,
        "made_by": "nox -s report",
        "axes": {
            "megatron-core": all_.matrix.mcore_series,
            "nvidia-modelopt": all_.matrix.modelopt_series,
        },
        "causes": to_builtins([row for name in all_.classes for row in _causes(all_, name)]),
        "findings": to_builtins(all_.findings),
        "intervals": [
            {"device_class": name, **to_builtins(interval)}
            for (name, _), intervals in all_.intervals.items()
            for interval in intervals
        ],
        "drift": drift.data(all_.drift),
        "outcomes": dict(sorted(_keyed(cell.table) for cell in all_.records if cell.by_outcome)),
        "features": grouped((check, feature) for check, (feature, _) in known.items()),
        "formats": grouped((check, format_) for check, (_, format_) in known.items()),
        "over_base": [
            _without(known, one.result, _over_base(one, all_.matrix)) for one in all_.over
        ],
    }


def _over_base(over: OverBase, matrix: Matrix) -> dict[str, Any]:
    """The record of a result over a base: that of a cell, with the base added."""
    e = over.result
    cut = {} if e.complete else {"outcome": None}  # an incomplete run has no verdict
    beside = {"complete": e.complete, "stale": over.stale or None, "base": e.base}
    return {**to_builtins(record(e, matrix)), **cut, **beside}


def _causes(all_: Collated, device_class: str) -> Iterator[PublishedCause]:
    """Each failure once, with the versions in which it occurs."""
    declared = {failure.cause.fingerprint: failure.declared for failure in all_.failures}
    for failure in all_.explained[device_class]:
        members = all_.by_cause[failure.fingerprint]
        cause = next(c for e, c in members if e.device_class == device_class)
        yield PublishedCause(
            device_class=device_class,
            fingerprint=cause.fingerprint,
            type=cause.type,
            message=verdict.gist(cause.message),
            frame=cause.frame,
            gpu_independent=cause.gpu_independent,
            checks=failure.checks,
            cells=tuple(seen.cell for seen in failure.seen if seen.broken),
            attributed_to=failure.attributed(),
            bounded_rules=_rules(failure, failure.rules),
            wider_rules=_rules(failure, failure.wider),
            next_cell=failure.next_cell,
            suspects=failure.suspects,
            undecided=failure.undecided,
            alike=failure.alike,
            frames=error_text.frames_of(cause.traceback, cause.message, "suite."),
            files=concerned_files.files({c.traceback for _, c in members}, cause.message),
            declared=tuple(
                DeclaredReason(reason=rule.reason, owner=rule.owner, upstream=rule.upstream)
                for rule in declared[failure.fingerprint]
            ),
        )


def _rules(failure: Explained, rules: Iterable[Rule]) -> tuple[PublishedRule, ...]:
    return tuple(
        PublishedRule(
            text=rule.text(),
            checks=rule.checks or failure.checks,
            bounds=rule.bounds,
            contradicted_by=rule.contradicted,
            others_within=_by_state(rule.others),
        )
        for rule in rules
    )


def _by_state(others: Iterable[CellSighting]) -> dict[str, tuple[str, ...]]:
    cells: dict[str, list[str]] = {}
    for cell in others:
        cells.setdefault(cell.state, []).append(cell.cell)
    return {str(state): tuple(names) for state, names in cells.items()}
