"""An answer as JSON. Pure; sorted: the same results make the same bytes.

The file is one object; a key that is added is a minor version of `schema`, one that is gone or
means something else a major one.

- `schema`: `"1.5.0"`. `answer`: `go`, `go with changes` or `no`, for the `profile` (`name`,
  `features`, `families` and `formats`, empty: all that a release has). `device_class`: `host` or
  `gpu`.
- `from`, `to`: `cell`, `pins` by axis, `cuda` (the major version), `state` (`fresh`, `untested`, or
  why the results do not hold any more), `outcome` (for the profile), `taken` and `restores`
  (families), the last three null or empty without results; `note`: how the cell was chosen, or
  empty.
- `reasons`: what speaks against a better answer: `word` (the answer that it allows; `go`: only
  worth knowing), `subject` (`cuda`, `code`, `results`, `outcome`, `checks`, `conditions`,
  `checkpoints`, `interfaces` or `requirements`), `text`, `why`, `names`, `command`.
- `next`: the one thing to do: `command`, and `what` it does.
- `losses`: what works in FROM and not in TO: `checks`, `counts` (whether the profile takes them),
  `outcome` in TO (null: not there), `sentence` (the declared reason, else what the failure says),
  `why` (the failure), `fingerprint`, `frame`, `declared`, `rules`, `attributed_to`, `accepted`,
  `mentions` (`package`, `old`, `new`: what it names and changes with the pins), and `blame`, null
  where nothing can be blamed: `culprits` (`axes`, `proved`, and smaller combinations `not_asked`
  and `silent`, which cannot be asked), `innocent` and `silent` combinations, `cells` by
  combination, `open` (cells that could still be asked), `whole` (whether there is no other).
- `difference`: lists of checks, `regressed`, `fixed`, `still_broken`, `broken_otherwise`,
  `newly_untested`, `newly_failing`, `newly_working`, `needs_condition` (worked with all
  defaults, holds in TO only under a condition), `needs_none_now`; `conditions`, by check of
  these that under which alone it holds in TO; and `same_suite`; null without results of both.
- `checkpoints`: `state`, `taken`, `routes` (`family`, `way`, `load`, `chain` of cell and kind,
  `condition` under which alone it loads, or empty, `as_in_origin` (why that is no change, or
  empty), `why`, `fingerprint`, `accepted`, `counts`); null where FROM has no results.
- `neighbours`: of the ways in which nothing of FROM was loaded in TO, what other cells loaded of
  others: `origin`, `target`, `origin_pins` and `target_pins` (in what they are not FROM and TO),
  `routes`, `taken`.
- `pins`: `moved` by axis, and of the rest of the locks `added`, `removed`, `changed`, null where
  not both have one; `undeclared`: `requirement`, `of`, `imported_by`.
- `interfaces`: by package `before`, `after`, `back` (to an older release), `not_recorded` (those
  of the two of which nothing was recorded: not compared), `changed` (`name`, `what`, `breaks` or
  empty, `private`).
- `code`: what of the user's code fits FROM and not TO, as `scan --format json` writes it; null
  where none was named.
- `numbers`: `same`, `differ`, `values_differ`, `tensors` (`check`, `added`, `removed`, `changed`),
  `logits` (`family`, `same`, `differ`, `off`); null without results of both.
- `alternatives`: cells that keep all of the profile that works in FROM, and last, where none has
  the megatron-core of TO, the one that loses least: `cell`, `pins`, `unlike_to` (axes), `steps`,
  `cuda`, `checkpoints`, `lost` (in words, empty where it keeps all), `open` (what its results do
  not have).
- `results`: what it is from: `cell`, `device_class`, `taken` (the day), `path`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import Any

import msgspec

from mcore_compat.api import scan_report
from mcore_compat.base import files
from mcore_compat.core.profiles import Profile
from mcore_compat.results import answer as verdicts
from mcore_compat.results import verdict
from mcore_compat.upgrade.answer import UpgradeAnswer
from mcore_compat.upgrade.blame import BlameReport
from mcore_compat.upgrade.checkpoints import Route
from mcore_compat.upgrade.interfaces import Interface
from mcore_compat.upgrade.losses import Loss
from mcore_compat.upgrade.sides import Side

VERSION = "1.5.0"


def text(answer: UpgradeAnswer) -> str:
    """The file's text."""
    return files.dump_json(data(answer))


