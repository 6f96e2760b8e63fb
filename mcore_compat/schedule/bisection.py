"""Bisection: known results of a line of cells, the runs that the answer needs, and its report."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mcore_compat.analysis import explanation
from mcore_compat.analysis.bisect import halving, release_line, search, stack_line
from mcore_compat.analysis.bisect.halving import CheckState
from mcore_compat.analysis.bisect.release_line import ReleaseLine
from mcore_compat.analysis.bisect.search import PointState, SearchResult
from mcore_compat.base import files
from mcore_compat.base.errors import InterpreterError
from mcore_compat.core import profiles
from mcore_compat.core.cells import PREFIX
from mcore_compat.core.outcomes import FAILURES, FEATURES, CellOutcome, CheckOutcome
from mcore_compat.core.workspace import Workspace
from mcore_compat.publish import issue_drafts
from mcore_compat.publish.rendering import render
from mcore_compat.results import citation, store, suite_checks, verdict
from mcore_compat.results.citation import Citation
from mcore_compat.results.result import Result, result_path
from mcore_compat.run import machine, pipeline
from mcore_compat.run.context import Context, Options, context
from mcore_compat.schedule import bisection_line, exploration_run, matrix_run, plan, survey


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The question of a bisection. `check`: names or globs of checks; `stale`: results that are out
    of date count; `defaults`: a check that works only under a condition counts as failing; `run`:
    points without a result may run; `limit`: the time limit of a check, in seconds."""

    check: str
    stale: bool = False
    defaults: bool = False
    run: bool = True
    limit: float | None = None


def run(args: argparse.Namespace) -> int:
    """Bisect and print the answer; return 0 if it is one release, 1 if it is a range or there are
    several changes.

    Raises:
        CompatError: bad input, or an infrastructure error; the results of finished runs are kept.
    """
    here = context(args.te_extension)
    line = bisection_line.line_of(args, here)
    check = asked_for(args.check, here.workspace)
    search.known_check(check, (c.check for e in stored(here.workspace) for c in e.checks))
    asked = Asked(
        check=check,
        stale=args.stale,
        defaults=args.defaults,
        run=not args.no_run,
        limit=args.limit,
    )
    known = known_of(line, asked, here)
    if args.dry_run:
        planned = plan_of(line, args.check, known, here)
        _print(planned, args.format)
        return 0
    result = search.search(line, check, known, _runner(line, asked, here))
    report = report_of(line, args.check, result, here)
    _print({**report, "decides": _decision(line, result, asked, here)}, args.format)
    return 0 if result.answer.exact and not result.answer.against else 1


def _print(data: dict[str, Any], form: str) -> None:
    if form == "json":
        print(files.dump_json(data), end="")
        return
    cited = citation.line(citation.of_data(row) for row in data.get("results", ()))
    print(render("bisection.txt", **data, cited=cited), end="")


def asked_for(text: str, workspace: Workspace) -> str:
    """Return the checks that an option names, separated by commas: all of a feature, which may have
    formats after it (`quantize:fp8+int4`); any other text is returned unchanged.

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


def stored(workspace: Workspace) -> tuple[Result, ...]:
    """Return all stored results of this device class."""
    paths = sorted(workspace.results.glob(f"compat-*/main.{machine.device_class()}.json"))
    return tuple(store.load(path, whole=False) for path in paths)


def known_of(line: ReleaseLine, asked: Asked, here: Context) -> dict[int, PointState]:
    """Return the states by point that results or metadata already show."""
    known = {}
    for place, state in enumerate(survey.survey([point.cell for point in line.points], here)):
        if not state.outcomes or not (state.fresh or asked.stale):
            continue
        path = result_path(state.cell.name, machine.device_class(), here.workspace.results)
        e = store.load(path, whole=False)
        if e.complete and e.outcome is not CellOutcome.ERROR:
            source = f"result of {e.taken[:10]}"
            source += "" if state.fresh else f", out of date: {state.state}"
            known[place] = search.seen_in(
                e, asked.check, state.cell, source, defaults=asked.defaults
            )
    return {**known, **search.refused(line)}


def _runner(line: ReleaseLine, asked: Asked, here: Context) -> Callable[[int], PointState] | None:
    """Return the function that runs a point of the line; None if nothing may run."""
    if not asked.run:
        return None

    def run_point(place: int) -> PointState:
        cell = line.points[place].cell
        here.say(f"bisect: {line.axis} {line.points[place].version}: {cell.name}")
        try:
            outcome = pipeline.run_cell(cell.name, Options(limit=asked.limit), here)
        except InterpreterError as error:  # not a result of the releases: no answer here
            why = str(error)
            return PointState(
                state=CheckState.SILENT, outcome="untested", source="run now", why=why
            )
        seen = search.seen_in(outcome.result, asked.check, cell, "run now", defaults=asked.defaults)
        here.say(f"bisect: {asked.check} is {seen.outcome} there")
        return seen

    return run_point


def _decision(
    line: ReleaseLine, result: SearchResult, asked: Asked, here: Context
) -> dict[str, Any] | None:
    """Return which of TE and torch decides, if both change at the found release: from the good cell
    with the bad one's TE, and with its torch. None on other lines, and if the answer is a range."""
    if line.axis != stack_line.AXIS or not result.answer.exact:
        return None
    step = stack_line.neighbours(line, result.answer.last, result.answer.first)
    good, bad = (step.points[place].cell for place in step.ends)
    if not stack_line.is_meant(good, bad):
        return None  # only one of the two changes, and the answer names it
    alone = stack_line.single_moves(step, bisection_line.facts_of(here))
    seen = known_of(alone, asked, here)
    ask = _runner(alone, asked, here)
    not_run = PointState(state=CheckState.SILENT, outcome=search.NOT_RUN, source="")
    for place in range(len(alone.points)):
        if place not in seen:
            seen[place] = ask(place) if ask else not_run
    return {
        "answer": stack_line.decision([seen[0], seen[1]]),
        "points": _points(alone, seen),
    }


