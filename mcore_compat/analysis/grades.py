"""Grades: how sure it is that a known failure happens with releases that were not run together.
Pure.

- *tested*: a run showed it.
- *inferred*: every source file in its traceback, and of the names in its message, is the same, byte
  for byte, as in a cell in which it happens; and the check works in no cell with these files.
- *likely*: the releases are among those with which it happens, or beyond them without a tested
  release that works.

Nothing is claimed of other files between a release that fails and one that works.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from functools import cached_property

from mcore_compat.analysis import concerned_files
from mcore_compat.analysis.cell_record import CellRecord
from mcore_compat.analysis.cell_sets import CellSets, Mask
from mcore_compat.analysis.published import Compatibility, PublishedCause, PublishedRule
from mcore_compat.core import source_digests
from mcore_compat.core.cells import AXES, parsed
from mcore_compat.core.source_digests import SHORT, SourceDigests

Pins = Mapping[str, str]
"""Version by axis, and by other packages as far as known."""

PACKAGES = AXES[:4]


class Grade(StrEnum):
    """How sure it is that a failure happens with some releases, the surest first."""

    TESTED = "tested"
    INFERRED = "inferred"
    LIKELY = "likely"


@dataclass(frozen=True, kw_only=True)
class Graded:
    """A cause that happens with some releases, and how sure that is. `checks`: the checks that
    fail, each with the nearest cell in which it does; `why`: the reason for the grade."""

    cause: PublishedCause
    grade: Grade
    checks: Mapping[str, CellRecord]
    why: str


class Grades:
    """Grades of all published causes; `digests`: of the packages' source files."""

    def __init__(
        self,
        known: Compatibility,
        digests: SourceDigests,
        other_builds: Collection[str] = (),
    ) -> None:
        """`other_builds`: packages that are installed as somebody's own build of a release, whose
        files may differ."""
        self.known = known
        sets = {
            name: CellSets([c for c in known.cells if c.checks and c.device_class == name])
            for name in {cause.device_class for cause in known.causes}
        }
        within = {name: functools.cache(functools.partial(_within, sets[name])) for name in sets}
        self._causes = {
            (cause.fingerprint, cause.device_class): _GradedCause(
                cause, sets[cause.device_class], within[cause.device_class], digests, other_builds
            )
            for cause in known.causes
        }

    def of(self, pins: Pins) -> tuple[Graded, ...]:
        """Return every known failure that happens with some releases, for each grade."""
        return tuple(graded for cause in self._causes.values() for graded in cause.graded(pins))

    def of_cause(self, cause: PublishedCause, pins: Pins) -> tuple[Graded, ...]:
        """Return one failure with some releases, at most once for each grade, surest first; empty
        if it does not happen or nothing is known."""
        return self._causes[cause.fingerprint, cause.device_class].graded(pins)

    def files_of(self, cause: PublishedCause, package: str) -> Sequence[str]:
        """Return the files of a package that a failure is about."""
        return self._causes[cause.fingerprint, cause.device_class].files.get(package, ())


