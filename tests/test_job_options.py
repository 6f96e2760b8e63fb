"""What is asked for cells as jobs: options, and what they come to."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from mcore_compat.base.errors import UsageError
from mcore_compat.cli import parsing
from mcore_compat.schedule import matrix_run
from mcore_compat.schedule.jobs import job_options
from mcore_compat.schedule.jobs.job_options import JobOptions


def parsed(*words: str) -> JobOptions:
    return job_options.of(parsing.parse(["matrix", *words])[1])


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("90", 90), ("0:30", 1), ("90:01", 91), ("1:30:00", 90), ("1-12", 2160), ("1-0:05", 1445)],
)
def test_a_time_limit_is_read_as_slurm_does(text: str, minutes: int) -> None:
    assert job_options.minutes(text) == minutes


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--partition", "gpu"), "--partition is for jobs of Slurm; add --executor slurm"),
        (("--executor", "slurm", "--time", "soon"), '--time: invalid time "soon"; write e.g. 90'),
        (("--executor", "slurm", "--time", "0"), "--time: must be more than 0"),
        (("--executor", "slurm", "--attempts", "0"), "--attempts: must be at least 1"),
        (("--executor", "slurm", "--slurm-option", "array=9"), "array cannot be given here"),
        (("--executor", "slurm", "--slurm-option", "time=9"), "write --time"),
        (("--executor", "slurm", "--slurm-option", "mem="), 'invalid option "mem="'),
        (("--executor", "slurm", "--slurm-option", "a=1\n#SBATCH"), "invalid option"),
        (("-j", "0"), "-j: at least one must run at a time"),
        (("--executor", "slurmm"), 'did you mean "slurm"?'),
        *(
            (("--executor", "slurm", "--poll", odd), "--poll: must be a number of seconds")
            for odd in ("nan", "inf", "1e300", "0", "-1")
        ),
    ],
)
def test_a_wrong_option_is_one_line(words: Sequence[str], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        parsed(*words)
    assert said in str(caught.value)


def test_options_become_flags() -> None:
    assert parsed() == JobOptions(scheduler="local", parallel=2)
    found = parsed(
        *("--executor", "slurm", "--partition", "p", "--gpus-per-task", "1", "--time", "2:00:00"),
        *("--slurm-option", "mem=32G", "--slurm-option", "exclusive", "--account", "a"),
    )
    assert found == JobOptions(
        scheduler="slurm",
        partition="p",
        account="a",
        gpus=1,
        minutes=120,
        poll=10.0,
        options=(("mem", "32G"), ("exclusive", True)),
    )
    local = parsed("--executor", "local", "-j", "4")
    assert local.parallel == 4


@pytest.mark.parametrize(
    ("words", "device"),
    [
        ((), "host"),
        (("--gpus-per-task", "1"), "gpu"),
        (("--slurm-option", "gres=gpu:1"), "gpu"),
        (("--slurm-option", "gres=gpu"), "gpu"),
        (("--slurm-option", "gres=nvme:1,gpu:a100:2"), "gpu"),
        (("--slurm-option", "gres=shard:1"), "gpu"),
        (("--slurm-option", "gpus=1"), "gpu"),
        (("--slurm-option", "gpus-per-node=a100:1"), "gpu"),
        (("--slurm-option", "tres-per-task=cpu=4,gres/gpu=1"), "gpu"),
        (("--slurm-option", "gres=gpu:0"), "host"),
        (("--slurm-option", "gpus=0"), "host"),
        (("--slurm-option", "gres=nvme:1"), "host"),
        (("--slurm-option", "tres-per-task=cpu=4"), "host"),
        (("--slurm-option", "qos=gpu"), "host"),
        (("--slurm-option", "gpu-bind=none"), "host"),
    ],
)
def test_jobs_that_ask_for_gpus_in_whatever_words_are_of_that_device_class(
    words: Sequence[str], device: str
) -> None:
    found = parsed("--executor", "slurm", *words)
    assert matrix_run.device_class(found) == device
