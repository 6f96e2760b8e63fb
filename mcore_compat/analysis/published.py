"""The published data as typed records: `mcore_compat.load()`.

The one model of `compatibility.json`: reading, validation and the JSON Schema come from it. No
lock, no evidence, no package under test is needed. Keys that it does not know are passed over: a
newer minor version can be read.

>>> known = load()
>>> cell = known.cell("compat-0.16-modelopt0.41")
>>> cell.pins["torch"]
'2.9.1'
>>> cell.outcome_of("restore[gpt]")
'works'
>>> [cell.name for cell in known.where(mcore="==0.16.*", modelopt="==0.41.*")][:1]
['compat-0.16-modelopt0.41']
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta, Struct, field
from msgspec.structs import force_setattr

from mcore_compat.analysis.declarations import Finding
from mcore_compat.analysis.intervals import Interval
from mcore_compat.analysis.rules import Bound, FailureState
from mcore_compat.base import data
from mcore_compat.base.data import DataError
from mcore_compat.base.errors import EvidenceError, UsageError, nearest
from mcore_compat.core import profiles, workspace
from mcore_compat.core.cells import AXES
from mcore_compat.core.matrix import DeclaredReason
from mcore_compat.core.outcomes import HOLDS, CellOutcome, CheckOutcome
from mcore_compat.core.profiles import Profile
from mcore_compat.results.evidence import DEVICE_CLASSES

if TYPE_CHECKING:
    import pandas

MAJOR = 3
"""Of the schema: another one cannot be read."""

# The values that exist by now stand in the schema; one that is newer can be read.
CellName = Annotated[str, Meta(pattern="^compat-")]
Fingerprint = Annotated[str, Meta(pattern="^[0-9a-f]{12}$")]
DeviceClass = Annotated[str, Meta(extra_json_schema={"enum": [*DEVICE_CLASSES]})]
Outcome = Annotated[str, Meta(extra_json_schema={"enum": [o.value for o in CellOutcome]})]
ByCheckOutcome = Annotated[
    Mapping[str, tuple[str, ...]],
    Meta(extra_json_schema={"propertyNames": {"enum": [o.value for o in CheckOutcome]}}),
]

ByState = Annotated[
    Mapping[str, tuple[str, ...]],
    Meta(extra_json_schema={"propertyNames": {"enum": [state.value for state in FailureState]}}),
]


class PublishedRepair(Struct, frozen=True, kw_only=True):
    """A pin off the axes that repairs a cell: with `requirement` the `checks` hold that fail with
    `locked`, the release of `package` in its lock. `works` is the newest that repairs, `fails` the
    nearest that does not."""

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
    """A check as far as a verdict on it goes (`core.profiles`)."""

    check: str
    kind: str
    family: str | None
    feature: str | None
    format: str | None
    outcome: CheckOutcome


class CellRecord(Struct, frozen=True, kw_only=True, dict=True, omit_defaults=True):
    """One cell on one device class; `outcome`: its verdict for the profile `default`; `level`: how
    far it gets on the ladder of the headline.

    `pins`: version by axis; `cuda`: the major version of torch's; `digests`: SHA-256 of the lock
    and the suite. `by_outcome` (`checks` in the file): checks by outcome; `causes`: fingerprint by
    failed check; `by_reason` (`reasons` in the file): checks by why, where that is no failure; of
    one that works under a condition, how it fails without. `points`: by feature, the worst of the
    checks about each family, with the format where there are such (`mla-moe fp8`), and of each
    check that is about no family. `conditions`: of each check that is `works-with`, the code under
    which it holds; `features` and `formats` as in the whole file, only if this result's differ from
    those. `variables`: what has to be set for
    Transformer Engine to be imported there, left out where that is not known. `te_extension`: the
    torch extension of Transformer Engine that ran, left out of the real one. `unexpected`: failures
    that nothing declares. `reason`: why a cell did not come to its checks. `repair`: the pin with
    which checks hold that fail with the lock's; they are `works-with`, and it is their condition.
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
    points: Mapping[str, Mapping[str, str]]
    by_outcome: ByCheckOutcome = field(name="checks")
    causes: Mapping[str, Fingerprint]
    by_reason: Mapping[str, tuple[str, ...]] = field(name="reasons")
    unexpected: tuple[str, ...]
    conditions: Mapping[str, str] = {}
    features: Mapping[str, tuple[str, ...]] = {}
    formats: Mapping[str, tuple[str, ...]] = {}
    variables: Mapping[str, str] | None = None
    te_extension: Literal["real", "stand-in"] = "real"
    repair: PublishedRepair | None = None

    @cached_property
    def reasons(self) -> Mapping[str, str]:
        """Reason by check, sorted."""
        rows = [(check, text) for text, checks in self.by_reason.items() for check in checks]
        return dict(sorted(rows))

    @cached_property
    def checks(self) -> Mapping[str, str]:
        """Outcome by check, sorted."""
        rows = [(check, word) for word, checks in self.by_outcome.items() for check in checks]
        return dict(sorted(rows))

    @cached_property
    def asked(self) -> tuple[PublishedCheck, ...]:
        """Every check, sorted; but for outcomes that this version does not know."""
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
    def restores(self) -> tuple[str, ...]:
        """The families of which everything about restoring holds. Sorted."""
        outcomes = self.points.get(profiles.RESTORE, {})
        return tuple(sorted(family for family, word in outcomes.items() if word in HOLDS))

    def outcome_for(self, profile: Profile) -> str:
        """The verdict for a profile: that of the checks that it takes."""
        return profiles.outcome(self.asked, profile).value if self.checks else self.outcome

    def outcome_of(self, check: str) -> str:
        """The outcome of one check.

        Raises:
            UsageError: the cell was not asked that; names the nearest.
        """
        if check not in self.checks:
            raise UsageError(f'{self.name} has no check "{check}"{nearest(check, self.checks)}')
        return self.checks[check]