class _GradedCause:
    """One cause, with the digests and cells that its grades depend on."""

    def __init__(
        self,
        cause: PublishedCause,
        sets: CellSets,
        within: Callable[[_Span, Place], Mask],
        digests: SourceDigests,
        other_builds: Collection[str],
    ) -> None:
        self._within = within
        self.cause, self._digests, self._other_builds = cause, digests, other_builds
        self._sets, self._with_cause = sets, sets.with_cause.get(cause.fingerprint, {})
        self._seen: dict[tuple[str, str], tuple[str, ...] | None] = {}
        self._keys: dict[tuple[str, ...], dict[object, Mask]] = {}
        self._run: dict[str, tuple[set[str], set[str]]] = {}
        """By package: the releases with which the cause happens, and those with which a check
        works."""
        called = concerned_files.called(cause.message)
        # torch's interface is not indexed: the function may be in any of its files.
        self._in_torch = any(name not in digests.names for name in called)
        self.files = {} if cause.frame.startswith("suite.") else self._by_package(called)
        """By package; empty if a comparison in a check failed, and no package raised an error."""

    def _by_package(self, called: Iterable[str]) -> Mapping[str, tuple[str, ...]]:
        """Return the files that the cause is about, by package."""
        names = self._digests.names
        paths = {*self.cause.files, *(path for name in called for path in names.get(name, ()))}
        found: dict[str, tuple[str, ...]] = {}
        for path in sorted(paths):
            package = source_digests.package_of(path)
            if package and not (package == "torch" and self._in_torch):
                found[package] = (*found.get(package, ()), path)
        return found

    @cached_property
    def _by_rules(self) -> list[tuple[list[PublishedRule], list[str]]]:
        """The checks, grouped by the rules that they share."""
        bounded = self.cause.bounded_rules
        by_place: dict[tuple[int, ...], list[str]] = {}
        for check in self.cause.checks:
            places = tuple(place for place, rule in enumerate(bounded) if check in rule.checks)
            by_place.setdefault(places, []).append(check)
        return [([bounded[at] for at in places], by_place[places]) for places in by_place]

    def _digests_of(self, package: str, version: str) -> tuple[str, ...] | None:
        """Return digests of a package's files in a release; None if one of them is not known."""
        at = package, version
        if at not in self._seen:
            read = [self._digests.of(package, version, path) for path in self.files[package]]
            whole = tuple(digest for digest in read if digest is not None)
            self._seen[at] = whole if len(whole) == len(read) else None
        return self._seen[at]

    def _key(self, pins: Pins, deciding: Iterable[str]) -> tuple[object, ...] | None:
        """Return a key that is equal for combinations of the same files: for each package the
        digests of its files, or its version if the cause names none of its files. None: unknown."""
        key: list[object] = []
        for package in deciding:
            version = pins.get(package)
            if version is None:
                return None
            part = self._digests_of(package, version) if package in self.files else version
            if part is None:
                return None
            key.append(part)
        return tuple(key)

    def graded(self, pins: Pins) -> tuple[Graded, ...]:
        """Return the cause by grade for some releases."""
        same = self._sets.at(pins)
        nearest = functools.cache(functools.partial(self._sets.nearest, pins=pins))
        found: dict[Grade, dict[str, CellRecord]] = {}
        for rules, checks in self._by_rules:
            here = _Ground(
                sets=self._sets,
                nearest=nearest,
                same=same,
                alike=self._alike(pins, rules),
                reaches=functools.cache(functools.partial(self._reaches, pins, rules)),
            )
            for check in checks:
                if known := here.grade(check, self.cause.fingerprint):
                    found.setdefault(known[0], {})[check] = known[1]
        return tuple(
            Graded(
                cause=self.cause,
                grade=grade,
                checks=found[grade],
                why=self._why(grade, pins, next(iter(found[grade].values()))),
            )
            for grade in Grade
            if grade in found
        )

    def _alike(self, pins: Pins, rules: Iterable[PublishedRule]) -> Mask:
        """Return the cells with the same files; none if a comparison in a check failed and no
        package raised an error, or if the files of these releases are not known."""
        if not self.files or {*self.files} & {*self._other_builds}:
            return 0
        axes = {bound.axis for rule in rules for bound in rule.bounds} or {*AXES}
        deciding = tuple(sorted({*axes, *self.files, *(["torch"] if self._in_torch else [])}))
        key = self._key(pins, deciding)
        if key is None:
            return 0
        if deciding not in self._keys:
            self._keys[deciding] = self._sets.grouped(lambda cell: self._key(cell.pins, deciding))
        return self._keys[deciding].get(key, 0)

    def _standing(self, pins: Pins) -> Pins:
        """Replace each release by one with the same files with which the cause happens, unless the
        checks work with another release that has the same files."""
        taken = dict(pins)
        if not self._run:
            fail = _union(self._with_cause.values())
            work = _union(self._sets.working.get(check, 0) for check in self.cause.checks)
            for package in self.files:
                self._run[package] = (
                    self._sets.versions(package, fail),
                    self._sets.versions(package, work),
                )
        for package in {*self.files} - {*self._other_builds}:
            mine = self._digests_of(package, pins[package]) if package in pins else None
            fails, works = self._run[package]
            alike = [v for v in fails | works if mine and self._digests_of(package, v) == mine]
            if alike and fails.issuperset(alike):
                taken[package] = max(alike, key=parsed)
        return taken

    def _reaches(self, pins: Pins, rules: Iterable[PublishedRule]) -> Sequence[_Reach] | None:
        """Return the tested cells around each rule, as seen from some releases; None if a rule does
        not apply to them."""
        standing = self._standing(pins)
        reaches = []
        for rule in rules:
            spans = [_Span.of(b.axis, b.low, b.high, standing) for b in rule.bounds]
            known = [span for span in spans if span is not None]
            if not known or len(known) < len(spans):
                return None
            within, between, open_ = (
                _common(self._within(span, place) for span in known)
                for place in (Place.WITHIN, Place.BETWEEN, Place.BEYOND)
            )
            reaches.append(_Reach(open=open_, outside=between & ~within))
        return reaches or None

    def _why(self, grade: Grade, pins: Pins, near: CellRecord) -> str:
        if grade is Grade.TESTED:
            return f"run on {near.taken[:10]}"
        if grade is Grade.LIKELY:
            return f"known with {self.cause.rules[0]}, and no result shows a fix"
        every = [
            (path, self._digests.of(package, pins[package], path))
            for package, paths in self.files.items()
            for path in paths
        ]
        digests = {path: digest for path, digest in every if digest}
        count = f"{len(digests)} source files" if len(digests) > 1 else next(iter(digests), "")
        moved = [
            f"{package} {near.pins[package]}"
            for package in self.files
            if near.pins[package] != pins[package]
        ]
        verb = "are" if len(digests) > 1 else "is"
        where = " and ".join(moved) or near.name
        digest = source_digests.together(digests)[:SHORT]
        return f"{count} {verb} the same, byte for byte, as in {where} (sha256 {digest})"


