"""Check for new releases and test them: add new series to the matrix, lock and run the cells that a
new release affects, write the report, and print what broke. Each step can run alone, so that
several machines share the cells."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mcore_compat.analysis import digest_refresh, range_refresh
from mcore_compat.api import refresh as interfaces
from mcore_compat.cli import options, publication
from mcore_compat.cli.registry import NEWS
from mcore_compat.index import package_index
from mcore_compat.run import cells
from mcore_compat.run.context import Context, context, say
from mcore_compat.schedule import matrix_run, new_releases, nightly, plan
from mcore_compat.schedule.jobs import job_options
from mcore_compat.schedule.survey import WHOLE, Selection, selected

ANSWERS = NEWS


def add_options(parser: ArgumentParser) -> None:
    """What the command takes."""
    options.jobs(parser)
    options.shard(parser)
    parser.add_argument(
        "--dry-run", action="store_true", help="write nothing; print what would run"
    )
    parser.add_argument(
        "--all-stale",
        dest="every",
        action="store_true",
        help="run all cells whose result is out of date",
    )
    options.choice(
        parser,
        "--step",
        ("prepare", "cells", "report"),
        help="run this step alone, to share the cells among machines",
    )
    parser.add_argument(
        "--before", type=Path, metavar="FOLDER", help="folder of earlier results to compare with"
    )
    parser.add_argument(
        "--list", action="store_true", help="only print the names of the cells that would run"
    )


def call(args: Namespace) -> int:
    """Run the steps; 0 if no cell that ran has a new failure."""
    night = options.taken(nightly.NightOptions, args)
    nightly.check_folder(night.before)
    here = context()
    new = nightly.kept(here.workspace)
    if night.does("prepare") and not args.list:
        refreshed = nightly.ask(here.workspace, say, join=True)
        if not args.dry_run:
            nightly.write(refreshed, here.workspace)
            interfaces.update(here.workspace.interfaces, refreshed.known, package_index.client, say)
            for update in (digest_refresh.update, range_refresh.update):
                update(here.workspace, refreshed.known, package_index.client, say)
        print(refreshed.description(), end="")
        here = replace(here, matrix=refreshed.declared, releases=refreshed.known)
        new = refreshed.new
    names = nightly.to_run(here, new, night)
    if not names:  # the usual case: most nights bring nothing new
        here.say("no cell to run: no new release affects one" + _of_shard(night))
    if args.list:
        print("\n".join(names), end="\n" if names else "")
        return 0
    if args.dry_run:
        planned = plan.make(selected(Selection(names=names), here))
        jobs = job_options.here(night.jobs)
        print(matrix_run.describe(planned, jobs, here.workspace), end="")
        return 0
    return _run(night, here, names, new)


def _of_shard(night: nightly.NightOptions) -> str:
    shard = night.shard
    return "" if shard == WHOLE else f" of part {shard.number}/{shard.of}"


def _run(
    night: nightly.NightOptions,
    here: Context,
    names: tuple[str, ...],
    new: Sequence[new_releases.NewRelease],
) -> int:
    """The steps that write."""
    if night.does("prepare"):
        nightly.prepare(here, names)
    code = 0
    if night.does("cells") and names:
        jobs = job_options.here(night.jobs)
        here = context()  # reads the updated matrix
        result = nightly.run_cells(names, here, jobs)
        code = matrix_run.report(result, here, matrix_run.device_class(jobs))
    if night.does("report"):
        if night.shard == WHOLE:  # a report needs the results of all parts
            code = max(code, publication.write(say))
        now = cells.other_results(here.workspace.results)
        before = nightly.earlier(night.before)  # including results that this run replaced
        print("\n".join(nightly.summary(new, here.releases, now, before)))
        for left in nightly.settle(here, new):
            release = f"{left.package} {left.version}"
            print(f"some cells of {release} have not run yet; the next nightly run continues")
    return code