class OverBaseRecord(CellRecord, frozen=True, kw_only=True, dict=True):
    """What ran over packages that were there before: never evidence of a locked cell. `outcome` is
    null where the run was cut short, `stale` says why it does not hold any more."""

    outcome: Outcome | None  # type: ignore[assignment]
    complete: bool
    stale: str | None
    base: Annotated[
        Mapping[str, Any],
        Meta(extra_json_schema={"required": ["cell", "differs", "installed", "unmet", "without"]}),
    ]


class PublishedRule(Struct, frozen=True, kw_only=True):
    """Versions over which a failure was seen: `text` is a specifier, in words. `checks`: those
    whose failures it is about; `others_within`: cells within the bounds in which they neither fail
    so nor work, by what they do."""

    text: str
    bounds: tuple[Bound, ...] = ()
    contradicted_by: tuple[str, ...] = ()
    checks: tuple[str, ...] = ()
    others_within: ByState = {}


class PublishedCause(Struct, frozen=True, kw_only=True, dict=True):
    """A failure over all cells of a device class. `message` is untrusted text of a package under
    test. `bounded_rules` (`rules` in the file) are equally small; `wider_rules` hold no cell that
    works either, but more that fail otherwise or are blocked. `next_cell`: the untested one that
    would tell most."""

    device_class: DeviceClass
    fingerprint: Fingerprint
    type: str
    message: str
    frame: str
    gpu_independent: str | None
    checks: tuple[str, ...]
    cells: tuple[str, ...]
    attributed_to: tuple[str, ...]
    bounded_rules: tuple[PublishedRule, ...] = field(name="rules")
    wider_rules: tuple[PublishedRule, ...] = ()
    next_cell: str | None = None
    suspects: tuple[str, ...] = ()
    """Packages off the axes that it points at: their name is missing, or their frame innermost."""
    undecided: bool = False
    """Whether it is not known that these decide, and no axis."""
    alike: tuple[str, ...] = ()
    """Other packages whose versions alone tell what fails from what works just as well."""
    frames: tuple[str, ...] = ()
    """Of its traceback, the innermost first: the end of the module's name, and the function."""
    files: tuple[str, ...] = ()
    """Of its tracebacks, and of the names that it is about, as paths below `site-packages`: where
    they are the same in another release, it is inferred to fail there, too."""
    declared: tuple[DeclaredReason, ...] = ()
    """Why it happens, where that is known."""

    @property
    def rules(self) -> tuple[str, ...]:
        """The rules as specifiers, in words."""
        return tuple(rule.text for rule in self.bounded_rules)

    @cached_property
    def rivals(self) -> tuple[tuple[str, ...], ...]:
        """The texts of rules about the same checks together: they cannot be told apart."""
        texts: dict[tuple[str, ...], list[str]] = {}
        for rule in self.bounded_rules:
            texts.setdefault(rule.checks, []).append(rule.text)
        return tuple(map(tuple, texts.values()))


@dataclass(frozen=True, kw_only=True)
class PublishedInterval(Interval):
    """A run of releases in which a check works, in the words of MDN's browser-compat-data."""

    device_class: DeviceClass


class PublishedChange(Struct, frozen=True, kw_only=True):
    """What changed in an interface that callers use, from one tested release to the next."""

    package: str
    subject: str
    before: str
    after: str
    kind: str
    breaking: bool
    name: str | None = None
    old: str | None = None
    new: str | None = None
    why: str = ""
    minor: bool = False
    not_tested: tuple[str, ...] = ()
    not_recorded: tuple[str, ...] = ()


