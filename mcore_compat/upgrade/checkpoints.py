"""Whether the checkpoints of one cell load in another, directly or through further cells. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from mcore_compat.analysis.bisect.search import matching
from mcore_compat.core.outcomes import FAILS, FAILURES, HOLDS, CheckOutcome
from mcore_compat.core.profiles import Profile
from mcore_compat.exchange.loading import NOT_SAVED
from mcore_compat.exchange.plan import STATE, STATE_KIND, WAYS
from mcore_compat.exchange.transfer_results import answers, gist
from mcore_compat.results.result import CheckResult, Result
from mcore_compat.upgrade.sides import UpgradeInputs

Place = tuple[str, str]
"""A cell and the kind of checkpoint that exists in it."""

INTO: Mapping[str, str] = {"default-to-modelopt": "modelopt"}
"""By way of loading: the kind of the loaded model, if it is not the kind that was saved."""

WITHIN: Mapping[str, Place] = {
    "restore": ("default", "modelopt"),
    "restore-back": ("modelopt", "default"),
}
"""By kind of check: which kind of checkpoint it converts, within one cell, into which other."""

IN_ORIGIN: Mapping[str, str] = {"default-to-modelopt": "restore", STATE: STATE_KIND}
"""By way of loading: the check that tests the same within one cell."""

STATE_FORMAT = STATE_KIND.rpartition("-")[2]
"""The quantization format in which the exchange saves ModelOpt's state."""

BUILD = "build-modelopt"
"""The check that builds the model from which all checkpoints but default-spec ones are saved."""

NOT_TESTED = "not tested"


class Load(Enum):
    """How a checkpoint of FROM loads in TO."""

    WORKS = "works"
    THROUGH = "through others"
    LOST = "does not load"
    OPEN = "does not load, and loading it in FROM was not tested"
    BEFORE = "does not load in FROM either"
    NOT_SAVED = "FROM cannot save it"
    NOT_ASKED = "could not be tested in TO"
    UNTESTED = NOT_TESTED


@dataclass(frozen=True, kw_only=True)
class Route:
    """How one kind of checkpoint of one family loads in TO.

    - `chain`: the places through which it loads, from FROM to TO, both included; empty if it loads
      directly, or no chain is known.
    - `condition`: the public setting without which it does not load in TO, or empty.
    - `as_in_origin`: why needing that condition loses nothing compared with FROM, or empty.
    - `why`: its failure in one line; with a `condition`, the failure without it.
    - `accepted`: the user can do without it.
    - `counts`: users with this profile have such checkpoints.
    """

    family: str
    way: str
    load: Load
    chain: tuple[Place, ...] = ()
    condition: str = ""
    as_in_origin: str = ""
    why: str = ""
    cause: str | None = None
    accepted: bool = False
    counts: bool = True

    @property
    def check(self) -> str:
        return f"restore-from[{self.family}:{self.way}]"

    @property
    def decides(self) -> bool:
        """Whether it matters to the user that it does not load."""
        return self.counts and not self.accepted


LABELS: Mapping[str, str] = {
    "default": "default spec",
    "modelopt": "ModelOpt spec",
    "default-to-modelopt": "default spec into ModelOpt spec",
    STATE: f"quantized {STATE_FORMAT}",
}
"""By way of loading: what is loaded, in a few words."""

ALL_KINDS = f"all {len(LABELS)} kinds"


def about(routes: Iterable[Route]) -> str:
    """Which checkpoints: `default spec, quantized fp8 of gpt; ModelOpt spec of mla-moe`."""
    by_way: dict[str, list[str]] = {}
    for route in routes:
        by_way.setdefault(route.way, []).append(route.family)
    by_families: dict[str, list[str]] = {}
    for way, label in LABELS.items():
        if way in by_way:
            by_families.setdefault(", ".join(sorted(by_way[way])), []).append(label)
    return "; ".join(
        f"{ALL_KINDS if len(labels) == len(LABELS) else ', '.join(labels)} of {families}"
        for families, labels in by_families.items()
    )


