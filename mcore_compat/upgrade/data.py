"""An answer as JSON. Pure; sorted: the same evidence makes the same bytes.

The file is one object; a key that is added is a minor version of `schema`, one that is gone or
means something else a major one.

- `schema`: `"1.1.0"`. `answer`: `go`, `go with changes` or `no`. `device_class`: `host` or `gpu`.
- `from`, `to`: `cell`, `pins` by axis, `state` (`fresh`, `untested`, or why the evidence does not
  hold any more), `outcome`, `taken` and `restores` (families), the last three null or empty without
  evidence; `note`: how the cell was chosen, or empty.
- `reasons`: what speaks against a better answer: `word` (the answer that it allows; `go`: only
  worth knowing), `text`, `why`, `names`, `command`.
- `losses`: what works in FROM and not in TO: `checks`, `outcome` in TO (null: not there), `why`,
  `fingerprint`, `frame`, `declared`, `rules`, `attributed_to`, `accepted`, `mentions`
  (`package`, `old`, `new`: what it names and changes with the pins), and `blame`, null where
  nothing can be blamed: `culprits` (`axes`, `proved`, and smaller combinations `not_asked` and
  `silent`, which cannot be asked), `innocent` and `silent` combinations, `cells` by combination,
  `open` (cells that could still be asked), `whole` (whether there is no other).
- `difference`: lists of checks, `regressed`, `fixed`, `still_broken`, `broken_otherwise`,
  `newly_untested`, `newly_failing`, `newly_working`, and `same_suite`; null without evidence of
  both.
- `checkpoints`: `state`, `taken`, `routes` (`family`, `way`, `load`, `chain` of cell and kind,
  `why`, `fingerprint`, `accepted`); null where FROM has no evidence.
- `pins`: `moved` by axis, and of the rest of the locks `added`, `removed`, `changed`, null where
  not both have one; `undeclared`: `requirement`, `of`, `imported_by`.
- `interfaces`: by package `before`, `after`, `back` (to an older release), `not_recorded` (those
  of the two of which nothing was recorded: not compared), `changed` (`name`, `what`, `breaks` or
  empty, `private`).
- `numbers`: `same`, `differ`, `values_differ`, `tensors` (`check`, `added`, `removed`, `changed`),
  `logits` (`family`, `same`, `differ`, `off`); null without evidence of both.
- `alternatives`: `cell`, `pins`, `unlike_to` (axes), `steps`, `checkpoints`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mcore_compat.base import files
from mcore_compat.results import verdict
from mcore_compat.results.comparison import Difference
from mcore_compat.upgrade.answer import UpgradeAnswer
from mcore_compat.upgrade.blame import BlameReport
from mcore_compat.upgrade.interfaces import Interface
from mcore_compat.upgrade.losses import Loss
from mcore_compat.upgrade.numbers import Numbers
from mcore_compat.upgrade.sides import Side

VERSION = "1.1.0"


def text(made: UpgradeAnswer) -> str:
    """The file's text."""
    return files.dump_json(data(made))


def data(made: UpgradeAnswer) -> dict[str, Any]:
    """What the file holds."""
    return {
        "schema": VERSION,
        "answer": made.word.value,
        "device_class": made.device_class,
        "from": _side(made.origin),
        "to": _side(made.target),
        "reasons": [
            {
                "word": r.word.value,
                "text": r.text,
                "why": r.why,
                "names": list(r.names),
                "command": r.command,
            }
            for r in made.reasons
        ],
        "losses": [_loss(one) for one in made.losses],
        "difference": _difference(made.difference) if made.difference else None,
        "checkpoints": _checkpoints(made),
        "pins": _pins(made),
        "interfaces": {one.package: _interface(one) for one in made.interfaces},
        "numbers": _numbers(made.numbers) if made.numbers else None,
        "alternatives": [
            {
                "cell": one.cell,
                "pins": dict(one.pins),
                "unlike_to": list(one.moved),
                "steps": one.steps,
                "checkpoints": one.checkpoints,
            }
            for one in made.alternatives
        ],
    }