@dataclass(frozen=True, kw_only=True)
class _Reach:
    """Tested cells around a rule. `open`: within the rule, between it and the releases in question,
    and beyond these; `outside`: only between the rule and the releases."""

    open: Mask
    outside: Mask


@dataclass(frozen=True, kw_only=True)
class _Ground:
    """What the grade of a check with some releases depends on: the cells of exactly these releases,
    the cells with the same files, the cells around each rule, and all cells; `nearest`: the nearest
    of some."""

    sets: CellSets
    nearest: Callable[[Mask], CellRecord | None]
    same: Mask
    alike: Mask
    reaches: Callable[[], Sequence[_Reach] | None]

    def grade(self, check: str, fingerprint: str) -> tuple[Grade, CellRecord] | None:
        """Return the grade with the nearest cell in which the check fails; None if unknown."""
        fails = self.sets.with_cause.get(fingerprint, {}).get(check, 0)
        if asked := self.same & self.sets.running.get(check, 0):
            return self._graded(Grade.TESTED, asked & fails)
        over = self.sets.working.get(check, 0) | self.sets.unsupported.get(check, 0)
        if self.alike & fails and not self.alike & over:
            return self._graded(Grade.INFERRED, self.alike & fails)
        failing = self.sets.failing.get(check, 0)
        reaches = self.reaches() if failing & fails else None
        if reaches is None:
            return None
        for reach in reaches:
            if reach.open & self.sets.working.get(check, 0):
                return None
            # The check ran there and did not fail with the cause (it may be blocked): not open.
            if reach.outside & self.sets.running.get(check, 0) & ~fails:
                return None
        near = self.nearest(failing)
        return (Grade.LIKELY, near) if near and near.causes[check] == fingerprint else None

    def _graded(self, grade: Grade, cells: Mask) -> tuple[Grade, CellRecord] | None:
        near = self.nearest(cells)
        return (grade, near) if near else None


def _union(masks: Iterable[Mask]) -> Mask:
    return functools.reduce(operator.or_, masks, 0)


def _common(masks: Iterable[Mask]) -> Mask:
    return functools.reduce(operator.and_, masks)


class Place(IntEnum):
    """The place of a version relative to a rule's interval and another version: within the
    interval, between the two, beyond both on the same side, or elsewhere."""

    WITHIN = 0
    BETWEEN = 1
    BEYOND = 2
    OUTSIDE = 3


@functools.cache
def place(version: str, low: str, high: str, at: str) -> Place:
    """Return the place of a version; `at` is the other one."""
    there, other = parsed(version), parsed(at)
    if parsed(low) <= there <= parsed(high):
        return Place.WITHIN
    if there < parsed(low):
        between, same_side = other <= there, other < parsed(low)
    else:
        between, same_side = there <= other, other > parsed(high)
    if between:
        return Place.BETWEEN
    return Place.BEYOND if same_side else Place.OUTSIDE


@dataclass(frozen=True, kw_only=True)
class _Span:
    """The interval of a rule on one axis, and the version in question."""

    axis: str
    low: str
    high: str
    version: str

    @classmethod
    def of(cls, axis: str, low: str, high: str, pins: Pins) -> _Span | None:
        """Return None if the version is unknown, or if the axis is not one of PACKAGES and the
        version is outside of the interval: nobody knows whether it decides."""
        version = pins.get(axis)
        span = cls(axis=axis, low=low, high=high, version=version) if version else None
        return (
            span if span and (axis in PACKAGES or span.up_to(Place.WITHIN)(span.version)) else None
        )

    def up_to(self, farthest: Place) -> Callable[[str], bool]:
        """Return whether another version of the axis is at most that far away."""
        return lambda other: place(other, self.low, self.high, self.version) <= farthest


def _within(sets: CellSets, span: _Span, place: Place) -> Mask:
    """Return the cells at most that far away from an interval, as seen from a version."""
    return sets.where(span.axis, span.up_to(place))