@dataclass(frozen=True, kw_only=True)
class Checkpoints:
    """How every checkpoint loads, sorted. `state`: `fresh` (up to date), `not tested`, or why the
    results are out of date; `taken`: when they were taken, or empty."""

    routes: tuple[Route, ...]
    state: str
    taken: str = ""

    def of(self, load: Load) -> tuple[Route, ...]:
        return tuple(r for r in self.routes if r.load is load)


def checkpoints(
    origin: Result, target: str, known: UpgradeInputs, accepted: Sequence[str] = ()
) -> Checkpoints:
    """How the checkpoints of `origin` load in the cell `target`. `accepted`: patterns of those that
    the user can do without, e.g. `restore-from[gpt:quantized]`."""
    there, asked = known.loaded(target), known.answers(origin.cell, target)
    source = there.sources.get(origin.cell) if there else None
    routes = []
    for key in sorted({*_saved(origin), *asked}):
        family, _, way = key.partition(":")
        if key in asked:
            routes.append(_route(origin, target, asked[key], family, way, known))
        elif source is None or way not in source.ways:
            routes.append(Route(family=family, way=way, load=Load.UNTESTED))
        # else the family has no checkpoint of this kind
    return Checkpoints(
        routes=tuple(
            replace(
                r, accepted=named(r.check, accepted), counts=counts(r.family, r.way, known.profile)
            )
            for r in routes
        ),
        state=_state(there, origin.cell, known) if there and source else NOT_TESTED,
        taken=source.taken if source else "",
    )


FEATURES: Mapping[str, frozenset[str]] = {
    "default": frozenset({"restore", "restore-back", "quantize-te"}),
    "modelopt": frozenset({"restore", "restore-back"}),
    "default-to-modelopt": frozenset({"restore"}),
    STATE: frozenset({"quantize"}),
}
"""By way of loading: users of one of these features have such checkpoints."""


def counts(family: str, way: str, profile: Profile) -> bool:
    """Whether users with this profile have such checkpoints. ModelOpt's state is saved in one
    format only."""
    right_format = way != STATE or not profile.formats or STATE_FORMAT in profile.formats
    taken = not profile.families or family in profile.families
    return taken and right_format and bool(FEATURES[way] & {*profile.features})


def _saved(origin: Result) -> Iterator[str]:
    """What FROM can have saved, as `family:way`. It has no checkpoint of a model that it cannot
    build; whether it has a default-spec checkpoint is only known from the exchange."""
    lacks = {c.family for c in origin.checks if c.kind == BUILD and c.outcome in NONE}
    for family in {c.family for c in origin.checks if c.family}:
        for way, kind in WAYS.items():
            if kind == "default" or family not in lacks:
                yield f"{family}:{way}"


def named(check: str, patterns: Iterable[str]) -> bool:
    """Whether one of the patterns matches a check. A pattern is a check's id or a glob, in which
    brackets are literal."""
    return any(matching(pattern, [check]) for pattern in patterns)


def _state(there: Result, origin: str, known: UpgradeInputs) -> str:
    if there.suite != known.checks:
        return "the checks changed"
    return "fresh" if _holds(there, origin, known) else "a lock changed"


def _route(
    origin: Result,
    target: str,
    answer: CheckResult,
    family: str,
    way: str,
    known: UpgradeInputs,
) -> Route:
    """How a checkpoint loads for which there is a result, `answer`."""
    failure = answer.failure
    cause = failure.fingerprint if failure else None
    why = f"{failure.type}: {gist(failure)[:200]}" if failure else answer.outcome.value
    own = _in_origin(origin, family, way, known)
    if answer.outcome in HOLDS:
        route = Route(family=family, way=way, load=Load.WORKS)
        if answer.condition is None:
            return route
        as_ = _taking_nothing(own, answer.condition)
        return replace(route, condition=answer.condition, as_in_origin=as_, why=why, cause=cause)
    asked = answer.outcome in FAILURES
    why = why if asked else answer.reason or answer.outcome.value
    route = Route(family=family, way=way, load=Load.BEFORE, why=why, cause=cause)
    if not asked and why.startswith(NOT_SAVED):
        return replace(route, load=Load.NOT_SAVED)
    if own and own.outcome in NONE:
        return route  # it does not load in FROM either: nothing is lost
    if not asked:
        return replace(route, load=Load.NOT_ASKED)
    start, end = (origin.cell, WAYS[way]), (target, INTO.get(way, WAYS[way]))
    chain = shortest(edges(known, family), start, end)
    lost = Load.LOST if own and own.outcome in HOLDS else Load.OPEN
    return replace(route, load=Load.THROUGH if chain else lost, chain=chain)


