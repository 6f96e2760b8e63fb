"""What works in FROM and not in TO, and why. Pure, except for a `run` function that tests further
cells."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from mcore_compat.analysis import explanation
from mcore_compat.core.outcomes import FAILS, FAILURES, HOLDS, CheckOutcome
from mcore_compat.core.profiles import Profile
from mcore_compat.results import verdict
from mcore_compat.results.comparison import Change, Difference
from mcore_compat.results.result import CheckResult
from mcore_compat.upgrade import pins, words
from mcore_compat.upgrade.blame import BlameReport
from mcore_compat.upgrade.checkpoints import named
from mcore_compat.upgrade.sides import Side, UpgradeInputs
from mcore_compat.upgrade.trial import Run, Trial


@dataclass(frozen=True, kw_only=True)
class Loss:
    """Checks that work in FROM and not in TO, all for one reason.

    - `counts`: the profile has them.
    - `outcome`: their outcome in TO; None if TO has no result of them.
    - `sentence`: the reason that the matrix declares, else the failure's message.
    - `why`: the failure in one line; `cause`: its fingerprint.
    - `rules`: the versions in which that failure occurs, in words.
    - `declared`: why the matrix expects the failure, and where that is discussed.
    - `accepted`: the user can do without them.
    - `mentions`: packages, other than the axes, that the failure names and whose version changes:
      name, old and new version.
    - `blamed`: which version changes are to blame; None if the loss is not a failure.
    """

    checks: tuple[str, ...]
    outcome: CheckOutcome | None
    why: str
    sentence: str
    counts: bool = True
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
        """Whether it fails in TO; else TO does not run it."""
        return self.outcome in FAILS

    @property
    def decides(self) -> bool:
        """Whether it decides the answer: the profile has it, and the user needs it."""
        return self.counts and not self.accepted


@dataclass(frozen=True, kw_only=True)
class LossCause:
    """Losses that share one sentence, the loss with most checks first: failures that differ only
    in a path or a name, and the checks that they block."""

    counts: bool
    accepted: bool
    failed: bool
    sentence: str
    losses: tuple[Loss, ...]

    @property
    def checks(self) -> tuple[str, ...]:
        return tuple(sorted(check for loss in self.losses for check in loss.checks))

    @property
    def first(self) -> Loss:
        """The loss that documents show in full: the first that is not merely blocked, if any."""
        own = (loss for loss in self.losses if loss.outcome is not CheckOutcome.BLOCKED)
        return next(own, self.losses[0])


def causes(every: Iterable[Loss]) -> tuple[LossCause, ...]:
    """Losses, grouped by their sentence. Those that decide come first, then those that fail, then
    those with most checks."""
    groups: dict[tuple[bool, bool, bool, str], list[Loss]] = {}
    for loss in every:
        gone = loss.outcome is CheckOutcome.UNSUPPORTED
        key = loss.counts, loss.accepted, loss.failed or gone, loss.sentence
        groups.setdefault(key, []).append(loss)
    rows = [
        LossCause(
            counts=counts, accepted=accepted, failed=failed, sentence=text, losses=tuple(members)
        )
        for (counts, accepted, failed, text), members in groups.items()
    ]
    return tuple(
        sorted(
            rows, key=lambda c: (not c.counts, c.accepted, not c.failed, -len(c.checks), c.checks)
        )
    )


def losses(
    origin: Side,
    target: Side,
    difference: Difference,
    known: UpgradeInputs,
    accepted: Sequence[str] = (),
    run: Run | None = None,
) -> tuple[Loss, ...]:
    """Everything that works in FROM and not in TO. Losses that decide come first, then those that
    fail, then those with most checks. With `run`, further cells are tested until it is known which
    version changes are to blame for the losses that decide."""
    assert target.found is not None  # the difference was computed from its results
    after = {c.check: c for c in target.found.checks}
    gone = [c for c in difference.newly_untested if c.old in HOLDS]
    groups: dict[tuple[bool, bool, CheckOutcome | None, str], list[Change]] = {}
    for change in (*difference.broke, *gone):
        may_be_lost = named(change.check, accepted)
        counts = takes(known.profile, change.check, origin, target)
        cause = _cause(after.get(change.check))
        groups.setdefault((counts, may_be_lost, change.new, cause), []).append(change)
    rows = []
    for (taken, may_be_lost, outcome, _), changes in groups.items():
        checks = tuple(sorted(c.check for c in changes))
        result = after.get(checks[0])
        rules = known.all_.matrix.expected
        loss = Loss(
            checks=checks,
            outcome=outcome,
            why=_why(changes[0], result),
            sentence=words.sentence(target.found, result, rules),
            counts=taken,
            accepted=may_be_lost,
        )
        loss = _explained(loss, result, origin, target, known, run if loss.decides else None)
        rows.append(loss)
    return tuple(
        sorted(rows, key=lambda o: (not o.decides, not o.failed, -len(o.checks), o.checks))
    )


def takes(profile: Profile, check: str, origin: Side, target: Side) -> bool:
    """Whether a profile has a check, by the description in TO's result if it has one."""
    return all(profile.takes(c) for c in described([check], origin, target))


def described(checks: Iterable[str], origin: Side, target: Side) -> list[CheckResult]:
    """The results of checks: that in TO, unless only the one in FROM names the check's feature,
    which older suites did not record."""
    by_id: dict[str, CheckResult] = {}
    for side in (origin, target):
        for c in side.found.checks if side.found else ():
            if c.feature or c.check not in by_id:
                by_id[c.check] = c
    return [by_id[check] for check in checks if check in by_id]


def _cause(result: CheckResult | None) -> str:
    """A key that is equal for checks that do not work for the same reason."""
    if result is None:
        return ""
    if result.failure and result.outcome in FAILURES:
        return result.failure.fingerprint
    return result.reason or ""


def _why(change: Change, result: CheckResult | None) -> str:
    if change.why:
        return change.why
    if result is None:
        return words.NOT_THERE
    return " ".join((result.reason or result.outcome.value).split())[:200]


def _explained(
    loss: Loss,
    result: CheckResult | None,
    origin: Side,
    target: Side,
    known: UpgradeInputs,
    run: Run | None,
) -> Loss:
    """The loss, with rules and blame added if it is a failure and not merely blocked."""
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
