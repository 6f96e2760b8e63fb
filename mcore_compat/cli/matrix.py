"""Run every selected cell whose result is out of date, several at a time, on this machine or as
Slurm jobs. An interrupted run continues where it stopped. --shard runs one part of the cells."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from mcore_compat.base.errors import UsageError
from mcore_compat.cli import options
from mcore_compat.cli.registry import NEWS
from mcore_compat.run.context import context
from mcore_compat.schedule import matrix_run, plan
from mcore_compat.schedule.jobs import job_options
from mcore_compat.schedule.jobs.job_options import LOCAL, SLURM
from mcore_compat.schedule.survey import Selection, selected

ANSWERS = f"{NEWS}; with --for: 0 all are compatible for the profile, 1 not"


def add_options(parser: ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument(
        "--mcore", metavar="SPEC", help="only these megatron-core versions, e.g. '>=0.14'"
    )
    parser.add_argument("--modelopt", metavar="SPEC", help="only these, e.g. '==0.41.*'")
    parser.add_argument(
        "--tag",
        dest="tags",
        action="append",
        default=[],
        metavar="TAG",
        help="only cells with this tag, e.g. mcore-0.16; repeatable",
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="OUTCOME",
        help="only cells with this outcome, their own or a check's, e.g. broken; repeatable",
    )
    parser.add_argument(
        "--stale", action="store_true", help="only cells whose result is out of date"
    )
    options.force(parser)
    options.te_extension(parser)
    options.profile(parser)
    parser.add_argument(
        "--dry-run", action="store_true", help="print the plan and how long it takes"
    )
    options.jobs(parser)
    options.shard(parser)
    _add_jobs_options(parser)


def _add_jobs_options(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("where cells run (docs/how-to/clusters.md)")
    options.choice(
        group,
        "--executor",
        (LOCAL, SLURM),
        dest="scheduler",
        default=LOCAL,
        help="this machine, or Slurm (default: local)",
    )
    add = group.add_argument
    add("--partition", help="partition of Slurm")
    add("--build-partition", metavar="P", help="partition for builds (default: that of the cells)")
    add("--account", help="account of Slurm")
    gpus = options.at_least(0, "--gpus-per-task: must be at least 0")
    add(
        "--gpus-per-task",
        dest="gpus",
        type=gpus,
        default=0,
        metavar="N",
        help="GPUs of each cell's job (default: 0)",
    )
    limit = "time limit of a job: MIN, H:MM:SS or D-H (default: Slurm 60, local 7 days)"
    add("--time", dest="minutes", type=job_options.minutes, metavar="TIME", help=limit)
    jobs = options.at_least(1, "--array-parallelism: must be at least 1")
    more = f"jobs at a time (default: {job_options.PARALLEL}; local: that of -j)"
    add("--array-parallelism", dest="parallel", type=jobs, metavar="N", help=more)
    add(
        "--slurm-option",
        dest="options",
        action="append",
        type=job_options.option,
        default=[],
        metavar="KEY=VALUE",
        help="option of sbatch, e.g. mem=32G; repeatable",
    )
    tries = options.at_least(1, "--attempts: must be at least 1")
    died = f"times to try a cell whose job is killed (default: {job_options.ATTEMPTS})"
    add("--attempts", type=tries, default=job_options.ATTEMPTS, metavar="N", help=died)
    add(
        "--poll",
        type=job_options.seconds,
        metavar="S",
        help="seconds between looks at the jobs (default: Slurm 10, local 0.2)",
    )


def call(args: Namespace) -> int:
    """Run the cells, or print the plan; the exit code as `matrix_run.report`."""
    here, jobs = context(args.te_extension, options.profile_of(args)), job_options.of(args)
    device = matrix_run.device_class(jobs)
    states = selected(_selection(args), here, device)
    if args.dry_run:
        planned = plan.make(states, force=args.force)
        print(matrix_run.describe(planned, jobs, here.workspace), end="")
        return 0
    return matrix_run.report(matrix_run.run(states, here, jobs, force=args.force), here, device)


def _selection(args: Namespace) -> Selection:
    for option in ("mcore", "modelopt"):
        try:
            SpecifierSet(getattr(args, option) or "")
        except InvalidSpecifier as error:
            raise UsageError(f"--{option}: {error}; write e.g. '>=0.14' or '==0.41.*'") from None
    return options.taken(Selection, args)