def data(answer: UpgradeAnswer) -> dict[str, Any]:
    """What the file holds."""
    checkpoints, numbers = answer.checkpoints, answer.numbers
    return {
        "schema": VERSION,
        "answer": answer.word.value,
        "profile": _row(answer.profile),
        "device_class": answer.device_class,
        "from": _side(answer.origin, answer.profile),
        "to": _side(answer.target, answer.profile),
        "reasons": [_row(reason) for reason in answer.reasons],
        "next": _row(answer.next),
        "losses": [_loss(loss) for loss in answer.losses],
        "difference": difference(answer),
        "checkpoints": checkpoints
        and {
            **_row(checkpoints, routes=None),
            "routes": _routes(checkpoints.routes),
        },
        "neighbours": [
            {**_row(pair, routes=None), "routes": _routes(pair.routes)}
            for pair in answer.neighbours
        ],
        "pins": _pins(answer),
        "interfaces": {interface.package: _interface(interface) for interface in answer.interfaces},
        "code": answer.code and scan_report.as_data(answer.code),
        "numbers": numbers and _row(numbers, counts=None, values="values_differ", shapes="tensors"),
        "alternatives": [_row(cell, moved="unlike_to") for cell in answer.alternatives],
        "results": [citation.data() for citation in answer.citations],
    }


def _row(record: Any, **names: str | None) -> dict[str, Any]:
    """The fields of a record, by what they are called in the file: None is left out."""
    named = {names.get(f.name, f.name): f.name for f in fields(record)}
    return {key: msgspec.to_builtins(getattr(record, f)) for key, f in named.items() if key}


def _routes(routes: Iterable[Route]) -> list[dict[str, Any]]:
    return [_row(route, cause="fingerprint") for route in routes]


def _pins(answer: UpgradeAnswer) -> dict[str, Any]:
    old, new = answer.origin.pins, answer.target.pins
    keys = ("requirement", "of", "imported_by")
    return {
        "moved": {axis: [old[axis], new[axis]] for axis in answer.moved},
        **_row(answer.packages, complete=None),
        "undeclared": [dict(zip(keys, need, strict=True)) for need in answer.undeclared],
    }


def _interface(interface: Interface) -> dict[str, Any]:
    changed = [{**_row(change), "private": change.private} for change in interface.changed]
    return {**_row(interface, package=None, changed=None), "changed": changed}


def _side(side: Side, profile: Profile) -> dict[str, Any]:
    evidence = side.found
    return {
        "cell": side.name,
        "pins": dict(side.pins),
        "cuda": side.cuda,
        "state": side.state,
        "outcome": verdicts.outcome(evidence, profile).value if evidence else None,
        "taken": evidence.taken if evidence else None,
        "restores": list(verdict.restoring(evidence)) if evidence else [],
        "note": side.note,
    }


def _loss(loss: Loss) -> dict[str, Any]:
    keys = ("package", "old", "new")
    names = {"cause": "fingerprint", "attributed": "attributed_to"}
    return {
        **_row(loss, same_with_gpu=None, mentions=None, blamed=None, **names),
        "mentions": [dict(zip(keys, move, strict=True)) for move in loss.mentions],
        "blame": _blame(loss.blamed) if loss.blamed else None,
    }


def _blame(report: BlameReport) -> dict[str, Any]:
    blame = report.blame
    return {
        "culprits": [
            {**_row(culprit, unknown="not_asked"), "proved": culprit.proved}
            for culprit in blame.culprits
        ],
        "innocent": blame.innocent,
        "silent": [{"axes": axes, "why": report.why.get(axes, "")} for axes in blame.silent],
        "cells": [{"axes": axes, "cell": cell} for axes, cell in report.cells.items()],
        "open": report.open,
        "whole": blame.whole,
    }


def difference(answer: UpgradeAnswer) -> dict[str, Any] | None:
    """By kind: the checks that changed so, and whether both cells ran the same suite."""
    change = answer.difference
    if change is None:
        return None
    lists = {
        "regressed": change.broke,
        "fixed": change.fixed,
        "still_broken": [c for c in change.still if not c.otherwise],
        "broken_otherwise": [c for c in change.still if c.otherwise],
        "newly_untested": change.newly_untested,
        "newly_failing": change.newly_failing,
        "newly_working": change.newly_works,
        "needs_condition": change.needs,
        "needs_none_now": change.freed,
    }
    checks = {name: [c.check for c in rows] for name, rows in lists.items()}
    changes = (*change.needs, *change.fixed, *change.newly_works)
    conditions = {c.check: c.condition for c in changes if c.condition}
    return {**checks, "conditions": conditions, "same_suite": change.same_suite}
