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
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from functools import cached_property

from mcore_compat.analysis import concerned_files
from mcore_compat.analysis.cell_record import CellRecord
from mcore_compat.analysis.nearest_cell import distance
from mcore_compat.analysis.published import Compatibility, PublishedCause, PublishedRule
from mcore_compat.core import source_digests
from mcore_compat.core.cells import AXES, parsed
from mcore_compat.core.outcomes import HOLDS, CheckOutcome
from mcore_compat.core.source_digests import SHORT, SourceDigests

Pins = Mapping[str, str]
"""Version by axis, and by other packages as far as known."""

Cells = Sequence[CellRecord]

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
        self._causes = {
            (cause.fingerprint, cause.device_class): _GradedCause(cause, digests, other_builds)
            for cause in known.causes
        }

    def of(self, pins: Pins) -> tuple[Graded, ...]:
        """Return every known failure that happens with some releases, for each grade."""
        cells = self._by_distance(pins)
        return tuple(
            graded for cause in self._causes.values() for graded in cause.graded(pins, cells)
        )

    def of_cause(self, cause: PublishedCause, pins: Pins) -> tuple[Graded, ...]:
        """Return one failure with some releases, at most once for each grade, surest first; empty
        if it does not happen or nothing is known."""
        one = self._causes[cause.fingerprint, cause.device_class]
        return one.graded(pins, self._by_distance(pins))

    def files_of(self, cause: PublishedCause, package: str) -> Sequence[str]:
        """Return the files of a package that a failure is about."""
        return self._causes[cause.fingerprint, cause.device_class].files.get(package, ())

    def _by_distance(self, pins: Pins) -> Cells:
        """Return the tested cells, nearest first."""
        tested = (cell for cell in self.known.cells if cell.checks)
        return sorted(tested, key=lambda cell: distance(pins, cell))


class _GradedCause:
    """One cause, with the digests and cells that its grades depend on."""

    def __init__(
        self, cause: PublishedCause, digests: SourceDigests, other_builds: Collection[str]
    ) -> None:
        self.cause, self._digests, self._other_builds = cause, digests, other_builds
        self._seen: dict[tuple[str, str], tuple[str, ...] | None] = {}
        self._keys: dict[tuple[str, ...], dict[str, object]] = {}
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

    def graded(self, pins: Pins, cells: Cells) -> tuple[Graded, ...]:
        """Return the cause by grade for some releases. `cells`: nearest first."""
        mine = [cell for cell in cells if cell.device_class == self.cause.device_class]
        found: dict[Grade, dict[str, CellRecord]] = {}
        for rules, checks in self._by_rules:
            here = _Ground(
                same=[cell for cell in mine if all(cell.pins[a] == pins.get(a) for a in AXES)],
                alike=self._alike(pins, mine, rules),
                reaches=functools.cache(functools.partial(self._reaches, pins, mine, rules)),
                cells=mine,
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

    def _alike(self, pins: Pins, cells: Cells, rules: Iterable[PublishedRule]) -> Cells:
        """Return the cells with the same files; none if a comparison in a check failed and no
        package raised an error, or if the files of these releases are not known."""
        if not self.files or {*self.files} & {*self._other_builds}:
            return []
        axes = {bound.axis for rule in rules for bound in rule.bounds} or {*AXES}
        deciding = sorted({*axes, *self.files, *(["torch"] if self._in_torch else [])})
        key = self._key(pins, deciding)
        if key is None:
            return []
        known = self._keys.get(tuple(deciding))
        if known is None:
            known = {c.name: self._key(c.pins, deciding) for c in cells}
            self._keys[tuple(deciding)] = known
        return [c for c in cells if known[c.name] == key]

    def _standing(self, pins: Pins, cells: Cells) -> Pins:
        """Replace each release by one with the same files with which the cause happens, unless the
        checks work with another release that has the same files."""
        taken = dict(pins)
        if not self._run:
            fail = [c for c in cells if self.cause.fingerprint in c.causes.values()]
            work = [c for c in cells if any(c.checks.get(x) in HOLDS for x in self.cause.checks)]
            for package in self.files:
                self._run[package] = (
                    {c.pins[package] for c in fail},
                    {c.pins[package] for c in work},
                )
        for package in {*self.files} - {*self._other_builds}:
            mine = self._digests_of(package, pins[package]) if package in pins else None
            fails, works = self._run[package]
            alike = [v for v in fails | works if mine and self._digests_of(package, v) == mine]
            if alike and fails.issuperset(alike):
                taken[package] = max(alike, key=parsed)
        return taken

    def _reaches(
        self, pins: Pins, cells: Cells, rules: Iterable[PublishedRule]
    ) -> Sequence[_Reach] | None:
        """Return the tested cells around each rule, as seen from some releases; None if a rule does
        not apply to them."""
        standing = self._standing(pins, cells)
        reaches = []
        for rule in rules:
            spans = [_Span.of(b.axis, b.low, b.high, standing) for b in rule.bounds]
            known = [span for span in spans if span is not None]
            if not known or len(known) < len(spans):
                return None
            places = [max(span.place(cell.pins) for span in known) for cell in cells]
            open_ = [c for c, place in zip(cells, places, strict=True) if place < Place.OUTSIDE]
            outside = [c for c, place in zip(cells, places, strict=True) if place is Place.BETWEEN]
            reaches.append(_Reach(open=open_, outside=outside))
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

    open: Cells
    outside: Cells


@dataclass(frozen=True, kw_only=True)
class _Ground:
    """What the grade of a check depends on: the cells of exactly these releases, the cells with the
    same files, the cells around each rule, and all cells."""

    same: Cells
    alike: Cells
    reaches: Callable[[], Sequence[_Reach] | None]
    cells: Cells

    def grade(self, check: str, fingerprint: str) -> tuple[Grade, CellRecord] | None:
        """Return the grade with the nearest cell in which the check fails; None if unknown."""

        def fails(cell: CellRecord) -> bool:
            return cell.causes.get(check) == fingerprint

        asked = [cell for cell in self.same if check in cell.checks]
        if asked:
            return next(((Grade.TESTED, cell) for cell in asked if fails(cell)), None)
        near = next(filter(fails, self.alike), None)
        if near and not any(cell.checks.get(check) in _OVER for cell in self.alike):
            return Grade.INFERRED, near
        near = next((cell for cell in self.cells if check in cell.causes), None)
        reaches = self.reaches() if near and fails(near) else None
        if near is None or reaches is None:
            return None
        for reach in reaches:
            if any(cell.checks.get(check) in HOLDS for cell in reach.open):
                return None
            # The check ran there and did not fail with the cause (it may be blocked): not open.
            if any(check in cell.checks and not fails(cell) for cell in reach.outside):
                return None
        return Grade.LIKELY, near


_OVER = frozenset({*HOLDS, CheckOutcome.UNSUPPORTED})


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
        return span if span and (axis in PACKAGES or not span.place(pins)) else None

    def place(self, pins: Pins) -> Place:
        """Return the place of another combination's version; an unknown one counts as within."""
        there = pins.get(self.axis)
        return place(there, self.low, self.high, self.version) if there else Place.WITHIN