NONE = frozenset({*FAILS, CheckOutcome.UNSUPPORTED})
"""Outcomes that show that a release cannot do what a check tests."""


def _taking_nothing(own: CheckResult | None, condition: str) -> str:
    """Why needing a condition in TO loses nothing compared with FROM; empty if it does, or if that
    is not known. `own`: how FROM loads its own checkpoint."""
    if own and own.condition == condition:
        return "as in FROM"
    return "not in FROM either" if own and own.outcome in NONE else ""


def _in_origin(origin: Result, family: str, way: str, known: UpgradeInputs) -> CheckResult | None:
    """How FROM loads its own checkpoint in this way; None if that was not tested."""
    own = known.answers(origin.cell, origin.cell).get(f"{family}:{way}")
    check = f"{IN_ORIGIN.get(way, '')}[{family}]"
    return own or next((c for c in origin.checks if c.check == check), None)


Edges = Mapping[Place, Sequence[tuple[Place, int]]]
"""By place: the places into which its checkpoints load, and whether each is in another cell (1) or
in the same (0)."""


def edges(known: UpgradeInputs, family: str) -> Edges:
    """Every load of a family's checkpoints that works, between two cells or within one. Loads
    between cells count only if their checks and locks are up to date."""
    steps_from: dict[Place, set[tuple[Place, int]]] = {}
    for exchanged in known.loads:
        for origin, by_key in answers(exchanged).items():
            if not _holds(exchanged, origin, known):
                continue
            for way, kind in WAYS.items():
                answer = by_key.get(f"{family}:{way}")
                if answer is not None and answer.outcome in HOLDS:
                    step = (exchanged.cell, INTO.get(way, kind)), int(exchanged.cell != origin)
                    steps_from.setdefault((origin, kind), set()).add(step)
    for e in known.found:
        for c in e.checks:
            if c.family == family and c.kind in WITHIN and c.outcome in HOLDS:
                kind, other = WITHIN[c.kind]
                steps_from.setdefault((e.cell, kind), set()).add(((e.cell, other), 0))
    return {place: sorted(steps) for place, steps in steps_from.items()}


def _holds(exchanged: Result, origin: str, known: UpgradeInputs) -> bool:
    """Whether the results of loading checkpoints of `origin` are up to date, in checks and
    locks."""
    locks = {e.cell: e.lock for e in known.found if e.cell in (exchanged.cell, origin)}
    return (
        exchanged.suite == known.checks
        and exchanged.lock == locks.get(exchanged.cell, exchanged.lock)
        and exchanged.sources[origin].lock == locks.get(origin, exchanged.sources[origin].lock)
    )


def shortest(edges: Edges, start: Place, end: Place) -> tuple[Place, ...]:
    """The path from `start` to `end`, both included, through the fewest cells, then with the fewest
    loads, then the first by name. Empty if there is none."""
    heap: list[tuple[int, int, tuple[Place, ...]]] = [(0, 0, (start,))]
    done: set[Place] = set()
    while heap:
        cells, loads, path = heapq.heappop(heap)
        if path[-1] == end:
            return path
        if path[-1] in done:
            continue
        done.add(path[-1])
        for place, other in edges.get(path[-1], ()):
            if place not in done:
                heapq.heappush(heap, (cells + other, loads + 1, (*path, place)))
    return ()


def exchange_command(origin: str, target: str) -> str:
    """The command that loads the checkpoints of FROM in TO, and in FROM itself, to see what TO
    loses."""
    return f"nox -s exchange -- --from {origin} --to {origin} {target}"
