"""Profiles: the features, families and formats that a user relies on. The verdict on a cell is
given for a profile and follows from the checks that the profile includes. Pure.

A feature is what a person does with a stack. The suite declares the feature, the family (None: all)
and the quantization format of each check.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from mcore_compat.base.errors import UsageError, nearest
from mcore_compat.core.outcomes import (
    CORE_KIND,
    FAILS,
    FEATURES,
    HOLDS,
    CellOutcome,
    CheckOutcome,
)

RESTORE = "restore"
"""The project's central feature: restore a default-spec checkpoint into the ModelOpt spec."""


class Asked(Protocol):
    """The properties of a check that a verdict depends on."""

    @property
    def kind(self) -> str: ...
    @property
    def family(self) -> str | None: ...
    @property
    def feature(self) -> str | None: ...
    @property
    def format(self) -> str | None: ...
    @property
    def outcome(self) -> CheckOutcome: ...


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What a user relies on; empty `families` or `formats`: all that a release has."""

    name: str
    features: tuple[str, ...]
    families: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()

    def takes(self, check: Asked) -> bool:
        """Whether a check counts: the profile has its feature and, if any, its family and format. A
        check without a feature (of an old suite) always counts."""
        return self.includes(point_of(check))

    def includes(self, point: Point) -> bool:
        """Whether the checks of a point count."""
        return (
            (not point.feature or point.feature in self.features)
            and (not self.families or not point.family or point.family in self.families)
            and (not self.formats or not point.format or point.format in self.formats)
        )

    def text(self) -> str:
        """Its name and, unless it is built in, its content."""
        if self.name in BUILT_IN:
            return self.name
        said = [", ".join(self.features)]
        said += [f"families {', '.join(self.families)}"] if self.families else []
        said += [f"formats {', '.join(self.formats)}"] if self.formats else []
        text = "; ".join(said)
        return f"{self.name} ({text})" if self.name else text


DEFAULT = Profile(
    name="default", features=("install", "interface", RESTORE, "quantize", "inference")
)
"""All families and formats that the release has; inference counts if checks ran on a GPU."""

ALL = Profile(name="all", features=FEATURES)

BUILT_IN: Mapping[str, Profile] = {profile.name: profile for profile in (DEFAULT, ALL)}


class Point(NamedTuple):
    """The unit of a verdict: a feature for a family and, if it has formats, a format. A check
    without a family is a separate point, identified by its kind."""

    feature: str
    family: str = ""
    format: str = ""
    kind: str = ""

    @property
    def label(self) -> str:
        """Its name within its feature: `mla-moe fp8`."""
        return " ".join(filter(None, (self.family, self.format))) or self.kind


def feature_of(check: Asked) -> str:
    """The feature of a check; empty if its suite did not declare it and it is not `restore`."""
    return check.feature or (RESTORE if check.kind == CORE_KIND else "")


WORST_FIRST = (
    CheckOutcome.BROKEN,
    CheckOutcome.CRASHED,
    CheckOutcome.TIMED_OUT,
    CheckOutcome.BLOCKED,
    CheckOutcome.WORKS_WITH,
    CheckOutcome.WORKS,
    CheckOutcome.NEEDS_GPU,
    CheckOutcome.UNSUPPORTED,
)


def worst(outcomes: Iterable[CheckOutcome]) -> CheckOutcome:
    """The combined outcome of several checks: the worst. `needs-gpu` and `unsupported` count only
    if there is no other."""
    return min(outcomes, key=WORST_FIRST.index)


def point_of(check: Asked) -> Point:
    """The point that a check belongs to."""
    alone = "" if check.family else check.kind
    return Point(feature_of(check), check.family or "", check.format or "", alone)


Points = Mapping[Point, CheckOutcome]
"""The outcome of each point, in the order of FEATURES."""


def points(checks: Iterable[Asked]) -> Points:
    """The points of some checks, each with the worst of their outcomes."""
    by_point: dict[Point, list[CheckOutcome]] = {}
    for check in checks:
        by_point.setdefault(point_of(check), []).append(check.outcome)
    return {point: worst(by_point[point]) for point in sorted(by_point, key=_place)}


def _place(point: Point) -> tuple[int, Point]:
    known = point.feature in FEATURES
    return FEATURES.index(point.feature) if known else len(FEATURES), point


def held(points: Points) -> tuple[int, int]:
    """How many points hold, and how many hold or fail (without `needs-gpu` and `unsupported`)."""
    ended = [*points.values()]
    return sum(o in HOLDS for o in ended), sum(o in HOLDS or o in FAILS for o in ended)


def of(points: Points, profile: Profile) -> Points:
    """The points of a profile."""
    return {point: outcome for point, outcome in points.items() if profile.includes(point)}


def families(points: Points, profile: Profile) -> frozenset[str]:
    """The families of a profile that the releases have."""
    ended = of(points, profile).items()
    return frozenset(p.family for p, o in ended if p.family and o is not CheckOutcome.UNSUPPORTED)


def failing(points: Points, profile: Profile) -> tuple[Point, ...]:
    """The points of a profile that fail."""
    return tuple(p for p, outcome in points.items() if outcome in FAILS and profile.includes(p))


def counted(points: Points, profile: Profile) -> tuple[str, ...]:
    """How many points hold in each feature of a profile, e.g. `restore 1/2 (gpt)`."""
    asked = of(points, profile)
    said = []
    for feature in dict.fromkeys(point.feature for point in asked):
        mine = {p: o for p, o in asked.items() if p.feature == feature}
        good, every = held(mine)
        if not every:
            continue
        some = sorted({p.family for p, o in mine.items() if p.family and o in HOLDS})
        there = {p.family for p, o in mine.items() if o is not CheckOutcome.UNSUPPORTED}
        told = f" ({', '.join(some)})" if some and {*some, ""} != {*there, ""} else ""
        said.append(f"{feature or 'other'} {good}/{every}{told}")
    return tuple(said)


def outcome(points: Points, profile: Profile = DEFAULT) -> CellOutcome:
    """The verdict on a cell whose suite ran.

    - `incompatible`: no family restores; for a profile without `restore`: no point holds. A check
      that is blocked counts: what it needs is broken.
    - `untested`: nothing of that holds or fails, e.g. because all of it needs a GPU.
    - `compatible`: no point fails; `works-with` is not a failure.
    - `partial`: everything else.
    """
    asked = of(points, profile)
    core = ended = [*asked.values()]
    if RESTORE in profile.features:
        core = [o for point, o in asked.items() if point.feature == RESTORE and point.family]
    if not HOLDS.intersection(core):
        return CellOutcome.INCOMPATIBLE if FAILS.intersection(core) else CellOutcome.UNTESTED
    return CellOutcome.PARTIAL if FAILS.intersection(ended) else CellOutcome.COMPATIBLE


@dataclass(frozen=True, kw_only=True)
class Words:
    """The features, families and formats of the suite's checks."""

    features: tuple[str, ...]
    families: tuple[str, ...]
    formats: tuple[str, ...]

    def refuse_unknown(self, profile: Profile, where: str) -> None:
        """Raise UsageError for a word of a profile that no check has; names the nearest."""
        for what in ("features", "families", "formats"):
            known = getattr(self, what)
            for word in getattr(profile, what):
                if word not in known:
                    raise UsageError(f'{where}: no {_ONE[what]} "{word}"{nearest(word, known)}')


