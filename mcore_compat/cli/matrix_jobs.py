"""The command `matrix`: every selected cell that is not fresh, on this machine or on Slurm."""

from __future__ import annotations

from mcore_compat.cli import commands
from mcore_compat.schedule import matrix_run, plan
from mcore_compat.schedule.jobs.job_options import JobOptions
from mcore_compat.schedule.selection import Selection, selected


def matrix(selection: Selection, options: JobOptions, *, force: bool, dry_run: bool) -> int:
    """Run every selected cell that is not fresh as a job; 0 where all are as expected.

    Raises:
        UsageError: bad input, or submitit is missing.
        InfrastructureError: another process submits already, or the scheduler does not answer.
    """
    here = commands.context()
    device = matrix_run.device_class(options)
    states = selected(selection, here, device)
    if dry_run:
        for line in matrix_run.describe(plan.make(states, force=force), options):
            print(line)
        return 0
    result = matrix_run.run(states, here, options, force=force)
    return commands.summary(result.states, here, device, result.failed)
