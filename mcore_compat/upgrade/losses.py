"""What works in FROM and not in TO, and why. Pure, but for who is given to test further cells."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mcore_compat.analysis import explanation
from mcore_compat.core.outcomes import FAILS, FAILURES, HOLDS, CheckOutcome
from mcore_compat.results import verdict
from mcore_compat.results.comparison import Change, Difference
from mcore_compat.results.evidence import CheckResult
from mcore_compat.upgrade import pins
from mcore_compat.upgrade.blame import BlameReport
from mcore_compat.upgrade.checkpoints import named
from mcore_compat.upgrade.sides import Side, UpgradeInputs
from mcore_compat.upgrade.trial import Run, Trial


@dataclass(frozen=True, kw_only=True)
class Loss:
    """Checks that work in FROM and not in TO, for one reason.

    `outcome`: theirs in TO, None where they are not there. `cause`: the fingerprint of their
    failure; `rules`: over which versions that was seen, in words. `declared`: why the matrix
    expects it. `accepted`: somebody said that this may be lost. `mentions`: packages that the
    failure names and that change beside the axes: name, old and new version. `blamed` is None where
    nothing can be blamed.
    """

    checks: tuple[str, ...]
    outcome: CheckOutcome | None
    why: str
    cause: str | None = None
    frame: str = ""
    same_with_gpu: str | None = None
    declared: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    attributed: tuple[str, ...] = ()
    accepted: bool = False
    mentions: tuple[tuple[str, str, str], ...] = ()
    blamed: BlameReport | None = None

    @property
    def failed(self) -> bool:
        """Whether it fails now; else it is not asked any more."""
        return self.outcome in FAILS


def losses(
    origin: Side,
    target: Side,
    difference: Difference,
    known: UpgradeInputs,
    accepted: Sequence[str] = (),
    run: Run | None = None,
) -> tuple[Loss, ...]:
    """Everything that works in FROM and does not in TO: what fails, then what is not asked; that
    with most checks first. With `run`, cells are tested until it is known what is to blame."""
    assert target.found is not None  # nothing was lost in a cell of which nothing is known
    after = {c.check: c for c in target.found.checks}
    gone = [c for c in difference.newly_untested if c.old in HOLDS]
    groups: dict[tuple[bool, CheckOutcome | None, str], list[Change]] = {}
    for change in (*difference.broke, *gone):
        may_be_lost = named(change.check, accepted)
        cause = _cause(after.get(change.check))
        groups.setdefault((may_be_lost, change.new, cause), []).append(change)
    rows = []
    for (may_be_lost, outcome, _), changes in groups.items():
        checks = tuple(sorted(c.check for c in changes))
        result = after.get(checks[0])
        loss = Loss(
            checks=checks, outcome=outcome, why=_why(changes[0], result), accepted=may_be_lost
        )
        rows.append(_explained(loss, result, origin, target, known, run))
    return tuple(sorted(rows, key=lambda o: (o.accepted, not o.failed, -len(o.checks), o.checks)))


def _cause(result: CheckResult | None) -> str:
    """What is equal for checks that do not work for the same reason."""
    if result is None:
        return ""
    if result.failure and result.outcome in FAILURES:
        return result.failure.fingerprint
    return result.reason or ""


def _why(change: Change, result: CheckResult | None) -> str:
    if change.why:
        return change.why
    if result is None:
        return "it is not asked there"
    return " ".join((result.reason or result.outcome.value).split())[:200]


def _explained(
    loss: Loss,
    result: CheckResult | None,
    origin: Side,
    target: Side,
    known: UpgradeInputs,
    run: Run | None,
) -> Loss:
    """With its rules and what is to blame, where it is a failure of its own."""
    if result is None or result.outcome not in FAILURES or target.found is None:
        return loss
    causes = verdict.causes(c for c in target.found.checks if c.check in loss.checks)
    declared = [verdict.declared(target.found, c, known.all_.matrix.expected) for c in causes]
    loss = replace(
        loss,
        mentions=pins.mentioned(loss.why, pins.packages(origin.lock, target.lock)),
        declared=tuple(itertools.chain.from_iterable(declared)),
    )
    explained = None
    if failure := result.failure:
        loss = replace(loss, cause=failure.fingerprint, frame=failure.frame)
        loss = replace(loss, same_with_gpu=failure.gpu_independent)
        explained = known.all_.explained_one(known.device_class, failure.fingerprint)
    if explained:
        rules = tuple(explanation.lines(explained))
        loss = replace(loss, rules=rules, attributed=explained.attributed())
    hints = [rule.axes for rule in explained.rules] if explained else []
    trial = Trial(loss.checks, result, origin, target, known, run)
    return replace(loss, blamed=trial.report(hints))
