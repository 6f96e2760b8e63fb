"""Run every selected cell of the matrix whose result is out of date, several at a time; a run that
was interrupted goes on where it was. On this machine, as jobs of Slurm, or one part of it."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from mcore_compat.base.errors import UsageError
from mcore_compat.cli import options
from mcore_compat.cli.registry import VERDICT
from mcore_compat.run.context import context
from mcore_compat.schedule import matrix_run, shards
from mcore_compat.schedule.jobs import flags
from mcore_compat.schedule.nox_engine import Selection

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
    executors = (flags.NOX, *flags.SCHEDULERS)
    group = parser.add_argument_group("as jobs, through submitit (docs/clusters.md)")
    group.add_argument(
        "--executor",
        metavar="|".join(executors),
        type=options.one_of("--executor", executors),
        default=flags.NOX,
        help="where cells run (nox: here)",
    )
    group.add_argument("--partition", help="Slurm's partition")
    group.add_argument("--build-partition", metavar="P", help="for builds; default: the same")
    group.add_argument("--account", help="Slurm's account")
    group.add_argument("--gpus-per-task", type=int, default=0, metavar="N", help="for a cell (0)")
    group.add_argument(
        "--time",
        default=str(flags.MINUTES),
        help=f"limit of a job: MIN, H:MM:SS or D-H ({flags.MINUTES})",
    )
    group.add_argument(
        "--array-parallelism",
        type=int,
        metavar="N",
        help=f"jobs at a time ({flags.PARALLEL}; local: -j)",
    )
    group.add_argument(
        "--slurm-option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="of sbatch, e.g. mem=32G; repeatable",
    )
    group.add_argument(
        "--attempts", type=int, default=3, metavar="N", help="jobs for a cell whose job died (3)"
    )
    group.add_argument("--poll", type=float, default=10.0, metavar="S", help="looks every S s (10)")


def call(args: Namespace) -> int:
    """Run the cells, or print the plan; 0 where all are as expected."""
    return _run(_selection(args), args)


def _run(selection: Selection, args: Namespace) -> int:
    """Hand over to what runs many cells."""
    jobs = flags.of(args)
    if jobs is not None:
        from mcore_compat.cli import matrix_jobs

        return matrix_jobs.matrix(selection, jobs, force=args.force, dry_run=args.dry_run)
    if args.dry_run:
        matrix_run.describe(selection, context(), jobs=args.jobs, force=args.force)
        return 0
    return matrix_run.run(selection, context(), jobs=args.jobs, force=args.force)


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
        shard=shards.parse(args.shard),
    )
