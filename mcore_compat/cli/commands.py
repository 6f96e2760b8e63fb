"""What each command does: loads what it needs, calls the stages, prints."""

from __future__ import annotations

import functools
import gc
import os
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mcore_compat.analysis import explanation, published
from mcore_compat.base import processes
from mcore_compat.base.errors import CompatError, InfrastructureError, MatrixError, UsageError
from mcore_compat.base.files import ROOT, sha256_file, write_folder
from mcore_compat.base.forks import Forked
from mcore_compat.core import combinations, matrix, releases
from mcore_compat.core.outcomes import CellOutcome
from mcore_compat.environments import interpreters
from mcore_compat.environments.wheelhouse import Unbuildable
from mcore_compat.publish import collation, csv_and_constraints, over_base, report, site
from mcore_compat.publish.site import staleness
from mcore_compat.publish.site.view import Site
from mcore_compat.resolve import locks
from mcore_compat.resolve.locks import Unresolvable
from mcore_compat.results import evidence, large_values
from mcore_compat.results import verdict as verdicts
from mcore_compat.results.fingerprint import plain
from mcore_compat.run import pipeline, runner
from mcore_compat.run.context import context as context
from mcore_compat.run.context import say as say
from mcore_compat.run.pipeline import Context, Options
from mcore_compat.schedule import nox_engine, plan
from mcore_compat.schedule.plan import Known

if TYPE_CHECKING:
    from mcore_compat.environments import scan


def run_cells(names: Sequence[str], *, force: bool, only: str | None, limit: float | None) -> int:
    """Run cells one after the other and print each verdict; 0 where all are as expected."""
    from rich.console import Console

    runner.need_limit(limit)
    here = context()
    for name in names:  # a wrong name ends the command before any cell has run
        combinations.named(name, here.matrix, here.releases)
    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    code = 0
    for name in names:
        outcome = pipeline.run_cell(name, Options(force=force, only=only, limit=limit), here)
        found = outcome.evidence
        if outcome.fresh:
            console.print(f"{found.cell}: fresh evidence of {found.taken}; --force runs it again")
        # A part of the suite is no verdict: nothing to compare with other cells'.
        known = None if only else () if found.outcome is CellOutcome.COMPATIBLE else others()
        verdicts.show(found, known, console, here.matrix.expected)
        if not only and not as_expected(found, here):
            code = 1
    return code


def others() -> tuple[evidence.Evidence, ...]:
    """All other evidence, for advice; one corrupt file must not take the verdict away."""
    found = []
    for path in sorted(evidence.FOLDER.glob("compat-*/*.json")):
        try:
            found.append(evidence.load(path, validate=False, whole=False))
        except CompatError as error:
            say(f"mcore-compat: passed over: {error}")
    return tuple(found)


def as_expected(found: evidence.Evidence, here: Context) -> bool:
    """Whether a cell's run ends well: nothing fails, or all that does is declared.

    A cell in which no family restores never does, declared or not: nobody's CI may rely on it.
    """
    if found.outcome is CellOutcome.COMPATIBLE:
        return True
    return found.outcome is CellOutcome.PARTIAL and not verdicts.unexpected(
        found, here.matrix.expected
    )


def make_locks(names: Sequence[str]) -> int:
    """(Re)make the locks of cells; without names, of all that have one."""
    here = context()
    folder = ROOT / "constraints" / "locks"
    wanted = list(names) or sorted(path.stem for path in folder.glob("compat-*.txt"))
    code = 0
    for name in wanted:
        combinations.named(name, here.matrix, here.releases)
    for name in wanted:
        cell = combinations.named(name, here.matrix, here.releases)
        if not names:  # remade on the stack that it has
            cell = pipeline.chosen(name, here)
        made = pipeline.lock_of(cell, here, anew=True)
        if isinstance(made, Unresolvable):
            print(f"{name}: unresolvable: {made.reason}")
            code = 1
        else:
            print(f"{name}: {len(made.pins) + len(made.source_only)} packages, {made.digest[:12]}")
    return code


def report_(*, check: bool) -> int:
    """Write the published files, or with `check` tell which are not what the evidence makes."""
    declared = matrix.load()
    known = releases.load()
    gc.disable()  # nearly all of it stays to the end, and that is soon
    found = evidence.load_all()
    over = over_base.load_all()
    all_ = collation.collate(found, combinations.cells(declared, known), declared, known, over)
    made = {**report.texts(all_), **_exchanged(), **_upgrades(all_), **_parts()}
    if check:
        drifted = report.drift(made)
        for path in drifted:
            print(f"{path.relative_to(ROOT)} is not what the evidence makes: nox -s report")
        unpacked = large_values.unpacked(evidence.FOLDER)
        for path in unpacked:
            print(f"{path.relative_to(ROOT)} is not packed as it is to be: nox -s report")
        return _outlived(found, declared, every=True) or (1 if drifted or unpacked else 0)
    with Forked(lambda: report.write(made)) as texts_:
        pages = _write_site(all_)
        texts_.result()
    large_values.pack(evidence.FOLDER)
    for one in found:
        print(f"{one.cell} ({one.device_class}): {verdicts.spelt(one.outcome)}; ", end="")
        print(one.reason.message if one.reason else verdicts.summary(one))
    texts = [path for path in made if path.parent == report.FOLDER]
    print(", ".join(str(path.relative_to(ROOT)) for path in texts), end="")
    rest = len(made) - len(texts)
    print(f", {rest} texts for upstream, files of constraints and examples of upgrades")
    print(
        f"{(report.FOLDER / site.FOLDER).relative_to(ROOT)}/index.html and {pages - 1} other files"
    )
    return _outlived(found, declared, every=True)


