"""Bisection: what is known of a line of cells, what must be run for the answer, how it reads."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from packaging.utils import canonicalize_name

from mcore_compat.analysis import explanation
from mcore_compat.analysis.bisect import halving, package_line, search
from mcore_compat.analysis.bisect import release_line as lines
from mcore_compat.analysis.bisect.halving import CheckState
from mcore_compat.analysis.bisect.package_line import End
from mcore_compat.analysis.bisect.release_line import ReleaseLine
from mcore_compat.analysis.bisect.search import PointState, SearchResult
from mcore_compat.base import files
from mcore_compat.base.errors import InterpreterError, UsageError, nearest
from mcore_compat.core import profiles
from mcore_compat.core.cells import AXES, Cell
from mcore_compat.core.outcomes import FEATURES, CellOutcome
from mcore_compat.core.workspace import Workspace
from mcore_compat.index import package_index
from mcore_compat.publish import issue_drafts
from mcore_compat.publish.rendering import render
from mcore_compat.resolve import locks
from mcore_compat.results import citation, evidence, store, suite_checks, verdict
from mcore_compat.results.citation import Citation
from mcore_compat.results.evidence import Evidence
from mcore_compat.run import machine, pipeline
from mcore_compat.run.context import Context, Options, context
from mcore_compat.schedule import exploration_run, matrix_run, plan, survey


def run(args: argparse.Namespace) -> int:
    """Bisect and print the answer; 0 where it is one release, 1 where it is a range or one of
    several.

    Raises:
        CompatError: bad input, or a failure of the surroundings; what was run is kept.
    """
    here = context(args.te_extension)
    line = line_of(args, here)
    check = asked_for(args.check, here.workspace)
    search.known_check(check, (c.check for e in stored(here.workspace) for c in e.checks))
    known = {**known_of(line, check, here, stale=args.stale), **search.refused(line)}
    if args.dry_run:
        planned = plan_of(line, args.check, known, here)
        _print(planned, args.format)
        return 0
    ask = None if args.no_run else _runner(line, check, here, args.limit)
    result = search.search(line, check, known, ask)
    report = report_of(line, args.check, result, here)
    _print(report, args.format)
    return 0 if result.answer.exact and not result.answer.against else 1


def _print(data: dict[str, Any], form: str) -> None:
    if form == "json":
        print(files.dump_json(data), end="")
        return
    cited = citation.line(citation.of_data(row) for row in data.get("results", ()))
    print(render("bisection.txt", **data, cited=cited), end="")


def asked_for(text: str, workspace: Workspace) -> str:
    """The checks that are meant: of a feature, which may have formats (`quantize:fp8+int4`) behind
    it, all; a check's name or glob is itself.

    Raises:
        UsageError: the feature has no such format; names the nearest.
    """
    feature, _, of = text.partition(":")
    if feature not in FEATURES:
        return text
    profile = profiles.named(text, {})
    suite_checks.words(workspace.suite).refuse_unknown(profile, "--check")
    declared = suite_checks.of(workspace.suite, workspace.suite)
    return ",".join(
        name
        for name, check in declared.items()
        if check.feature == feature and (not of or check.format in profile.formats)
    )


def stored(workspace: Workspace) -> tuple[Evidence, ...]:
    """All stored evidence of this device class."""
    paths = sorted(workspace.results.glob(f"compat-*/main.{machine.device_class()}.json"))
    return tuple(store.load(path, whole=False) for path in paths)


def line_of(args: argparse.Namespace, here: Context) -> ReleaseLine:
    """The line between the two cells that were named.

    Raises:
        UsageError: not cells, or not on a line.
    """
    facts = lines.Facts(
        matrix=here.matrix,
        releases=here.releases,
        cell_of=lambda name: pipeline.chosen(name, here),
    )
    good, bad = (facts.cell_of(name) for name in (args.good, args.bad))
    package = canonicalize_name(args.axis or "")
    if args.axis and args.axis not in lines.WORDS and package not in AXES:
        if args.hold:
            raise UsageError(f"--hold: with --axis {package} nothing moves but it")
        ends = _end(good, package, here), _end(bad, package, here)
        releases = package_index.installable(package, package_index.resolvers_client())
        return package_line.between(package, ends, releases, facts, patches=args.patches)
    words = (args.hold or "").split(",")
    hold = [lines.axis_of(word.strip()) for word in words if word.strip()]
    for axis in hold:
        if axis not in lines.STACK:
            raise UsageError(f"--hold: {axis} is no part of a stack ({', '.join(lines.STACK)})")
    return lines.between(
        good,
        bad,
        facts,
        axis=lines.axis_of(args.axis) if args.axis else None,
        hold=hold,
        patches=args.patches,
    )


def _end(cell: Cell, package: str, here: Context) -> End:
    """A cell with the release of a package that its name asks for, or that its lock has.

    Raises:
        UsageError: it has no lock, or no such package; names the nearest.
    """
    asked = dict(pin.split("==") for pin in cell.further if not pin.endswith(".*"))
    if package in asked:
        return End(cell=cell, version=asked[package])
    path = here.workspace.lock(cell.name)
    if not path.exists():
        raise UsageError(f"{cell.name} has no lock to begin with: nox -s lock -- {cell.name}")
    lock = locks.read(path)
    version = lock.version(package)
    if version is None:
        known = (*AXES, *lines.WORDS, *(pin.name for pin in lock.all_pins))
        raise UsageError(f'--axis: {cell.name} has no "{package}"{nearest(package, known)}')
    return End(cell=cell, version=version)


def known_of(line: ReleaseLine, check: str, here: Context, *, stale: bool) -> dict[int, PointState]:
    """What evidence says already, by point; with `stale`, also evidence that does not hold."""
    known = {}
    for place, state in enumerate(survey.survey([point.cell for point in line.points], here)):
        if not state.outcomes or not (state.fresh or stale):
            continue
        path = evidence.path_of(state.cell.name, machine.device_class(), here.workspace.results)
        e = store.load(path, whole=False)
        if e.complete and e.outcome is not CellOutcome.ERROR:
            source = f"evidence of {e.taken[:10]}"
            source += "" if state.fresh else f", stale: {state.state}"
            known[place] = search.seen_in(e, check, state.cell, source)
    return known


def _runner(
    line: ReleaseLine, check: str, here: Context, limit: float | None
) -> Callable[[int], PointState]:
    """What runs a point of the line."""

    def run_point(place: int) -> PointState:
        cell = line.points[place].cell
        here.say(f"bisect: {line.axis} {line.points[place].version}: {cell.name}")
        try:
            outcome = pipeline.run_cell(cell.name, Options(limit=limit), here)
        except InterpreterError as error:  # says nothing of the releases, as what cannot be built
            why = str(error)
            return PointState(
                state=CheckState.SILENT, outcome="untested", source="run now", why=why
            )
        seen = search.seen_in(outcome.evidence, check, cell, "run now")
        here.say(f"bisect: {check} is {seen.outcome} there")
        return seen

    return run_point


def plan_of(
    line: ReleaseLine, check: str, known: Mapping[int, PointState], here: Context
) -> dict[str, Any]:
    """What is known, which points may be run, and what that costs at most."""
    search.verify_known(line, check, known)
    ends, may, most = search.most_runs(line, known)
    recorded = matrix_run.recorded_builds()
    plans = {place: plan.make([_priced(line, place, here)]) for place in (*ends, *may)}
    cost = {place: cell_plan.minutes(1, recorded) for place, cell_plan in plans.items()}
    dearest = sorted((cost[place] for place in may), reverse=True)[:most]
    return {
        **_head(line, check, known),
        "ends_to_run": [line.points[place].cell.name for place in ends],
        "may_be_run": [line.points[place].cell.name for place in may],
        "may_be_built": sorted({key for cell_plan in plans.values() for key in cell_plan.builds}),
        "most_runs": len(ends) + most,
        "most_minutes": round(sum(cost[place] for place in ends) + sum(dearest), 1),
    }


def _priced(line: ReleaseLine, place: int, here: Context) -> plan.CellStatus:
    """A point as a cell to run; without a lock, with the one build that it is sure to need."""
    (state,) = survey.survey([line.points[place].cell], here)
    key = exploration_run.te_key(state.cell)
    if key not in survey.build_records() and not here.workspace.lock(state.cell.name).exists():
        return replace(state, missing=(key,))
    return state


def report_of(line: ReleaseLine, check: str, result: SearchResult, here: Context) -> dict[str, Any]:
    """The answer with all that it rests on, as plain data."""
    last, first = result.answer.last, result.answer.first
    bad = search.first_bad(line, result)
    words = halving.lines(
        result.answer,
        search.versions(line),
        check,
        axis=line.axis,
        fixed=line.fixed,
        unrun=result.unrun,
    )
    return {
        **_head(line, check, result.seen),
        "exact": result.answer.exact,
        "last": line.points[last].version,
        "first": line.points[first].version,
        "against": [line.points[place].version for place in result.answer.against],
        "changes": search.changes(line, result),
        "moves_too": lines.stacks(line, last, first),
        "not_looked_at": lines.skipped(line, last, first),
        "ran": result.ran,
        "answer": words,
        "results": [c.data() for c in _citations(line, result, here)],
        "failure": _failure(result.seen[bad], here),
    }


def _citations(line: ReleaseLine, result: SearchResult, here: Context) -> list[Citation]:
    """The results that the answer is from, those of its two ends first."""
    first = (result.answer.last, result.answer.first)
    cited = []
    for place in dict.fromkeys((*first, *sorted(result.seen))):
        cell, device = line.points[place].cell.name, machine.device_class()
        path = evidence.path_of(cell, device, here.workspace.results)
        if place in result.seen and path.exists():
            cited.append(citation.of_result(store.load(path, whole=False), here.workspace.results))
    return cited


def _head(line: ReleaseLine, check: str, seen: Mapping[int, PointState]) -> dict[str, Any]:
    """What is asked, and what is known of every point of the line."""
    nothing = PointState(state=CheckState.SILENT, outcome="not asked", source="")
    states = [seen.get(place, nothing) for place in range(len(line.points))]
    good, bad = (line.points[place].cell.name for place in line.ends)
    return {
        "check": check,
        "axis": line.axis,
        "good": good,
        "bad": bad,
        "held": dict(line.held),
        "moving": line.moving,
        "notes": line.notes,
        "points": [
            {"version": point.version, "cell": point.cell.name}
            | {"outcome": state.outcome, "source": state.source, "why": state.why}
            for point, state in zip(line.points, states, strict=True)
        ],
    }


def _failure(seen: PointState, here: Context) -> dict[str, Any] | None:
    """Why the bad one of the two fails, what declares it, and over which versions it was seen."""
    if seen.failed is None:
        return None
    check, e = seen.failed
    rule = verdict.rule_for(e, check.check, here.matrix.expected)
    head: dict[str, Any] = {
        "cell": e.cell,
        "check": check.check,
        "declared": f"{rule.reason} ({rule.owner}, {rule.upstream})" if rule else None,
    }
    if check.failure is None:
        return {**head, "type": check.outcome.value, "message": check.reason or ""}
    key = check.failure.fingerprint
    others = {other.cell: other for other in stored(here.workspace)} | {e.cell: e}
    texts = sorted((here.workspace.reports / issue_drafts.FOLDER).glob(f"*-{key}.md"))
    return {
        **head,
        "type": check.failure.type,
        "message": verdict.gist(check.failure.message),
        "frame": check.failure.frame,
        "fingerprint": key,
        "gpu_independent": check.failure.gpu_independent,
        "rules": explanation.lines(explanation.of_failure(others.values(), key)),
        "text_for_upstream": files.shown(texts[0]) if texts else None,
    }