def _pins(made: UpgradeAnswer) -> dict[str, Any]:
    old, new = made.origin.pins, made.target.pins
    rest = made.packages
    changed = rest.changed
    return {
        "moved": {axis: [old[axis], new[axis]] for axis in made.moved},
        "added": dict(rest.added) if rest.added is not None else None,
        "removed": dict(rest.removed) if rest.removed is not None else None,
        "changed": {n: list(v) for n, v in changed.items()} if changed is not None else None,
        "undeclared": [
            {"requirement": need, "of": of, "imported_by": by} for need, of, by in made.undeclared
        ],
    }


def _interface(one: Interface) -> dict[str, Any]:
    return {
        "before": one.before,
        "after": one.after,
        "back": one.back,
        "not_recorded": list(one.not_recorded),
        "changed": [
            {"name": c.name, "what": c.what, "breaks": c.breaks, "private": c.private}
            for c in one.changed
        ],
    }


def _side(side: Side) -> dict[str, Any]:
    found = side.found
    return {
        "cell": side.name,
        "pins": dict(side.pins),
        "state": side.state,
        "outcome": found.outcome.value if found else None,
        "taken": found.taken if found else None,
        "restores": list(verdict.restoring(found)) if found else [],
        "note": side.note,
    }


def _loss(one: Loss) -> dict[str, Any]:
    return {
        "checks": list(one.checks),
        "outcome": one.outcome.value if one.outcome else None,
        "why": one.why,
        "fingerprint": one.cause,
        "frame": one.frame,
        "declared": list(one.declared),
        "rules": list(one.rules),
        "attributed_to": list(one.attributed),
        "accepted": one.accepted,
        "mentions": [{"package": name, "old": old, "new": new} for name, old, new in one.mentions],
        "blame": _blame(one.blamed) if one.blamed else None,
    }


def _blame(one: BlameReport) -> dict[str, Any]:
    def rows(found: Iterable[Iterable[str]]) -> list[list[str]]:
        return [list(axes) for axes in found]

    return {
        "culprits": [
            {
                "axes": list(c.axes),
                "proved": c.proved,
                "not_asked": rows(c.unknown),
                "silent": rows(c.silent),
            }
            for c in one.blame.culprits
        ],
        "innocent": rows(one.blame.innocent),
        "silent": [{"axes": list(axes), "why": one.why.get(axes, "")} for axes in one.blame.silent],
        "cells": [{"axes": list(axes), "cell": cell} for axes, cell in one.cells.items()],
        "open": list(one.open),
        "whole": one.blame.whole,
    }


def _difference(one: Difference) -> dict[str, Any]:
    lists = {
        "regressed": one.broke,
        "fixed": one.fixed,
        "still_broken": [c for c in one.still if not c.otherwise],
        "broken_otherwise": [c for c in one.still if c.otherwise],
        "newly_untested": one.newly_untested,
        "newly_failing": one.newly_failing,
        "newly_working": one.newly_works,
    }
    told = {name: [c.check for c in changes] for name, changes in lists.items()}
    return {**told, "same_suite": one.same_suite}


def _checkpoints(made: UpgradeAnswer) -> dict[str, Any] | None:
    found = made.checkpoints
    if found is None:
        return None
    return {
        "state": found.state,
        "taken": found.taken,
        "routes": [
            {
                "family": r.family,
                "way": r.way,
                "load": r.load.value,
                "chain": [list(place) for place in r.chain],
                "why": r.why,
                "fingerprint": r.cause,
                "accepted": r.accepted,
            }
            for r in found.routes
        ],
    }


def _numbers(one: Numbers) -> dict[str, Any]:
    return {
        "same": list(one.same),
        "differ": list(one.differ),
        "values_differ": list(one.values),
        "tensors": [
            {
                "check": s.check,
                "added": list(s.added),
                "removed": list(s.removed),
                "changed": list(s.changed),
            }
            for s in one.shapes
        ],
        "logits": [
            {
                "family": two.family,
                "same": list(two.same),
                "differ": list(two.differ),
                "off": list(two.off),
            }
            for two in one.logits
        ],
    }