def _exchanged() -> dict[Path, Callable[[], str]]:
    """The report on checkpoints across releases, and how its text is made."""
    from mcore_compat.exchange import evidence as results
    from mcore_compat.exchange import report as exchanged
    from mcore_compat.exchange import run

    found = results.load_all()
    texts = exchanged.texts(found, run.outdated(found))
    return {path: functools.partial(str, text) for path, text in texts.items()}


def _upgrades(all_: collation.Collated) -> Mapping[Path, Callable[[], str]]:
    """The examples of `upgrade`, and how their texts are made."""
    from mcore_compat.exchange import evidence as results
    from mcore_compat.upgrade import examples

    return examples.texts(all_, results.load_all())


def _parts() -> dict[Path, Callable[[], str]]:
    """The reports on the parts that are run by themselves."""
    from mcore_compat.cli import part_commands

    return part_commands.texts()


def _write_site(all_: collation.Collated) -> int:
    """Write `reports/site/`; how many files it has."""
    locked = {e.cell: ROOT / "constraints" / "locks" / f"{e.cell}.txt" for e in all_.found}
    digests = {name: sha256_file(path) for name, path in locked.items() if path.exists()}
    why = staleness.stale(all_, pipeline.suite_digest(), digests)
    return write_folder(report.FOLDER / site.FOLDER, *site.halves(Site(all_, why)))


def _outlived(
    found: Sequence[evidence.Evidence], declared: matrix.Matrix, *, every: bool = False
) -> int:
    """Say which declared failures work by now, and with `every` evidence which are none at all:
    errors of the matrix."""
    said = verdicts.outlived(found, declared.expected)
    said += verdicts.unused(found, declared.expected) if every else ()
    for line in said:
        say(f"mcore-compat: {line}")
    return MatrixError.exit_code if said else 0


def explain_cell(name: str) -> int:
    """Why a cell fails: each cause, and over which versions it was seen."""
    from mcore_compat.resolve import resolvability

    here = context()
    cell = combinations.named(name, here.matrix, here.releases)
    found = [e for e in evidence.load_all() if e.device_class == pipeline.device_class()]
    mine = next((e for e in found if e.cell == cell.name), None)
    if mine is None:
        answers = resolvability.sweep(
            [cell], here.matrix, here.releases, offline=True, jobs=1, say=lambda line: None
        )
        known = answers.verdicts[cell.name]
        if known.installs is False:
            print(f"{cell.name} cannot be installed: {known.reason}")
            return 0
        raise UsageError(f"{cell.name} has no evidence yet; run it: nox -s {cell.name}")
    if mine.reason:
        print(f"{mine.reason.kind}: {mine.reason.message}")
    cells = combinations.cells(here.matrix, here.releases)
    all_ = collation.collate(found, cells, here.matrix, here.releases)
    by_fingerprint = {one.fingerprint: one for one in all_.explained[mine.device_class]}
    causes = verdicts.causes(mine.checks)
    for cause in causes:
        print(f"{', '.join(cause.checks)}")
        print(f"  {cause.type}: {verdicts.gist(cause.message)}")
        for reason in verdicts.declared(mine, cause, here.matrix.expected):
            print(f"  declared: {reason}")
        for line in explanation.lines(by_fingerprint[cause.fingerprint]):
            print(f"  {line}")
    if not causes and not mine.reason:
        print(f"{cell.name}: nothing fails")
    return 0


def list_cells() -> int:
    """The cells, one line each, with the last verdict."""
    known = releases.load()
    cells = combinations.cells(matrix.load(), known)
    for name, line in verdicts.listing(cells).items():
        print(f"{name}: {line}")
    return 0


def run_matrix(selection: nox_engine.Selection, *, jobs: int, force: bool, dry_run: bool) -> int:
    """Run every selected cell that is not fresh; 0 where all are as expected."""
    _at_least_one(jobs)
    here = context()
    if dry_run:
        for line in nox_engine.describe(
            plan.make(nox_engine.selected(selection, here), force=force), jobs
        ):
            print(line)
        return 0
    ended = nox_engine.run(selection, here, jobs=jobs, force=force)
    return summary(ended, here, pipeline.device_class(), {})