def plan_of(
    line: ReleaseLine, check: str, known: Mapping[int, PointState], here: Context
) -> dict[str, Any]:
    """Return the plan: known states, points that may run, and the most that these cost."""
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
    """Return a point as a cell to run; if it has no lock, with the one build that it surely
    needs."""
    (state,) = survey.survey([line.points[place].cell], here)
    key = exploration_run.te_key(state.cell)
    if key not in survey.build_records() and not here.workspace.lock(state.cell.name).exists():
        return replace(state, missing=(key,))
    return state


CONDITION = "works only under a condition"
"""The bad outcome, if a condition counts as a failure."""


def report_of(line: ReleaseLine, check: str, result: SearchResult, here: Context) -> dict[str, Any]:
    """Return the answer with everything that it rests on, as plain data."""
    last, first = result.answer.last, result.answer.first
    bad = search.first_bad(line, result)
    words = halving.lines(
        result.answer,
        search.versions(line),
        check,
        axis=line.axis,
        fixed=line.fixed,
        broken=CONDITION if result.seen[bad].outcome == CheckOutcome.WORKS_WITH else "broken",
        unrun=result.unrun,
    )
    return {
        **_head(line, check, result.seen),
        "exact": result.answer.exact,
        "last": line.points[last].version,
        "first": line.points[first].version,
        "against": [line.points[place].version for place in result.answer.against],
        "changes": search.changes(line, result),
        "moves_too": release_line.stacks(line, last, first),
        "tell_apart": _tell_apart(line, last, first),
        "not_looked_at": release_line.skipped(line, last, first),
        "ran": result.ran,
        "answer": words,
        "results": [c.data() for c in _citations(line, result, here)],
        "failure": _failure(result.seen[bad], here),
    }


def _tell_apart(line: ReleaseLine, last: int, first: int) -> str:
    """Return the options of the next bisection if several axes change at once; empty if `decides`
    answers it."""
    if line.axis == stack_line.AXIS:
        return ""
    if line.axis == release_line.MCORE:
        return "--hold te,torch,python"
    ends = (last, first) if not line.fixed else (first, last)
    good, bad = (line.points[place].cell.name.removeprefix(PREFIX) for place in ends)
    return f"bisect --good {good} --bad {bad}"


def _citations(line: ReleaseLine, result: SearchResult, here: Context) -> list[Citation]:
    """Return the results that the answer rests on, those of its two ends first."""
    first = (result.answer.last, result.answer.first)
    cited = []
    for place in dict.fromkeys((*first, *sorted(result.seen))):
        cell, device = line.points[place].cell.name, machine.device_class()
        path = result_path(cell, device, here.workspace.results)
        if place in result.seen and path.exists():
            cited.append(citation.of_result(store.load(path, whole=False), here.workspace.results))
    return cited


def _head(line: ReleaseLine, check: str, seen: Mapping[int, PointState]) -> dict[str, Any]:
    """Return the question, and the state of every point of the line."""
    good, bad = (line.points[place].cell.name for place in line.ends)
    return {
        "check": check,
        "axis": line.axis,
        "good": good,
        "bad": bad,
        "held": dict(line.held),
        "moving": line.moving,
        "notes": (*line.notes, *line.standing),
        "points": _points(line, seen),
    }


def _points(line: ReleaseLine, seen: Mapping[int, PointState]) -> list[dict[str, str]]:
    nothing = PointState(state=CheckState.SILENT, outcome="not run", source="")
    states = [seen.get(place, nothing) for place in range(len(line.points))]
    return [
        {"version": point.version, "cell": point.cell.name}
        | {"outcome": state.outcome, "source": state.source, "why": state.why}
        for point, state in zip(line.points, states, strict=True)
    ]


def _failure(seen: PointState, here: Context) -> dict[str, Any] | None:
    """Return why the bad point fails, what declares it, and the versions with which it happens."""
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
    fails = check.outcome in FAILURES  # there are no rules for checks that are works-with
    texts = sorted((here.workspace.reports / issue_drafts.FOLDER).glob(f"*-{key}.md"))
    return {
        **head,
        "type": check.failure.type,
        "message": verdict.gist(check.failure.message),
        "frame": check.failure.frame,
        "fingerprint": key,
        "gpu_independent": check.failure.gpu_independent,
        "works_with": check.condition,
        "rules": explanation.lines(explanation.of_failure(others.values(), key)) if fails else [],
        "text_for_upstream": files.shown(texts[0]) if texts else None,
    }
