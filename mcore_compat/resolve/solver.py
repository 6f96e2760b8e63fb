"""Decides from cached metadata, in milliseconds, whether a combination can be installed.

It uses `resolvelib`, pip's resolver, with the same input as `resolution` gives uv: the same
requirements, date, python and platform, the same ranges of extras, and the same metadata for
packages without wheels. Locks are still made by uv: this check only rules combinations out.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.tags import Tag, compatible_tags, cpython_tags, parse_tag
from packaging.utils import canonicalize_name
from packaging.version import Version
from resolvelib import AbstractProvider, BaseReporter, ResolutionImpossible, Resolver
from resolvelib.resolvers import ResolutionTooDeep

from mcore_compat.core.cells import Cell
from mcore_compat.core.combinations import machine, violations
from mcore_compat.core.extras import bounds_of_extras
from mcore_compat.core.matrix import Matrix
from mcore_compat.core.releases import Release, Releases
from mcore_compat.index.metadata import MetadataStore
from mcore_compat.resolve import resolution
from mcore_compat.resolve.dates import exclude_newer

MOST_ROUNDS = 3000
"""A resolution takes about 120 rounds; one that takes more than this is left to uv."""

MOST_CAUSES = 4

GLIBC = 35
"""The newest manylinux_2_* that fits `locks.PLATFORM`."""


class Need(NamedTuple):
    """A requirement; `specifier` is text, because it is compared far more often than parsed."""

    name: str
    extras: frozenset[str]
    specifier: str


class Candidate(NamedTuple):
    """A release that may be chosen, with extras."""

    name: str
    extras: frozenset[str]
    version: str


@dataclass(frozen=True, kw_only=True)
class Installability:
    """`installs`: None if this check has no answer; `reason` says why it is not True.

    `unkept`: there is no answer only because a file is not in the cache; querying the index may
    give one.
    """

    installs: bool | None
    reason: str = ""
    unkept: bool = False


@dataclass(frozen=True, kw_only=True)
class World:
    """The settings of a cell's resolver. It ignores files uploaded on `until` or later."""

    python: str
    until: str
    sources: frozenset[str]
    overrides: tuple[tuple[str, tuple[str, ...]], ...]
    bounds: tuple[str, ...]


def verdict(cell: Cell, matrix: Matrix, releases: Releases, store: MetadataStore) -> Installability:
    """Whether a cell can be installed.

    Raises:
        NotKeptError: the store lacks metadata and has no client.
        InfrastructureError: the index did not answer.
    """
    reasons = violations(cell, releases)
    if reasons:
        return Installability(installs=False, reason="; ".join(reasons))
    wanted = [need(text) for text in resolution.requirements(cell, matrix, releases)]
    answer = Installability(installs=None)
    # A lock may give up the extras' ranges, in the worst case all of them.
    bounds_of = bounds_of_extras(cell, releases).values()
    for bounds in (tuple(sorted({text for texts in bounds_of for text in texts})), ()):
        answer = resolved(wanted, _world(cell, matrix, releases, bounds), store)
        if answer.installs:
            break
    return answer


def _world(cell: Cell, matrix: Matrix, releases: Releases, bounds: tuple[str, ...]) -> World:
    return World(
        python=cell.python,
        until=exclude_newer(cell, releases),
        sources=frozenset(rule.package for rule in matrix.source_only),
        overrides=tuple((r.package, r.requires) for r in resolution.overrides(cell, matrix)),
        bounds=bounds,
    )


def resolved(wanted: Sequence[Need], world: World, store: MetadataStore) -> Installability:
    """Whether the requirements can be satisfied together; raises as `verdict`."""
    resolver: Resolver[Need, Candidate, Any] = Resolver(Provider(world, store), BaseReporter())
    try:
        resolver.resolve(wanted, max_rounds=MOST_ROUNDS)
    except ResolutionImpossible as impossible:
        return Installability(installs=False, reason=_reason(impossible.causes))
    except ResolutionTooDeep:
        return Installability(installs=None, reason=f"no answer within {MOST_ROUNDS} rounds")
    return Installability(installs=True)


def _reason(causes: Iterable[Any]) -> str:
    """The contradicting requirements in one line, without those that allow any version."""
    listed = list(causes)
    lines = set()
    for cause in [c for c in listed if c.requirement.specifier] or listed:
        what = f"{cause.requirement.name}{cause.requirement.specifier}"
        by = cause.parent
        lines.add(f"{by.name} {by.version} requires {what}" if by else f"{what} is requested")
    unique = sorted(lines)
    more = f" and {len(unique) - MOST_CAUSES} more" if len(unique) > MOST_CAUSES else ""
    return "; ".join(unique[:MOST_CAUSES]) + more


