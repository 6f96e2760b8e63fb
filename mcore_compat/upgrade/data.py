"""An answer as JSON. Pure and sorted: the same results make the same bytes.

The file is one object. A new key raises the minor version of `schema`; a key that is removed or
changes its meaning raises the major version.

- `schema`: `"1.5.0"`. `answer`: `go`, `go with changes` or `no`, for the `profile` (`name`,
  `features`, `families` and `formats`; an empty list means all that a release has).
  `device_class`: `host` or `gpu`.
- `from`, `to`: `cell`, `pins` by axis, `cuda` (the major version), `state` (`fresh`: up to date,
  `untested`, or why the results are out of date), `outcome` (for the profile), `taken` and
  `restores` (families), the last three null or empty without results; `note`: how the cell was
  chosen, or empty.
- `reasons`: why the answer is not better: `word` (the best answer that this reason allows; `go`:
  only worth knowing), `subject` (`cuda`, `code`, `results`, `outcome`, `checks`, `conditions`,
  `checkpoints`, `interfaces` or `requirements`), `text`, `why`, `names`, `command`.
- `next`: the one thing to do next: `command`, and `what` it does.
- `losses`: what works in FROM and not in TO: `checks`, `counts` (whether the profile has them),
  `outcome` in TO (null: no result), `sentence` (the declared reason, else the failure's message),
  `why` (the failure), `fingerprint`, `frame`, `declared`, `rules`, `attributed_to`, `accepted`,
  `mentions` (`package`, `old`, `new`: packages that the failure names and whose version changes),
  and `blame`, null if no version change can be blamed: `culprits` (`axes`, `proved`, and the
  smaller combinations that were `not_asked`, i.e. not tested, or are `silent`, i.e. cannot be
  tested), `innocent` and `silent` combinations, `cells` by combination, `open` (cells that could
  still be tested), `whole` (whether no other set of axes can be to blame).
- `difference`: lists of checks: `regressed`, `fixed`, `still_broken`, `broken_otherwise`,
  `newly_untested`, `newly_failing`, `newly_working`, `needs_condition` (works in FROM with all
  defaults, in TO only under a condition), `needs_none_now`; `conditions`: for these checks, the
  condition that each needs in TO; and `same_suite`. Null unless both cells have results.
- `checkpoints`: `state`, `taken`, `routes` (`family`, `way`, `load`, `chain` of cell and kind,
  `condition` without which it does not load, or empty, `as_in_origin` (why the condition loses
  nothing, or empty), `why`, `fingerprint`, `accepted`, `counts`); null if FROM has no results.
- `neighbours`: for the ways of loading that were not tested between FROM and TO, how the
  checkpoints of similar cells load: `origin`, `target`, `origin_pins` and `target_pins` (the pins
  that differ from FROM and TO), `routes`, `taken`.
- `pins`: `moved` by axis, and for the other packages in the locks `added`, `removed`, `changed`,
  null unless both cells have a lock; `undeclared`: `requirement`, `of`, `imported_by`.
- `interfaces`: by package `before`, `after`, `back` (to an older release), `not_recorded` (releases
  without a recorded interface; nothing is compared then), `changed` (`name`, `what`, `breaks` or
  empty, `private`).
- `code`: what in the user's code fits FROM and not TO, as `scan --format json` writes it; null
  if the user named no code.
- `numbers`: `same`, `differ`, `values_differ`, `tensors` (`check`, `added`, `removed`, `changed`),
  `logits` (`family`, `same`, `differ`, `off`); null unless both cells have results.
- `alternatives`: cells that keep everything in the profile that works in FROM, and last, if none of
  them has the megatron-core of TO, the cell with it that loses least: `cell`, `pins`, `unlike_to`
  (axes), `steps`, `cuda`, `checkpoints`, `lost` (in words, empty if it keeps everything), `open`
  (what has no result in it).
- `results`: the results that the answer is based on: `cell`, `device_class`, `taken` (the day),
  `path`.
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
    """The text of the JSON file."""
    return files.dump_json(data(answer))


def data(answer: UpgradeAnswer) -> dict[str, Any]:
    """The content of the JSON file."""
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
    """The fields of a record. `names` gives a field another key; None leaves it out."""
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
    result = side.found
    return {
        "cell": side.name,
        "pins": dict(side.pins),
        "cuda": side.cuda,
        "state": side.state,
        "outcome": verdicts.outcome(result, profile).value if result else None,
        "taken": result.taken if result else None,
        "restores": list(verdict.restoring(result)) if result else [],
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
    """The checks that changed, by kind of change, and whether both cells ran the same suite."""
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
