"""Run every selected cell of the matrix whose result is out of date, several at a time; a run that
was interrupted goes on where it was. On this machine, as jobs of Slurm, or one part of it."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from mcore_compat.base.errors import UsageError
from mcore_compat.cli import options
from mcore_compat.cli.registry import VERDICT
from mcore_compat.run.context import context
from mcore_compat.schedule import matrix_run, plan, summary
from mcore_compat.schedule.jobs import job_options
from mcore_compat.schedule.jobs.job_options import LOCAL, SLURM
from mcore_compat.schedule.selection import Selection, parse_shard, selected

ANSWERS = VERDICT


def add_options(parser: ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("--mcore", metavar="SPEC", help="version specifier, e.g. '>=0.14'")
    parser.add_argument("--modelopt", metavar="SPEC", help="version specifier, e.g. '==0.41.*'")
    parser.add_argument("--tag", action="append", default=[], help="e.g. mcore-0.16; repeatable")
    parser.add_argument(
        "--only", action="append", default=[], metavar="OUTCOME", help="e.g. broken; repeatable"
    )
    parser.add_argument("--stale", action="store_true", help="only cells with outdated evidence")
    options.force(parser)
    parser.add_argument("--dry-run", action="store_true", help="print the plan and its cost")
    options.jobs(parser)
    options.shard(parser)
    _add_jobs_options(parser)


def _add_jobs_options(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("where cells run (docs/clusters.md)")
    options.choice(
        group,
        "--executor",
        (LOCAL, SLURM),
        default=LOCAL,
        help="this machine, or Slurm (local)",
    )
    add = group.add_argument
    add("--partition", help="Slurm's partition")
    add("--build-partition", metavar="P", help="for builds; default: the same")
    add("--account", help="Slurm's account")
    add("--gpus-per-task", type=int, default=0, metavar="N", help="for a cell (0)")
    add("--time", help="limit of a job: MIN, H:MM:SS or D-H (Slurm: 60; local: none to speak of)")
    jobs = f"jobs at a time ({job_options.PARALLEL}; local: -j)"
    add("--array-parallelism", type=int, metavar="N", help=jobs)
    option = "of sbatch, e.g. mem=32G; repeatable"
    add("--slurm-option", action="append", default=[], metavar="KEY=VALUE", help=option)
    attempts = job_options.ATTEMPTS
    tries = f"jobs for a cell whose job died ({attempts})"
    add("--attempts", type=int, default=attempts, metavar="N", help=tries)
    add("--poll", type=float, metavar="S", help="looks every S s (Slurm: 10)")


def call(args: Namespace) -> int:
    """Run the cells, or print the plan; 0 where all are as expected."""
    here, jobs = context(), job_options.of(args)
    device = matrix_run.device_class(jobs)
    states = selected(_selection(args), here, device)
    if args.dry_run:
        planned = plan.make(states, force=args.force)
        print("\n".join(matrix_run.describe(planned, jobs, here.workspace)))
        return 0
    return summary.report(matrix_run.run(states, here, jobs, force=args.force), here, device)


def _selection(args: Namespace) -> Selection:
    for option in ("mcore", "modelopt"):
        try:
            SpecifierSet(getattr(args, option) or "")
        except InvalidSpecifier as error:
            raise UsageError(f"--{option}: {error}; write e.g. '>=0.14' or '==0.41.*'") from None
    return Selection(
        mcore=args.mcore,
        modelopt=args.modelopt,
        tags=tuple(args.tag),
        only=tuple(args.only),
        stale=args.stale,
        shard=parse_shard(args.shard),
    )
