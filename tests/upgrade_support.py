"""What the tests of `upgrade` share. All results here are made up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import snapshot
from loads_support import answer, loaded, nothing, source
from support import event, record_event, stand_in_result

from mcore_compat.core import profiles
from mcore_compat.core.cells import AXES, Cell
from mcore_compat.core.matrix import Matrix
from mcore_compat.core.outcomes import CellOutcome, CheckOutcome
from mcore_compat.core.profiles import DEFAULT, Profile
from mcore_compat.core.releases import Releases
from mcore_compat.exchange import plan
from mcore_compat.publish.collation import collate
from mcore_compat.resolve.locks import Lock, Pin
from mcore_compat.results.result import CheckResult, Reason, Result, empty_result
from mcore_compat.upgrade.answer import UpgradeAnswer as Answered
from mcore_compat.upgrade.answer import answer as answer_of
from mcore_compat.upgrade.sides import UpgradeInputs

MATRIX: Matrix = replace(snapshot.matrix(), undeclared=(), expected=())
RELEASES: Releases = snapshot.releases()

PINS = {
    "megatron-core": "0.16.1",
    "nvidia-modelopt": "0.41.0",
    "transformer-engine": "2.11.0",
    "torch": "2.9.1",
    "python": "3.12",
}
"""Of the cell that stands for FROM."""

WORKS, BROKEN = answer(), CheckOutcome.BROKEN


def cell(name: str, **pins: str) -> Cell:
    """A cell whose pins are FROM's but for those that are given, `torch="2.8.0"`."""
    words = {"mcore": "megatron-core", "modelopt": "nvidia-modelopt", "te": "transformer-engine"}
    here = {**PINS, **{words.get(key, key): version for key, version in pins.items()}}
    keys = ("mcore", "modelopt", "te", "torch", "python")
    values = {key: here[axis] for key, axis in zip(keys, AXES, strict=True)}
    return Cell(name=name, cuda=12, **values)


FROM = cell("compat-0.16-modelopt0.41")
TO = cell("compat-0.16-modelopt0.42", modelopt="0.42.0")


def lock(of: Cell, **others: str) -> Lock:
    """A lock with `others` beside nothing."""
    pins = tuple(Pin(name=n, version=v, hashes=("0",)) for n, v in sorted(others.items()))
    return Lock(
        cell=of.name,
        text=f"{of.name} {sorted(others.items())}",
        exclude_newer="2026-01-01",
        axes=of.pins,
        pins=pins,
        source_only=(),
    )


def shows(of: Cell, *events: dict[str, Any]) -> Result:
    """A result that holds, with the cell's lock."""
    return replace(stand_in_result(*events, cell=of), lock=lock(of).digest)


SIGNATURES = record_event(
    "signatures",
    **{f"{name}.always:f": "()" for name in ("megatron", "modelopt", "torch")},
    **{"transformer_engine.always:f": "()"},
)
"""What each release has, so that something was recorded of it."""


def recorded(found: Result) -> Result:
    """A result as a suite leaves it, which came to its checks: with signatures."""
    if not found.checks or "signatures" in found.records:
        return found
    return replace(found, records=stand_in_result(SIGNATURES).records)


def exchanged(
    target: Cell, origin: Cell, answers: Mapping[str, CheckResult], **fields: Any
) -> Result:
    """What a cell loaded of another's."""
    given = {"lock": lock(target).digest, "cuda": target.cuda, **fields}
    of_origin = source(origin.pins, plan.WAYS, lock=lock(origin).digest)
    return loaded(nothing(target.name, target.pins, **given), origin.name, of_origin, answers)


ALL_LOAD = {f"gpt:{way}": WORKS for way in plan.WAYS}


GOOD = (event("restore[gpt]"), event("modelopt-state-int8[gpt]"))
"""What FROM shows."""

FAILED = event("modelopt-state-int8[gpt]", "broken")

LOADS = (exchanged(TO, FROM, ALL_LOAD),)
"""All of FROM's checkpoints load in TO."""


def unresolvable(of: Cell) -> Result:
    reason = Reason(kind="unresolvable", message="the index says no", help="")
    return replace(
        empty_result(of, device_class="host"), outcome=CellOutcome.UNRESOLVABLE, reason=reason
    )


def known(
    found: Sequence[Result],
    loads: Sequence[Result] = (),
    locks: Sequence[Lock] | None = None,
    declared: Matrix = MATRIX,
    profile: Profile = DEFAULT,
) -> UpgradeInputs:
    """All that is known: of the suite `s` and the exchange's checks `e`."""
    return UpgradeInputs(
        all_=collate([recorded(e) for e in found], [], declared, RELEASES),
        device_class="host",
        suite="s",
        checks="e",
        exchanged=tuple(loads),
        locks={one.cell: one for one in (locks if locks is not None else (lock(FROM), lock(TO)))},
        profile=profile,
    )


def answered(of: UpgradeInputs, *accepted: str, target: Cell = TO) -> Answered:
    """The answer from FROM to TO."""
    return answer_of(of.side(FROM), of.side(target), of, accepted)


# For whom


FEATURES = {
    "restore": ("restore", None),
    "modelopt-state-fp8": ("quantize", "fp8"),
    "modelopt-state-int8": ("quantize", "int8"),
    "te-quantizers": ("quantize-te", None),
}


def check(name: str, outcome: str = "works", **fields: Any) -> dict[str, Any]:
    """An event of a check of which the suite says what it is about."""
    feature, fmt = FEATURES[name.partition("[")[0]]
    return event(name, outcome, feature=feature, format=fmt, **fields)


NAMES = ("restore[gpt]", "restore[mla-moe]", "modelopt-state-fp8[gpt]", "modelopt-state-int8[gpt]",
         "modelopt-state-fp8[mla-moe]", "te-quantizers")  # fmt: skip

EVERY = tuple(map(check, NAMES))
"""Checks that all work, as the suite says what they are about."""

BOTH_LOAD = {f"{family}:{way}": WORKS for family in ("gpt", "mla-moe") for way in plan.WAYS}


def without(*broken: str, outcome: str = "broken", **fields: Any) -> tuple[dict[str, Any], ...]:
    """All checks, of which these do not work."""
    return tuple(check(n, outcome, **fields) if n in broken else check(n) for n in NAMES)


def profile(text: str, families: str = "") -> Profile:
    chosen = profiles.named(text, {})
    return profiles.narrowed(chosen, families) if families else chosen


def upgrade(
    *events: dict[str, Any],
    whom: Profile = DEFAULT,
    loads: dict[str, Any] | None = None,
    own: dict[str, Any] | None = None,
) -> Answered:
    """FROM shows that all works, TO these."""
    exchanges = [
        exchanged(TO, FROM, loads or BOTH_LOAD),
        exchanged(FROM, FROM, own or BOTH_LOAD),
    ]
    return answered(known([shows(FROM, *EVERY), shows(TO, *events)], exchanges, profile=whom))


def far(mcore: str, modelopt: str) -> Cell:
    series = [".".join(version.split(".")[:2]) for version in (mcore, modelopt)]
    return cell(f"compat-{series[0]}-modelopt{series[1]}", mcore=mcore, modelopt=modelopt)


def other_cuda(of: Cell, cuda: int) -> Cell:
    return replace(of, cuda=cuda)