def summary(ended: Sequence[Known], here: Context, device: str, failed: Mapping[str, str]) -> int:
    """Print what a run of many cells came to; `failed`: why some came to no verdict."""
    left = {known.cell.name: known.state for known in ended if not known.fresh}
    left.update(failed)
    outcomes = Counter(o for known in ended for o in known.outcomes if o in CELL_OUTCOMES)
    print(f"{len(ended)} cells: " + ", ".join(f"{o} {n}" for o, n in sorted(outcomes.items())))
    for name, why in sorted(left.items()):
        print(f"{name}: not done: {why}")
    if left:
        return InfrastructureError.exit_code
    paths = [evidence.path_of(k.cell.name, device) for k in ended]
    found = [evidence.load(path, validate=False, whole=False) for path in paths]
    verdict = 0 if all(as_expected(one, here) for one in found) else 1
    return _outlived(found, here.matrix) or verdict


def _at_least_one(jobs: int) -> None:
    if jobs < 1:
        raise UsageError("--jobs: at least one must run at a time")


def static_pass(*, offline: bool, jobs: int) -> int:
    """Which combinations of all declared axes cannot be installed, and why."""
    from mcore_compat.resolve import resolvability

    _at_least_one(jobs)
    here = context()
    cells = tuple(combinations.product(here.matrix, here.releases))
    answers = resolvability.sweep(
        cells, here.matrix, here.releases, offline=offline, jobs=jobs, say=say
    )
    counts = ", ".join(f"{count} {words}" for words, count in sorted(answers.counts().items()))
    print(f"{len(cells)} combinations, {answers.asked} of them answered now: {counts}")
    for reason, count in answers.reasons()[:STATIC_REASONS]:
        print(f"  {count}: {reason}")
    rest = len(answers.reasons()) - STATIC_REASONS
    if rest > 0:
        print(f"  and {rest} other reasons; mcore-compat explain CELL tells one combination's")
    return 0


STATIC_REASONS = 15


def explore_(*, budget: str, jobs: int, dry_run: bool, offline: bool) -> int:
    """Run the cells off the default stacks that tell most, as many as the budget allows."""
    from mcore_compat.schedule import exploration_run

    _at_least_one(jobs)
    minutes = exploration_run.minutes_of(budget)
    here = context()
    if dry_run:
        for line in exploration_run.describe(
            exploration_run.view(here, minutes, jobs, offline=offline)
        ):
            print(line)
        return 0
    ran = exploration_run.run(here, minutes=minutes, jobs=jobs, offline=offline)
    print(f"{len(ran)} cells were run: {', '.join(ran) or 'none'}")
    return 0


def recommend_(text: str, *, most: int) -> int:
    """The newest tested combinations that fit, best first; 1 where none does."""
    from mcore_compat.analysis import recommend

    if most < 1:
        raise UsageError("-n: at least one must be shown")
    advice = recommend.advise(recommend.parse(text) if text else (), published.load().cells)
    folder = (report.FOLDER / csv_and_constraints.CONSTRAINTS).relative_to(ROOT)
    for line in recommend.lines(advice, str(folder), most):
        print(line)
    return 0 if advice.cells else 1


def doctor_(*, python: str | None, verbose: bool) -> int:
    """Say what is wrong with an environment; nothing, and 0, where all is right."""
    _, _, wrong = examined(python, verbose=verbose)
    return 1 if wrong else 0


def examined(python: str | None, *, verbose: bool) -> tuple[Path, scan.Installed, bool]:
    """Print all remarks on an environment; its Python, what it holds, whether anything is wrong.

    Raises:
        UsageError: it is no Python that runs.
    """
    from mcore_compat.analysis import doctor
    from mcore_compat.environments import scan

    chosen = Path(python) if python else active()
    there = scan.inspect(chosen, processes.run)
    remarks = doctor.diagnose(there, matrix.load(), published.load())
    for remark in remarks:
        print(f"{remark.kind}: {_one_line(remark.text)}")
        if remark.help:
            print(f"  {_one_line(remark.help)}")
    if verbose:
        for axis, version in doctor.pins_of(there).items():
            print(f"{axis} {_one_line(version)}")
        print(f"{len(remarks)} remarks on the environment of {chosen}")
    return chosen, there, any(remark.kind != doctor.NOTE for remark in remarks)


def _one_line(text: str) -> str:
    """Text of packages as the terminal may have it."""
    return plain(" ".join(text.split()))


def active() -> Path:
    """The Python of the environment that is active in the shell, else the one that runs this."""
    for name in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        place = os.environ.get(name)
        if place and (Path(place) / "bin" / "python").exists():
            return Path(place) / "bin" / "python"
    return Path(sys.executable)


CELL_OUTCOMES = frozenset(outcome.value for outcome in CellOutcome)


def build(name: str, package: str) -> int:
    """Build one wheel that a cell needs, if it is not there; to tell a failure is the cell's."""
    here = context()
    cell = pipeline.chosen(name, here)
    lock = locks.read(pipeline.lock_path(cell))
    python = interpreters.find(cell.python, here.run, here.uv)
    made = pipeline.wheels_of(cell, lock, python, here, only=package)
    if isinstance(made, Unbuildable):
        print(f"{made.key}: {made.reason}")
    else:
        print(", ".join(str(wheel.key) for wheel in made))
    return 0