class Provider(AbstractProvider[Need, Candidate, tuple[str, frozenset[str]]]):
    """The provider of resolvelib for one World."""

    def __init__(self, world: World, store: MetadataStore) -> None:
        self._world = world
        self._store = store
        self._bounds: dict[str, list[str]] = {}
        for text in world.bounds:
            bound = need(text)
            self._bounds.setdefault(bound.name, []).append(bound.specifier)

    def identify(self, requirement_or_candidate: Need | Candidate) -> tuple[str, frozenset[str]]:
        return requirement_or_candidate.name, requirement_or_candidate.extras

    def get_preference(
        self,
        identifier: Any,
        resolutions: Any,
        candidates: Any,
        information: Any,
        backtrack_causes: Any,
    ) -> tuple[bool, str]:
        # Exact pins first: nearly every contradiction involves them.
        exact = any("==" in item.requirement.specifier for item in information[identifier])
        return not exact, identifier[0]

    def narrow_requirement_selection(
        self,
        identifiers: Iterable[Any],
        resolutions: Any,
        candidates: Any,
        information: Any,
        backtrack_causes: Sequence[Any],
    ) -> Iterable[Any]:
        listed = list(identifiers)
        blamed = {self.identify(cause.requirement) for cause in backtrack_causes}
        blamed |= {self.identify(c.parent) for c in backtrack_causes if c.parent}
        return [identifier for identifier in listed if identifier in blamed] or listed

    def find_matches(
        self, identifier: Any, requirements: Mapping[Any, Iterator[Need]], incompatibilities: Any
    ) -> Callable[[], Iterator[Candidate]]:
        name, extras = identifier
        specifiers = {item.specifier for item in requirements[identifier]}
        specifiers.update(self._bounds.get(name, ()))
        bad = {item.version for item in incompatibilities[identifier]}
        # Lazily: nearly always the first one is chosen.
        return lambda: self._matching(name, extras, specifiers - {""}, bad)

    def _matching(
        self, name: str, extras: frozenset[str], specifiers: set[str], bad: set[str]
    ) -> Iterator[Candidate]:
        exact = any(_exact(specifier) for specifier in specifiers)
        later = []
        for listed in self._fitting(name):
            version = listed.version
            if (
                listed.uploaded < self._world.until
                and version not in bad
                and (exact or not listed.yanked)
                and all(_contains(specifier, version) for specifier in specifiers)
            ):
                if _version(version).is_prerelease:
                    later.append(version)
                else:
                    yield Candidate(name, extras, version)
        # As uv does: pre-releases only after all releases.
        yield from (Candidate(name, extras, version) for version in later)

    def _fitting(self, name: str) -> tuple[Release, ...]:
        """The releases of a package that fit the python and platform, newest first."""
        world = self._world
        page = self._store.page(name, world.until)
        key = (name, world.python, name in world.sources)
        fitting = self._store.fitting.get(key)
        if fitting is None or fitting[0] is not page:
            fitting = (page, tuple(_fitting(page, *key[1:])))
            self._store.fitting[key] = fitting
        return fitting[1]

    def is_satisfied_by(self, requirement: Need, candidate: Candidate) -> bool:
        return _contains(requirement.specifier, candidate.version)

    def get_dependencies(self, candidate: Candidate) -> list[Need]:
        texts = dict(self._world.overrides).get(candidate.name)
        if texts is None:
            texts = self._store.requires(candidate.name, candidate.version)
        needs = list(_needs(texts, candidate.extras, self._world.python))
        if candidate.extras:
            # An extra requires the release itself, in the same version.
            needs.append(Need(candidate.name, frozenset(), f"=={candidate.version}"))
        return needs


@functools.cache
def need(text: str) -> Need:
    """A requirement from its text, without its marker."""
    requirement = Requirement(text)
    name = canonicalize_name(requirement.name)
    return Need(name, frozenset(requirement.extras), str(requirement.specifier))


@functools.cache
def _needs(texts: tuple[str, ...], extras: frozenset[str], python: str) -> tuple[Need, ...]:
    """What a release with `extras` requires on the cell's machine."""
    variables = machine(python)
    environments = [{**variables, "extra": extra} for extra in (extras or {""})]
    needs = []
    for text in texts:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue  # an outdated format; uv decides later
        marker = requirement.marker
        if marker is None or any(marker.evaluate(environment) for environment in environments):
            needs.append(need(text))
    return tuple(needs)


def _fitting(page: Iterable[Release], python: str, source: bool) -> Iterator[Release]:
    for listed in page:
        fits = listed.sdist if source else _wheel(listed.wheels, python)
        if fits and _python_fits(listed.requires_python, python):
            yield listed


_version = functools.cache(Version)
_specifier = functools.cache(SpecifierSet)


@functools.cache
def _contains(specifier: str, version: str) -> bool:
    return _specifier(specifier).contains(version, prereleases=True)


@functools.cache
def _exact(specifier: str) -> bool:
    return re.fullmatch(r"={2,3}[^,*]+", specifier) is not None


@functools.cache
def _python_fits(specifier: str, python: str) -> bool:
    try:
        return _specifier(specifier).contains(f"{python}.0")
    except InvalidSpecifier:
        return True  # old releases have invalid ranges; treat them as any version


@functools.cache
def _tags(python: str) -> frozenset[Tag]:
    """The wheel tags that fit a python series on the platform."""
    platforms = [f"manylinux_2_{minor}_x86_64" for minor in range(GLIBC, 4, -1)]
    platforms += ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64"]
    platforms += ["linux_x86_64"]
    major, minor = map(int, python.split("."))
    of_cpython = cpython_tags((major, minor), platforms=platforms)
    of_any = compatible_tags((major, minor), f"cp{major}{minor}", platforms)
    return frozenset((*of_cpython, *of_any))


@functools.cache
def _wheel(wheels: tuple[str, ...], python: str) -> bool:
    """Whether one of a release's wheels fits; tags are compressed as in file names."""
    return any(not _tags(python).isdisjoint(parse_tag(wheel)) for wheel in wheels)
