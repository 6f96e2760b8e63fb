"""One cell of the published data as a typed record (`published` models the whole file)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, NamedTuple

from msgspec import Meta, Struct, field

from mcore_compat.base.errors import UsageError, nearest
from mcore_compat.core import profiles
from mcore_compat.core.cells import AXES
from mcore_compat.core.outcomes import HOLDS, CellOutcome, CheckOutcome
from mcore_compat.core.profiles import Profile
from mcore_compat.results import verdict
from mcore_compat.results.result import DEVICE_CLASSES

# The schema lists the values of today; newer values can be read, too.
CellName = Annotated[str, Meta(pattern="^compat-")]
Fingerprint = Annotated[str, Meta(pattern="^[0-9a-f]{12}$")]
DeviceClass = Annotated[str, Meta(extra_json_schema={"enum": [*DEVICE_CLASSES]})]
Outcome = Annotated[str, Meta(extra_json_schema={"enum": [o.value for o in CellOutcome]})]
ByCheckOutcome = Annotated[
    Mapping[str, tuple[str, ...]],
    Meta(extra_json_schema={"propertyNames": {"enum": [o.value for o in CheckOutcome]}}),
]


class PublishedRepair(Struct, frozen=True, kw_only=True):
    """A pin of a package other than an axis that repairs a cell: with `requirement` those `checks`
    work that fail with `locked`, the release of `package` in the lock. `works`: the newest release
    that repairs; `fails`: the nearest that does not."""

    package: str
    requirement: str
    locked: str
    works: str
    fails: str
    checks: tuple[str, ...]

    def text(self) -> str:
        return f"works with {self.requirement} ({self.locked} fails, {self.works} works)"


_KNOWN = frozenset(outcome.value for outcome in CheckOutcome)


class PublishedCheck(NamedTuple):
    """The part of a check that a verdict needs (`core.profiles`)."""

    check: str
    kind: str
    family: str | None
    feature: str | None
    format: str | None
    outcome: CheckOutcome


class CellOutcomes(Struct, frozen=True, kw_only=True, dict=True, omit_defaults=True):
    """How a cell's checks ended. Many cells have the same.

    `by_outcome` (`checks` in the file): checks by outcome; `causes`: fingerprint by failed check;
    `by_reason` (`reasons` in the file): checks by reason, for outcomes other than failures; for a
    check that works under a condition, how it fails without. `points`: by feature, the worst
    outcome of each family's checks, with the format if there is one (`mla-moe fp8`), and the
    outcome of each check without a family. `conditions`: for each check that is `works-with`, the
    code under which it works.
    """

    points: Mapping[str, Mapping[str, str]] = {}
    by_outcome: ByCheckOutcome = field(name="checks", default_factory=dict)
    causes: Mapping[str, Fingerprint] = {}
    by_reason: Mapping[str, tuple[str, ...]] = field(name="reasons", default_factory=dict)
    conditions: Mapping[str, str] = {}


class CheckTable:
    """How the checks of cells ended, by check and by point; all computed on first use."""

    def __init__(
        self,
        ended: CellOutcomes,
        features: Mapping[str, tuple[str, ...]],
        formats: Mapping[str, tuple[str, ...]],
    ) -> None:
        self.ended, self.features, self.formats = ended, features, formats

    @cached_property
    def reasons(self) -> Mapping[str, str]:
        return _by_check(self.ended.by_reason)

    @cached_property
    def checks(self) -> Mapping[str, str]:
        return _by_check(self.ended.by_outcome)

    @cached_property
    def asked(self) -> tuple[PublishedCheck, ...]:
        feature = {check: name for name, checks in self.features.items() for check in checks}
        of_format = {check: name for name, checks in self.formats.items() for check in checks}
        return tuple(
            PublishedCheck(
                check=check,
                kind=check.partition("[")[0],
                family=check.partition("[")[2].removesuffix("]") or None,
                feature=feature.get(check),
                format=of_format.get(check),
                outcome=CheckOutcome(word),
            )
            for check, word in self.checks.items()
            if word in _KNOWN
        )

    @cached_property
    def by_point(self) -> profiles.Points:
        return profiles.points(self.asked)


def _by_check(groups: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """The group of each check, sorted."""
    return dict(sorted((check, word) for word, checks in groups.items() for check in checks))


class CellRecord(CellOutcomes, frozen=True, kw_only=True, dict=True, omit_defaults=True):
    """One cell on one device class; `outcome`: its verdict for the profile `default`; `level`: how
    far it gets on the ladder of the headline.

    `pins`: version by axis; `cuda`: torch's major version of CUDA; `digests`: SHA-256 of the lock
    and the suite. `outcomes`: the key in the file's `outcomes` under which it has how the checks of
    this cell ended; left out if none ran, or if they stand here. `features` and `formats`: as in
    the whole file, only if this result's differ from those. `variables`: environment variables that
    Transformer Engine needs to be imported; left out if unknown. `te_extension`: Transformer
    Engine's torch extension in this run; left out if it is the real one. `unexpected`: failures
    that nothing declares. `reason`: why a cell ran no checks. `repair`: the pin with which checks
    work that fail with the lock's; these are `works-with`, and the pin is their condition.
    """

    name: CellName = field(name="cell")
    device_class: DeviceClass
    outcome: Outcome
    level: str
    reason: str | None
    pins: Annotated[Mapping[str, str], Meta(extra_json_schema={"required": [*AXES]})]
    cuda: int
    taken: Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
    digests: Annotated[Mapping[str, str], Meta(extra_json_schema={"required": ["lock", "suite"]})]
    unexpected: tuple[str, ...]
    outcomes: str = ""
    features: Mapping[str, tuple[str, ...]] = {}
    formats: Mapping[str, tuple[str, ...]] = {}
    variables: Mapping[str, str] | None = None
    te_extension: Literal["real", "stand-in"] = "real"
    repair: PublishedRepair | None = None

    @cached_property
    def table(self) -> CheckTable:
        """Its checks; cells whose checks ended alike may share one."""
        return CheckTable(self, self.features, self.formats)

    @property
    def reasons(self) -> Mapping[str, str]:
        """Reason by check, sorted."""
        return self.table.reasons

    @property
    def checks(self) -> Mapping[str, str]:
        """Outcome by check, sorted."""
        return self.table.checks

    @property
    def asked(self) -> tuple[PublishedCheck, ...]:
        """Every check, sorted, without those whose outcome this version does not know."""
        return self.table.asked

    @property
    def by_point(self) -> profiles.Points:
        """Outcome by point."""
        return self.table.by_point

    @cached_property
    def unsure(self) -> tuple[str, ...]:
        """The failures because of which it has no verdict, although it ran: they may come from a
        missing GPU, or not."""
        untested = self.outcome == CellOutcome.UNTESTED
        return verdict.unsure(self.reasons.values()) if untested else ()

    @cached_property
    def restores(self) -> tuple[str, ...]:
        """The families for which all checks of the feature `restore` work. Sorted."""
        outcomes = self.points.get(profiles.RESTORE, {})
        return tuple(sorted(family for family, word in outcomes.items() if word in HOLDS))

    def outcome_for(self, profile: Profile) -> str:
        """Return the verdict for a profile, from the points that are part of it."""
        return profiles.outcome(self.by_point, profile).value if self.checks else self.outcome

    def outcome_of(self, check: str) -> str:
        """Return the outcome of one check.

        Raises:
            UsageError: the cell has no such check; names the nearest.
        """
        if check not in self.checks:
            raise UsageError(f'{self.name} has no check "{check}"{nearest(check, self.checks)}')
        return self.checks[check]


class OverBaseRecord(CellRecord, frozen=True, kw_only=True, dict=True):
    """A run over packages that were already installed: never a result of a locked cell. `outcome`:
    null if the run was cut short; `stale`: why the result is out of date."""

    outcome: Outcome | None  # type: ignore[assignment]
    complete: bool
    stale: str | None
    base: Annotated[
        Mapping[str, Any],
        Meta(extra_json_schema={"required": ["cell", "differs", "installed", "unmet", "without"]}),
    ]
