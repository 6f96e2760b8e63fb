"""The command `bisect`: loads what is known, runs what the answer needs, tells it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mcore_compat.analysis import explanation
from mcore_compat.analysis.bisect import boundary, halving
from mcore_compat.analysis.bisect import release_path as lines
from mcore_compat.analysis.bisect.boundary import Found, Seen
from mcore_compat.analysis.bisect.halving import State
from mcore_compat.analysis.bisect.release_path import Line
from mcore_compat.base import files
from mcore_compat.base.errors import InterpreterError, UsageError
from mcore_compat.core.cells import full_name
from mcore_compat.core.outcomes import CellOutcome
from mcore_compat.environments import wheelhouse
from mcore_compat.publish import issue_drafts, report
from mcore_compat.results import evidence, verdict
from mcore_compat.results.evidence import Evidence
from mcore_compat.results.fingerprint import plain
from mcore_compat.run import pipeline, runner
from mcore_compat.run.context import context
from mcore_compat.run.pipeline import Context
from mcore_compat.schedule import exploration_run, matrix_run, plan, survey


def run(args: argparse.Namespace) -> int:
    """Bisect and print the answer; 0 where it is one release, 1 where it is a range or one of
    several.

    Raises:
        CompatError: bad input, or a failure of the surroundings; what was run is kept.
    """
    runner.need_limit(args.limit)
    here = context()
    line = line_of(args, here)
    boundary.known_check(args.check, (c.check for e in stored() for c in e.checks))
    known = {**known_of(line, args.check, here, stale=args.stale), **boundary.refused(line)}
    if args.dry_run:
        planned = plan_of(line, args.check, known, here)
        _print(planned, _plan_lines, args.format)
        return 0
    ask = None if args.no_run else _runner(line, args.check, here, args.limit)
    found = boundary.search(line, args.check, known, ask)
    _print(report_of(line, args.check, found, here), _lines, args.format)
    return 0 if found.answer.exact and not found.answer.against else 1


def _print(
    data: dict[str, Any], words: Callable[[Mapping[str, Any]], Iterator[str]], form: str
) -> None:
    lines = (plain(line) for line in words(data))
    print(files.dump_json(data) if form == "json" else "\n".join(lines) + "\n", end="")


def stored() -> tuple[Evidence, ...]:
    """All stored evidence of this device class."""
    paths = sorted(evidence.FOLDER.glob(f"compat-*/{pipeline.device_class()}.json"))
    return tuple(evidence.load(path, validate=False, whole=False) for path in paths)


def line_of(args: argparse.Namespace, here: Context) -> Line:
    """The line between the two cells that were named.

    Raises:
        UsageError: not cells, or not on a line.
    """
    facts = lines.Facts(
        matrix=here.matrix,
        releases=here.releases,
        cell_of=lambda name: pipeline.chosen(name, here),
    )
    good, bad = (facts.cell_of(full_name(name)) for name in (args.good, args.bad))
    hold = [lines.axis_of(word.strip()) for word in args.hold.split(",") if word.strip()]
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


def known_of(line: Line, check: str, here: Context, *, stale: bool) -> dict[int, Seen]:
    """What evidence says already, by point; with `stale`, also evidence that does not hold."""
    found = {}
    cells = [point.cell for point in line.points]
    for place, one in enumerate(survey.survey(cells, here)):
        path = evidence.path_of(one.cell.name, pipeline.device_class())
        if not one.outcomes or not (one.fresh or stale):
            continue
        e = evidence.load(path, validate=False, whole=False)
        if not e.complete or e.outcome is CellOutcome.ERROR:
            continue
        said = f"evidence of {e.taken[:10]}" + ("" if one.fresh else f", stale: {one.state}")
        found[place] = boundary.seen_in(e, check, one.cell, said)
    return found


def _runner(line: Line, check: str, here: Context, limit: float | None) -> Callable[[int], Seen]:
    """What runs a point of the line."""

    def run_point(place: int) -> Seen:
        cell = line.points[place].cell
        here.say(f"bisect: {line.axis} {line.points[place].version}: {cell.name}")
        try:
            outcome = pipeline.run_cell(cell.name, pipeline.Options(limit=limit), here)
        except InterpreterError as error:  # says nothing of the releases, as what cannot be built
            why = str(error)
            return boundary.Seen(state=State.SILENT, outcome="untested", source="run now", why=why)
        one = boundary.seen_in(outcome.evidence, check, cell, "run now")
        here.say(f"bisect: {check} is {one.outcome} there")
        return one

    return run_point


def plan_of(line: Line, check: str, known: Mapping[int, Seen], here: Context) -> dict[str, Any]:
    """What is known, which points may be run, and what that costs at most."""
    boundary.verify_known(line, check, known)
    ends, may, most = boundary.most_runs(line, known)
    recorded = matrix_run.recorded_builds()
    plans = {place: plan.make([_priced(line, place, here)]) for place in (*ends, *may)}
    cost = {place: made.minutes(1, recorded) for place, made in plans.items()}
    dearest = sorted((cost[place] for place in may), reverse=True)[:most]
    return {
        **_head(line, check),
        "points": [_row(line, place, known.get(place)) for place in range(len(line.points))],
        "ends_to_run": [line.points[place].cell.name for place in ends],
        "may_be_run": [line.points[place].cell.name for place in may],
        "may_be_built": sorted({key for made in plans.values() for key in made.builds}),
        "most_runs": len(ends) + most,
        "most_minutes": round(sum(cost[place] for place in ends) + sum(dearest), 1),
    }


def _priced(line: Line, place: int, here: Context) -> plan.CellState:
    """A point as a cell to run; without a lock, with the one build that it is sure to need."""
    (known,) = survey.survey([line.points[place].cell], here)
    key = exploration_run.te_key(known.cell)
    built = (wheelhouse.folder() / key / "build.json").exists()
    if not built and not pipeline.lock_path(known.cell).exists():
        return replace(known, missing=(key,))
    return known


def report_of(line: Line, check: str, found: Found, here: Context) -> dict[str, Any]:
    """The answer with all that it rests on, as plain data."""
    last, first = found.answer.last, found.answer.first
    bad = boundary.first_bad(line, found)
    words = halving.lines(
        found.answer,
        boundary.versions(line),
        check,
        axis=line.axis,
        fixed=line.fixed,
        unrun=found.unrun,
    )
    return {
        **_head(line, check),
        "exact": found.answer.exact,
        "last": line.points[last].version,
        "first": line.points[first].version,
        "against": [line.points[place].version for place in found.answer.against],
        "changes": [list(pair) for pair in boundary.changes(line, found)],
        "moves_too": lines.stacks(line, last, first),
        "not_looked_at": list(lines.skipped(line, last, first)),
        "ran": list(found.ran),
        "answer": words,
        "points": [_row(line, place, found.seen.get(place)) for place in range(len(line.points))],
        "failure": _failure(found.seen[bad], here),
    }


def _head(line: Line, check: str) -> dict[str, Any]:
    good, bad = (line.points[place].cell.name for place in line.ends)
    return {
        "check": check,
        "axis": line.axis,
        "good": good,
        "bad": bad,
        "held": dict(line.held),
        "moving": list(line.moving),
        "notes": list(line.notes),
    }


def _row(line: Line, place: int, seen: Seen | None) -> dict[str, Any]:
    point = line.points[place]
    return {
        "version": point.version,
        "cell": point.cell.name,
        "outcome": seen.outcome if seen else "not asked",
        "source": seen.source if seen else "",
        "why": seen.why if seen else "",
    }


def _failure(seen: Seen, here: Context) -> dict[str, Any] | None:
    """Why the bad one of the two fails, what declares it, and over which versions it was seen."""
    if seen.failed is None:
        return None
    check, e = seen.failed
    rule = verdict.rule_for(e, check.check, here.matrix.expected)
    made: dict[str, Any] = {
        "cell": e.cell,
        "check": check.check,
        "declared": f"{rule.reason} ({rule.owner}, {rule.upstream})" if rule else None,
    }
    if check.failure is None:
        return {**made, "type": check.outcome.value, "message": check.reason or ""}
    key = check.failure.fingerprint
    others = {other.cell: other for other in stored()} | {e.cell: e}
    texts = sorted((report.FOLDER / issue_drafts.FOLDER).glob(f"*-{key}.md"))
    return {
        **made,
        "type": check.failure.type,
        "message": verdict.gist(check.failure.message),
        "frame": check.failure.frame,
        "fingerprint": key,
        "gpu_independent": check.failure.gpu_independent,
        "rules": explanation.lines(explanation.of_failure(others.values(), key)),
        "text_for_upstream": _shown(texts[0]) if texts else None,
    }


def _shown(path: Path) -> str:
    return path.relative_to(files.ROOT).as_posix()


def _lines(told: Mapping[str, Any]) -> Iterator[str]:
    """The report for a person."""
    yield from told["answer"]
    if told["not_looked_at"]:
        between_ = ", ".join(told["not_looked_at"])
        yield f"between them lie also {between_}, not asked: it may be there; --patches asks them"
    if told["moves_too"]:
        also = ", ".join(f"{a} {one} -> {two}" for a, (one, two) in told["moves_too"].items())
        yield f"at the same step moves {also}: any of them may be the cause"
        yield "to tell them apart: --hold te,torch,python"
    if told["against"]:
        yield f"changes seen: {', '.join(' -> '.join(pair) for pair in told['changes'])}"
    left = sum(row["outcome"] == "not asked" for row in told["points"])
    if left:
        rest = (
            "there may be more changes there"
            if told["against"]
            else "it is assumed that nothing else changes there"
        )
        yield f"{left} of {len(told['points'])} points were not asked: {rest}"
    yield f"run for this: {', '.join(told['ran']) or 'nothing'}"
    yield from _line_lines(told)
    failure = told["failure"]
    if failure is None:
        return
    yield f"why not in {failure['cell']}: {failure['check']}"
    yield f"  {failure['type']}: {failure['message']}"
    if failure.get("fingerprint"):
        yield f"  in {failure['frame'] or 'unknown'}; fingerprint {failure['fingerprint']}"
    if failure.get("gpu_independent"):
        yield f"  the same with a GPU: {failure['gpu_independent']}"
    if failure["declared"]:
        yield f"  declared: {failure['declared']}"
    for rule in failure.get("rules", ()):
        yield f"  rule: {rule}"
    if failure.get("text_for_upstream"):
        yield f"  ready to be sent upstream: {failure['text_for_upstream']}"


def _line_lines(told: Mapping[str, Any]) -> Iterator[str]:
    """What the line is made of, and its points as a table."""
    held = ", ".join(f"{axis} {version}" for axis, version in told["held"].items())
    yield f"held: {held}"
    if told["moving"]:
        yield f"moving with {told['axis']}, each series' own stack: {', '.join(told['moving'])}"
    yield from told["notes"]
    rows = [
        (
            row["version"],
            f"{verdict.SYMBOLS.get(row['outcome'], verdict.SYMBOLS['untested'])} {row['outcome']}",
            row["cell"],
            row["source"] + (f": {row['why']}" if row["why"] else ""),
        )
        for row in told["points"]
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        columns = (row[column].ljust(widths[column]) for column in range(3))
        yield f"  {'  '.join(columns)}  {row[3][:160]}".rstrip()


def _plan_lines(planned: Mapping[str, Any]) -> Iterator[str]:
    """The plan for a person."""
    yield f"{planned['check']} over {planned['axis']}: {planned['good']} -> {planned['bad']}"
    yield from _line_lines(planned)
    for name in planned["ends_to_run"]:
        yield f"would run, to see that the end is what it was said to be: {name}"
    if not planned["most_runs"]:
        yield "nothing would be run: what is known answers it"
        return
    if planned["may_be_built"]:
        yield f"may have to be built first: {', '.join(planned['may_be_built'])}"
    cells = "1 cell" if planned["most_runs"] == 1 else f"{planned['most_runs']} cells"
    yield (
        f"would run at most {cells}, about {planned['most_minutes']:.0f} min, "
        "and one more for each that cannot be asked"
    )
