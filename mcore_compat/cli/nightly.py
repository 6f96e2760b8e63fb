"""Keep up with the index: refresh, join new series, lock and run what new releases touch, report,
and say what they broke. Each step can be run alone, on several machines."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from mcore_compat.cli import options, publication
from mcore_compat.cli.registry import VERDICT
from mcore_compat.results import evidence
from mcore_compat.results.evidence import Evidence
from mcore_compat.run.context import context, say
from mcore_compat.run.pipeline import Context
from mcore_compat.schedule import matrix_run, new_releases, nightly, shards

ANSWERS = VERDICT


def add_options(parser: ArgumentParser) -> None:
    """What the command takes."""
    options.jobs(parser)
    options.shard(parser)
    parser.add_argument("--dry-run", action="store_true", help="write nothing; say what would run")
    parser.add_argument("--all-stale", action="store_true", help="run all that is not fresh")
    options.choice(parser, "--step", nightly.STEPS, help="this one alone, for several machines")
    parser.add_argument(
        "--before", type=Path, metavar="FOLDER", help="earlier evidence to compare with"
    )
    parser.add_argument("--list", action="store_true", help="only name the cells that would run")


def call(args: Namespace) -> int:
    """Do what a night does; 0 where every cell that ran is as expected."""
    night = nightly.Options(
        jobs=args.jobs,
        shard=shards.parse(args.shard),
        step=args.step,
        every=args.all_stale,
        before=args.before,
    )
    before = nightly.earlier(night.before, say)
    here, new = context(), nightly.kept()
    if night.does("prepare") and not args.list:
        refreshed = nightly.ask(say, join=True)
        if not args.dry_run:
            nightly.write(refreshed)
        print("\n".join(refreshed.lines()))
        here, new = nightly.with_(here, refreshed), refreshed.new
    names = nightly.to_run(here, new, night)
    if args.list:
        print("\n".join(names), end="\n" if names else "")
        return 0
    if args.dry_run:
        matrix_run.describe(nightly.selection(names), here, jobs=night.jobs)
        return 0
    return _run(night, here, names, new, before)


def _run(
    night: nightly.Options,
    here: Context,
    names: Sequence[str],
    new: Sequence[new_releases.New],
    before: Sequence[Evidence],
) -> int:
    """The steps that write."""
    if night.does("prepare"):
        nightly.prepare(here, names)
    code = 0
    if night.does("cells") and names:
        code = matrix_run.run(nightly.selection(names), context(), jobs=night.jobs)
    if night.does("report"):
        if night.shard == shards.WHOLE:  # a part of the evidence is no report
            code = max(code, publication.write(say))
        now = tuple(nightly.all_in(evidence.FOLDER, say))
        print("\n".join(nightly.summary(new, here.releases, now, before)))
        for left in nightly.settle(here, new):
            release = f"{left.package} {left.version}"
            print(f"not all cells of {release} are run yet; the next night goes on")
    return code