class Compatibility(Struct, frozen=True, kw_only=True, dict=True):
    """Published compatibility of megatron-core, ModelOpt, Transformer Engine and torch.

    `schema` is the version of this form: a new key raises the minor version; a key that is gone or
    means something else the major one. Readers must ignore keys that they do not know. `axes`: the
    series of the declared matrix, oldest first. `findings`: what is declared beside what was seen.
    `features`: checks by what a person does that they are about, and `formats`: by the format of
    quantization.
    """

    schema: Annotated[str, Meta(pattern=rf"^{MAJOR}\.[0-9]+\.[0-9]+$")]
    made_by: str
    axes: Annotated[
        Mapping[str, tuple[str, ...]], Meta(extra_json_schema={"required": [*AXES[:2]]})
    ]
    cells: tuple[CellRecord, ...]
    causes: tuple[PublishedCause, ...]
    findings: tuple[Finding, ...]
    intervals: tuple[PublishedInterval, ...]
    drift: tuple[PublishedChange, ...]
    over_base: tuple[OverBaseRecord, ...] = ()
    features: Mapping[str, tuple[str, ...]] = {}
    formats: Mapping[str, tuple[str, ...]] = {}

    def __post_init__(self) -> None:
        # A verdict on one cell needs them, and the file has them once for all cells.
        for cell in (*self.cells, *self.over_base):
            if not cell.features:
                force_setattr(cell, "features", self.features)
                force_setattr(cell, "formats", self.formats)

    @cached_property
    def _by_name(self) -> dict[tuple[str, str], CellRecord]:
        return {(cell.name, cell.device_class): cell for cell in self.cells}

    def cell(self, name: str, device_class: str = "host") -> CellRecord:
        """One cell's record.

        Raises:
            UsageError: there is none; names the nearest.
        """
        record = self._by_name.get((name, device_class))
        if record is None:
            names = [cell.name for cell in self.cells if cell.device_class == device_class]
            raise UsageError(f'no evidence of "{name}" on {device_class}{nearest(name, names)}')
        return record

    def cause(self, fingerprint: str, device_class: str = "host") -> PublishedCause:
        """One failure.

        Raises:
            UsageError: there is none of that fingerprint.
        """
        for cause in self.causes:
            if (cause.fingerprint, cause.device_class) == (fingerprint, device_class):
                return cause
        raise UsageError(f'no failure "{fingerprint}" on {device_class}')

    def where(
        self,
        *,
        mcore: str = "",
        modelopt: str = "",
        te: str = "",
        torch: str = "",
        python: str = "",
        outcome: str | None = None,
        device_class: str | None = None,
    ) -> tuple[CellRecord, ...]:
        """The cells within PEP 440 specifiers (`>=2.9,<2.12`), of an outcome, of a device class.

        Raises:
            UsageError: not a specifier.
        """
        from packaging.specifiers import InvalidSpecifier, SpecifierSet

        texts = zip(AXES, (mcore, modelopt, te, torch, python), strict=True)
        try:
            ranges = {axis: SpecifierSet(text) for axis, text in texts if text}
        except InvalidSpecifier as error:
            raise UsageError(f"{error}; write e.g. '>=0.14' or '==0.41.*'") from None
        return tuple(
            cell
            for cell in self.cells
            if all(spec.contains(cell.pins[axis]) for axis, spec in ranges.items())
            and outcome in (None, cell.outcome)
            and device_class in (None, cell.device_class)
        )

    def frame(self) -> pandas.DataFrame:
        """A row for each check of each cell: its versions, the check, kind, family, outcome and
        fingerprint. Needs pandas.

        Raises:
            UsageError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise UsageError("a frame needs pandas; install it: pip install pandas") from None
        rows = [
            {
                "cell": cell.name,
                "device_class": cell.device_class,
                "cell_outcome": cell.outcome,
                **cell.pins,
                "check": check,
                "kind": check.partition("[")[0],
                "family": check.partition("[")[2].removesuffix("]") or None,
                "outcome": outcome,
                "fingerprint": cell.causes.get(check),
            }
            for cell in self.cells
            for check, outcome in cell.checks.items()
        ]
        return pandas.DataFrame(rows)


class _Version(Struct):
    """Looked at first: what has another version is of another form."""

    schema: str


def load(path: Path | str | None = None) -> Compatibility:
    """The published data; without a path, that of the workspace which is meant.

    Raises:
        EvidenceError: not there, not JSON, or of a schema that this version cannot read.
    """
    place = Path(path) if path is not None else workspace.find().published
    try:
        text = data.text_of(place)
        schema: str = data.json_of(text, _Version).schema
        if schema.partition(".")[0] != str(MAJOR):
            raise EvidenceError(f"{place.name} has schema {schema}; this version reads {MAJOR}.x")
        found: Compatibility = data.json_of(text, Compatibility)
        return found
    except FileNotFoundError:
        raise EvidenceError(f"{place.name} is not there; make it: nox -s report") from None
    except DataError as error:
        raise EvidenceError(
            f"{place.name} is not valid ({error}); make it: nox -s report"
        ) from None


def json_schema() -> dict[str, Any]:
    """The JSON Schema of what is published."""
    draft = "https://json-schema.org/draft/2020-12/schema"
    return {"$schema": draft, **msgspec.json.schema(Compatibility)}
