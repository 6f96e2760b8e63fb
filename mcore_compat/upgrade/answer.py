"""Results of two cells → go, go with changes, or no, for a profile, with every reason for it.
Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mcore_compat.analysis.bisect.release_line import differing
from mcore_compat.analysis.install_line import InstallFacts
from mcore_compat.api.scan import ScanReport
from mcore_compat.core.matrix import Pairs
from mcore_compat.core.outcomes import HOLDS
from mcore_compat.core.profiles import DEFAULT, Profile
from mcore_compat.results import citation, comparison
from mcore_compat.results.citation import Citation
from mcore_compat.results.comparison import Difference
from mcore_compat.results.result import EXCHANGE
from mcore_compat.upgrade import alternatives as others
from mcore_compat.upgrade import checkpoints as loads
from mcore_compat.upgrade import interfaces, losses, next_step, numbers, pins, words
from mcore_compat.upgrade.alternatives import Alternative
from mcore_compat.upgrade.checkpoints import Checkpoints, Load
from mcore_compat.upgrade.interfaces import Interface
from mcore_compat.upgrade.losses import Loss
from mcore_compat.upgrade.neighbours import Neighbours, neighbours
from mcore_compat.upgrade.next_step import NextStep
from mcore_compat.upgrade.numbers import Numbers
from mcore_compat.upgrade.pins import Packages
from mcore_compat.upgrade.reasons import RANK, UpgradeReason, Word, judged
from mcore_compat.upgrade.sides import Side, UpgradeInputs

RESULTS = Path("reports/results")
"""The folder as documents name it. Relative, so that a document is the same on every machine."""


@dataclass(frozen=True, kw_only=True)
class UpgradeAnswer:
    """The answer for one upgrade, with everything that its documents show.

    - `difference`, `numbers`: None unless both cells have results.
    - `checkpoints`: None if FROM has no results.
    - `code`: what the upgrade breaks in the user's code; None if the user named no code.
    - `accepted`: patterns of checks that the user can do without.
    - `rules`: the failures that the matrix declares.
    - `command`: runs everything that is out of date or missing, and answers again.
    """

    word: Word
    reasons: tuple[UpgradeReason, ...]
    device_class: str
    origin: Side
    target: Side
    moved: tuple[str, ...]
    packages: Packages
    undeclared: tuple[tuple[str, str, str], ...]
    command: str
    rules: tuple[Pairs, ...] = ()
    profile: Profile = DEFAULT
    difference: Difference | None = None
    losses: tuple[Loss, ...] = ()
    checkpoints: Checkpoints | None = None
    neighbours: tuple[Neighbours, ...] = ()
    interfaces: tuple[Interface, ...] = ()
    numbers: Numbers | None = None
    alternatives: tuple[Alternative, ...] = ()
    accepted: tuple[str, ...] = ()
    code: ScanReport | None = None
    next: NextStep = field(default_factory=NextStep)

    @property
    def cuda(self) -> tuple[int, int] | None:
        """The major versions of CUDA in FROM and TO; None if they are equal."""
        both = self.origin.cuda, self.target.cuda
        return both if both[0] != both[1] else None

    @property
    def citations(self) -> tuple[Citation, ...]:
        """The results that the answer is based on."""
        found = [side.found for side in (self.origin, self.target) if side.found]
        rows = [citation.of_result(result, RESULTS) for result in found]
        if self.checkpoints and self.checkpoints.taken:
            taken, name = self.checkpoints.taken, self.target.name
            rows.append(citation.of(name, self.device_class, taken, RESULTS, EXCHANGE))
        return tuple(dict.fromkeys(rows))

    @property
    def works(self) -> bool:
        """Whether anything in the profile is known to work in FROM."""
        checks = self.origin.found.checks if self.origin.found else ()
        return any(c.outcome in HOLDS and self.profile.takes(c) for c in checks)

    @property
    def nearest(self) -> Alternative | None:
        """The cell that loses least; None if a cell keeps everything that works in FROM."""
        return next((one for one in self.alternatives[:1] if one.lost), None)


def answer(
    origin: Side,
    target: Side,
    known: UpgradeInputs,
    accepted: Sequence[str] = (),
    code: ScanReport | None = None,
) -> UpgradeAnswer:
    """The answer from the results so far. `accepted`: patterns of checks that the user can do
    without; `code`: what the upgrade breaks in the user's code."""
    old, new = origin.found, target.found
    difference = comparison.difference(old, new) if old and new else None
    target_checked = bool(new and new.checks)
    lost = (
        losses.losses(origin, target, difference, known, accepted)
        if difference and target_checked
        else ()
    )
    over = loads.checkpoints(old, target.name, known, accepted) if old else None
    missing = {r.way for r in over.of(Load.UNTESTED) if r.counts} if over else set()
    beside = neighbours(origin, target, sorted(missing), known) if target_checked else ()
    changed = interfaces.interfaces(origin.pins, target.pins, known.found, known.all_.releases)
    options = words.options(known.profile, known.all_.matrix)
    bare = UpgradeAnswer(
        word=Word.GO,
        reasons=(),
        device_class=known.device_class,
        origin=origin,
        target=target,
        moved=differing(origin.pins, target.pins),
        packages=pins.packages(origin.lock, target.lock),
        undeclared=pins.undeclared(origin.pins, target.pins, known.all_.matrix),
        command=next_step.upgrade_command(origin.name, target.name, options),
        rules=known.all_.matrix.expected,
        profile=known.profile,
        difference=difference,
        losses=lost,
        checkpoints=over,
        neighbours=beside,
        interfaces=changed,
        numbers=numbers.numbers(old, new) if old and new else None,
        accepted=tuple(accepted),
        code=code,
    )
    reasons = tuple(sorted(judged(bare), key=lambda r: -RANK.index(r.word)))
    word = max((r.word for r in reasons), key=RANK.index, default=Word.GO)
    instead = others.alternatives(origin, target, known, accepted) if word is Word.NO else ()
    whole = replace(bare, word=word, reasons=reasons, alternatives=instead)
    facts = InstallFacts(matrix=known.all_.matrix, releases=known.all_.releases)
    return replace(whole, next=next_step.next_step(whole, options, facts))