_ONE = {"features": "feature", "families": "family", "formats": "format"}


def named(text: str, declared: Mapping[str, Profile]) -> Profile:
    """The profile of `--for`: the name of one, or a list of features, with quantization formats
    after a colon: `restore,quantize:fp8`.

    Raises:
        UsageError: neither a profile nor a feature; names the nearest.
    """
    known = {**BUILT_IN, **declared}
    if text in known:
        return known[text]
    features: list[str] = []
    formats: list[str] = []
    for word in _listed(text):
        feature, _, of = word.partition(":")
        if feature not in FEATURES:
            choices = [*known, *FEATURES]
            raise UsageError(f'--for: no profile or feature "{feature}"{nearest(feature, choices)}')
        features.append(feature)
        formats += of.split("+") if of else []
    if not features:
        raise UsageError("--for: no feature is named; write e.g. restore,quantize:fp8")
    return Profile(name="", features=_ordered(features), formats=tuple(dict.fromkeys(formats)))


def narrowed(profile: Profile, families: str) -> Profile:
    """A profile restricted to some families: `mla-moe,hybrid-mamba`.

    Raises:
        UsageError: no family is named.
    """
    chosen = tuple(_listed(families))
    if not chosen:
        raise UsageError("--families: no family is named; write e.g. gpt,mla-moe")
    return replace(profile, name="", families=chosen)


def of_tables(tables: Mapping[str, Mapping[str, Sequence[str]]]) -> dict[str, Profile]:
    """The profiles of `[profile.NAME]` tables."""
    return {
        name: Profile(
            name=name,
            features=_ordered(table["features"]),
            families=tuple(table.get("families", ())),
            formats=tuple(table.get("formats", ())),
        )
        for name, table in tables.items()
    }


def _listed(text: str) -> Iterator[str]:
    yield from dict.fromkeys(filter(None, map(str.strip, text.split(","))))


def _ordered(features: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in FEATURES if name in features)
