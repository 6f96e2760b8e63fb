"""Stage results → collated: what report, data and site have in common, computed once. Pure."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from packaging.version import Version

from mcore_compat.analysis import declarations, explanation, intervals
from mcore_compat.analysis.cell_record import CellRecord
from mcore_compat.analysis.declarations import Finding
from mcore_compat.analysis.explanation import Explained
from mcore_compat.analysis.install_line import InstallFacts
from mcore_compat.analysis.interfaces import changes as drift
from mcore_compat.analysis.interfaces.changes import InterfaceChange as Change
from mcore_compat.analysis.intervals import Interval
from mcore_compat.analysis.next_cell import UntestedCells as Untested
from mcore_compat.core.cells import Cell, has_further
from mcore_compat.core.matrix import Matrix, Pairs
from mcore_compat.core.outcomes import FAILS, HOLDS, CheckOutcome
from mcore_compat.core.releases import Releases
from mcore_compat.publish import cell_records, constraints_files
from mcore_compat.publish.constraints_files import TestedEnvironment
from mcore_compat.publish.over_base import OverBase
from mcore_compat.results import verdict
from mcore_compat.results.repairs import Repair, applied
from mcore_compat.results.result import CheckEndings, Result
from mcore_compat.results.verdict import Cause

INTERVAL_AXES = ("megatron-core", "nvidia-modelopt", "transformer-engine", "torch")


def order(e: Result) -> tuple[Version, Version, str, str]:
    """To sort results by their releases, then by cell and device class."""
    mcore, modelopt = Version(e.pins["megatron-core"]), Version(e.pins["nvidia-modelopt"])
    return mcore, modelopt, e.cell, e.device_class


@dataclass(frozen=True, kw_only=True)
class SeenCause:
    """A cause of failures and all cells in which it occurs.

    - `members`: each result with the cause as seen in it.
    - `explained`: by device class, the versions in which it occurs.
    - `declared`: the matrix's rules for its failures; `undeclared`: the number of cells with a
      failure that has no rule.
    """

    cause: Cause
    checks: tuple[str, ...]
    members: Sequence[tuple[Result, Cause]]
    explained: Mapping[str, Explained]
    declared: tuple[Pairs, ...]
    undeclared: int

    @property
    def kinds(self) -> list[str]:
        """The kinds of the checks that it breaks. Sorted."""
        return sorted({check.partition("[")[0] for check in self.checks})


@dataclass(frozen=True, eq=False)
class Collated:
    """All results, in the order of their files, and what follows from them. Each property is
    computed on first use and kept. `cells`: those of the matrix; `over`: results over a base, which
    are shown but count in no verdict."""

    found: tuple[Result, ...]
    cells: tuple[Cell, ...]
    matrix: Matrix
    releases: Releases
    over: tuple[OverBase, ...] = ()
    repairs: Mapping[tuple[str, str], Repair] = field(default_factory=dict)
    """By cell and device class; they are already applied to `found`."""

    @cached_property
    def ordered(self) -> tuple[Result, ...]:
        """All results, sorted by releases."""
        return tuple(sorted(self.found, key=order))

    @cached_property
    def records(self) -> tuple[CellRecord, ...]:
        """Those of `ordered` as cells of the published data."""
        return tuple(
            cell_records.record(e, self.matrix, self.repairs.get((e.cell, e.device_class)))
            for e in self.ordered
        )

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The device classes that have results. Sorted."""
        return tuple(sorted({e.device_class for e in self.found}))

    @cached_property
    def by_class(self) -> Mapping[str, tuple[Result, ...]]:
        return {
            name: tuple(e for e in self.found if e.device_class == name) for name in self.classes
        }

    @cached_property
    def causes(self) -> Mapping[tuple[str, str], tuple[Cause, ...]]:
        """By cell and device class: the causes of its failures."""
        return {(e.cell, e.device_class): causes_of(e.endings) for e in self.found}

    @cached_property
    def by_cause(self) -> Mapping[str, tuple[tuple[Result, Cause], ...]]:
        """By fingerprint: the results in which a cause occurs, of all device classes."""
        groups: dict[str, list[tuple[Result, Cause]]] = {}
        for e in self.found:
            for cause in self.causes[e.cell, e.device_class]:
                groups.setdefault(cause.fingerprint, []).append((e, cause))
        return {fingerprint: tuple(groups[fingerprint]) for fingerprint in sorted(groups)}

    @cached_property
    def explained(self) -> Mapping[str, tuple[Explained, ...]]:
        """By device class: every failure, and the versions in which it occurs."""
        return {
            name: explanation.explain(found, self._untested(name))
            for name, found in self.by_class.items()
        }

    def explained_one(self, device_class: str, fingerprint: str) -> Explained:
        """One of `explained`, without computing the others.

        Raises:
            KeyError: the failure does not occur.
        """
        found = self.by_class[device_class]
        return explanation.of_failure(found, fingerprint, self._untested(device_class))

    def _untested(self, device_class: str) -> Untested:
        return Untested(self.by_class[device_class], self.matrix, self.releases)

    @cached_property
    def failures(self) -> tuple[SeenCause, ...]:
        """Every cause over all device classes, those in most cells first."""
        explained = {
            (name, failure.fingerprint): failure
            for name in self.classes
            for failure in self.explained[name]
        }
        causes = []
        for fingerprint, members in self.by_cause.items():
            rules = [
                [verdict.rule_for(e, check, self.matrix.expected) for check in cause.checks]
                for e, cause in members
            ]
            causes.append(
                SeenCause(
                    cause=members[0][1],
                    checks=tuple(sorted({c for _, cause in members for c in cause.checks})),
                    members=members,
                    explained={
                        name: explained[name, fingerprint]
                        for name in self.classes
                        if (name, fingerprint) in explained
                    },
                    declared=tuple(dict.fromkeys(filter(None, itertools.chain(*rules)))),
                    undeclared=sum(None in of_cell for of_cell in rules),
                )
            )
        return tuple(sorted(causes, key=lambda c: (-len(c.members), c.cause.fingerprint)))

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """Declared requirements compared with the results of the device class that has most."""
        most = max(self.classes, key=lambda name: len(self.by_class[name]), default="")
        if not most:
            return ()
        return declarations.findings(self.by_class[most], self.explained[most], self.releases)

    @cached_property
    def environments(self) -> Mapping[str, TestedEnvironment]:
        """By cell: its environment, if it can be recommended."""
        facts = InstallFacts(matrix=self.matrix, releases=self.releases)
        return constraints_files.environments(self.found, facts, self.repairs)

    @cached_property
    def constraints(self) -> Mapping[str, str]:
        """By cell: the text of its constraints file, for each of `environments`."""
        return constraints_files.texts(self.environments)

    @cached_property
    def drift(self) -> tuple[Change, ...]:
        """What changed between releases in the public interfaces."""
        return drift.changes(self.found, self.releases)

    @cached_property
    def intervals(self) -> Mapping[tuple[str, str], tuple[Interval, ...]]:
        """By device class and axis: the first and the last release in which each check works."""
        return {
            (name, axis): intervals.every(
                [e for e in self.by_class[name] if not has_further(e.cell)],
                axis,
                [r.version for r in self.releases.of(axis)],
            )
            for name in self.classes
            for axis in INTERVAL_AXES
        }


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How many checks of a cell have which outcome. `conditional`: those in `works` that need a
    condition."""

    works: int
    conditional: int
    fails: int
    needs_gpu: int
    unsupported: int


def counts(e: Result) -> Counts:
    """The counts of a result. `fails` includes blocked checks."""
    return _counts(e.endings)


@functools.cache
def _counts(endings: CheckEndings) -> Counts:
    outcomes = [c.outcome for c in endings.checks]
    return Counts(
        works=sum(outcome in HOLDS for outcome in outcomes),
        conditional=outcomes.count(CheckOutcome.WORKS_WITH),
        fails=sum(outcome in FAILS for outcome in outcomes),
        needs_gpu=verdict.needing_gpu(endings.checks),
        unsupported=outcomes.count(CheckOutcome.UNSUPPORTED),
    )


@functools.cache
def causes_of(endings: CheckEndings) -> tuple[Cause, ...]:
    """The causes of the failures of a cell; computed once for all that ended alike."""
    return verdict.causes(endings.checks)


def collate(
    results: Iterable[Result],
    cells: Sequence[Cell],
    matrix: Matrix,
    releases: Releases | None = None,
    over: Iterable[OverBase] = (),
    repairs: Mapping[tuple[str, str], Repair] | None = None,
) -> Collated:
    """Combine results with the matrix. `releases`: needed to name untested releases; `repairs`: by
    cell and device class, applied to the results here."""
    repairs = repairs or {}
    results = [applied(e, repairs.get((e.cell, e.device_class))) for e in results]
    by_path = tuple(sorted(results, key=lambda e: (e.cell, e.device_class)))
    there = tuple(sorted(over, key=lambda o: (o.result.cell, o.result.device_class)))
    return Collated(by_path, tuple(cells), matrix, releases or Releases({}), there, repairs)
