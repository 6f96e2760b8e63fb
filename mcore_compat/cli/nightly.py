"""The commands that keep up with the index: `refresh` and `nightly`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import replace

from mcore_compat.cli import commands, matrix_jobs
from mcore_compat.cli.commands import say
from mcore_compat.results import evidence
from mcore_compat.run.pipeline import Context
from mcore_compat.schedule import matrix_run, new_releases, nightly, plan
from mcore_compat.schedule.jobs import job_options
from mcore_compat.schedule.selection import WHOLE, Selection, selected


def refresh(*, join: bool) -> int:
    """Ask the index, rewrite `constraints/releases.json`, show what is new and what the matrix
    lacks; with `join`, new series join it."""
    refreshed = nightly.ask(say, join=join)
    nightly.write(refreshed)
    for line in refreshed.lines():
        print(line)
    return 0


def night(options: nightly.NightOptions, *, dry_run: bool, names_only: bool) -> int:
    """Refresh, join, lock, run what new releases touch, report, and say what they broke."""
    jobs = job_options.here(options.jobs)
    before = nightly.earlier(options.before, say)
    here, new = commands.context(), nightly.kept()
    if options.does("prepare") and not names_only:
        refreshed = nightly.ask(say, join=True)
        if not dry_run:
            nightly.write(refreshed)
        for line in refreshed.lines():
            print(line)
        here = replace(here, matrix=refreshed.declared, releases=refreshed.known)
        new = refreshed.new
    names = nightly.to_run(here, new, options)
    selection = Selection(names=names)
    if names_only:
        print("\n".join(names), end="\n" if names else "")
        return 0
    if dry_run:
        for line in matrix_run.describe(plan.make(selected(selection, here)), jobs):
            print(line)
        return 0
    if options.does("prepare"):
        nightly.prepare(here, names)
    code = 0
    if options.does("cells") and names:
        code = matrix_jobs.matrix(selection, jobs, force=False, dry_run=False)
    if options.does("report"):
        code = max(code, _report(here, options, new, before))
    return code


def _report(
    here: Context,
    options: nightly.NightOptions,
    new: Sequence[new_releases.NewRelease],
    before: Sequence[evidence.Evidence],
) -> int:
    code = 0
    if options.shard == WHOLE:  # a part of the evidence is no report
        with contextlib.redirect_stdout(sys.stderr):
            code = commands.report_(check=False)
    now = nightly.all_in(evidence.FOLDER, say)
    for line in nightly.summary(new, here.releases, tuple(now), before):
        print(line)
    for release in nightly.settle(here, new):
        cells = f"cells of {release.package} {release.version}"
        print(f"not all {cells} are run yet; the next night goes on")
    return code
