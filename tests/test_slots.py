"""Slots: which device a cell gets, why another is not used, and that a lock survives no crash.

No GPU is here: what nvidia-smi says is written by hand in its format and stands in for it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from support import ROOT

from mcore_compat.base.errors import InfrastructureError
from mcore_compat.base.processes import Completed
from mcore_compat.run import gpu_slots
from mcore_compat.run.gpu_slots import Device, Slots

TWO = """\
0, GPU-11111111-aaaa-bbbb-cccc-000000000001, NVIDIA H200, 143771, 143150
1, GPU-22222222-aaaa-bbbb-cccc-000000000002, NVIDIA H200, 143771, 2048
"""
SHARED = "0, GPU-33333333-aaaa-bbbb-cccc-000000000003, NVIDIA GB10, [N/A], [N/A]\n"


def gpu(number: int, *, free: int | None = 80000, total: int | None = 80000) -> Device:
    name = f"GPU-{number}"
    return Device(index=str(number), uuid=name, name="Stand-in", total=total, free=free)


def of(tmp_path: Path, devices: Sequence[Device], said: list[str] | None = None) -> Slots:
    say = said.append if said is not None else lambda line: None
    return Slots(query=lambda: devices, folder=tmp_path, say=say, wait=0.3, poll=0.05)


def test_what_nvidia_smi_says_is_read() -> None:
    first, second = gpu_slots.parse(TWO)
    assert (first.index, first.name, first.total, first.free) == (
        "0",
        "NVIDIA H200",
        143771,
        143150,
    )
    assert second.uuid == "GPU-22222222-aaaa-bbbb-cccc-000000000002"
    assert second.free == 2048


def test_memory_that_is_not_told_is_not_checked() -> None:
    (device,) = gpu_slots.parse(SHARED)
    assert (device.total, device.free) == (None, None)
    assert device.never(10**6) is None
    assert device.short(10**6) is None


@pytest.mark.parametrize("text", ["No devices were found", "NVIDIA-SMI has failed because", "0, x"])
def test_what_is_no_answer_is_one_line(text: str) -> None:
    with pytest.raises(InfrastructureError, match="printed no list of devices"):
        gpu_slots.parse(text)


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, ["GPU-0", "GPU-1"]),
        ({"CUDA_VISIBLE_DEVICES": "1"}, ["GPU-1"]),
        ({"CUDA_VISIBLE_DEVICES": "1,0"}, ["GPU-1", "GPU-0"]),
        ({"CUDA_VISIBLE_DEVICES": "GPU-1"}, ["GPU-1"]),
        ({"CUDA_VISIBLE_DEVICES": "0,7,1"}, ["GPU-0"]),
        ({"CUDA_VISIBLE_DEVICES": ""}, []),
        ({"CUDA_VISIBLE_DEVICES": "NoDevFiles"}, []),
        ({"CUDA_VISIBLE_DEVICES": "MIG-5"}, ["MIG-5"]),
        ({"SLURM_JOB_ID": "7"}, []),
        ({"SLURM_JOB_ID": "7", "CUDA_VISIBLE_DEVICES": "0"}, ["GPU-0"]),
    ],
)
def test_only_what_is_lent_is_used(environ: dict[str, str], wanted: list[str]) -> None:
    found = gpu_slots.visible((gpu(0), gpu(1)), environ)
    assert [device.uuid for device in found] == wanted


def test_two_cells_have_two_devices_and_a_third_waits(tmp_path: Path) -> None:
    said: list[str] = []
    there = of(tmp_path, [gpu(0), gpu(1)], said)
    with there.taken(1000) as (first,), there.taken(1000) as (second,):
        assert {first.uuid, second.uuid} == {"GPU-0", "GPU-1"}
        with pytest.raises(InfrastructureError, match="no GPU was free"), there.taken(1000):
            pass
    assert any("GPU-0) is in use by another cell" in line for line in said)
    with there.taken(1000) as (again,):  # freed by whoever ended well
        assert again.uuid == "GPU-0"


def test_a_device_with_too_little_memory_is_not_taken_and_it_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    with of(tmp_path, [gpu(0, free=100), gpu(1)], said).taken(1000) as (device,):
        assert device.uuid == "GPU-1"
    assert said == ["Stand-in (GPU-0) has 100 of 80000 MiB free, 1000 MiB are needed: not used"]


def test_where_none_can_ever_fit_one_line_says_so(tmp_path: Path) -> None:
    there = of(tmp_path, [gpu(0, total=500), gpu(1, total=900)])
    with pytest.raises(InfrastructureError) as caught, there.taken(1000):
        pass
    assert "no GPU of this machine has the 1000 MiB" in str(caught.value)
    assert "Stand-in has 500 MiB; Stand-in has 900 MiB" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_several_devices_are_taken_at_once_or_none(tmp_path: Path) -> None:
    said: list[str] = []
    there = of(tmp_path, [gpu(0), gpu(1), gpu(2)], said)
    with there.taken(1000, 2) as both:
        assert [device.uuid for device in both] == ["GPU-0", "GPU-1"]
        with pytest.raises(InfrastructureError, match="no GPU was free"), there.taken(1000, 2):
            pass
        with there.taken(1000) as (third,):  # what waits for two holds none
            assert third.uuid == "GPU-2"
    with there.taken(1000, 3) as all_of_them:
        assert len(all_of_them) == 3


def test_where_there_are_fewer_devices_these_are_taken(tmp_path: Path) -> None:
    for devices in ([gpu(0)], [gpu(0), gpu(1, total=500)]):
        with of(tmp_path, devices).taken(1000, 2) as found:
            assert [device.uuid for device in found] == ["GPU-0"]


def test_a_device_that_went_away_is_not_taken(tmp_path: Path) -> None:
    answers = iter([[gpu(0)], [gpu(0)], []])
    said: list[str] = []
    there = Slots(
        query=lambda: next(answers, []), folder=tmp_path, say=said.append, wait=0.1, poll=0.05
    )
    with pytest.raises(InfrastructureError, match="no GPU was free"), there.taken(1000):
        pass
    assert said == ["GPU-0 is gone, 1000 MiB are needed: not used"]


HOLDER = """\
import sys, time
from pathlib import Path
from mcore_compat.run.gpu_slots import Device, Slots
device = Device(index="0", uuid="GPU-0", name="Stand-in", total=80000, free=80000)
there = Slots(query=lambda: [device], folder=Path(sys.argv[1]), say=print, wait=1)
with there.taken(1000):
    print("taken", flush=True)
    time.sleep(600)
"""


def test_a_killed_holder_leaves_its_device_free(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "taken\n"
        there = of(tmp_path, [gpu(0)])
        with pytest.raises(InfrastructureError, match="in use by another cell"), there.taken(1000):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait(10)
    started = time.monotonic()
    with there.taken(1000) as (device,):
        assert device.uuid == "GPU-0"
    assert time.monotonic() - started < 0.3


def answering(output: str, returncode: int = 0) -> Callable[..., Completed]:
    def run(argv: Sequence[str | os.PathLike[str]], **_: object) -> Completed:
        return Completed(
            argv=tuple(map(str, argv)), returncode=returncode, output=output, seconds=0
        )

    return run


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has an nvidia-smi; nothing is lent or taken away."""
    monkeypatch.setenv("MCORE_COMPAT_HOME", str(tmp_path))
    monkeypatch.setattr(gpu_slots.shutil, "which", lambda name: f"/usr/bin/{name}")
    for name in (gpu_slots.VISIBLE, gpu_slots.machine.IN_A_JOB):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("machine")
def test_a_cell_sees_its_device_alone() -> None:
    said: list[str] = []
    run, need = answering(TWO), 8192
    with gpu_slots.slot(need, run, said.append, gpu=True) as first:
        assert first == {"CUDA_VISIBLE_DEVICES": "GPU-11111111-aaaa-bbbb-cccc-000000000001"}
    assert said == ["on NVIDIA H200 (GPU-11111111-aaaa-bbbb-cccc-000000000001)"]


@pytest.mark.usefixtures("machine")
def test_without_a_gpu_nothing_is_asked_and_nothing_changes() -> None:
    run = answering("", returncode=9)
    with gpu_slots.slot(8192, run, pytest.fail, gpu=False) as variables:
        assert variables == {}


@pytest.mark.usefixtures("machine")
def test_an_nvidia_smi_that_fails_is_a_failure_of_the_surroundings() -> None:
    run = answering("NVIDIA-SMI has failed because\nno driver", returncode=9)
    with (
        pytest.raises(InfrastructureError, match="nvidia-smi failed: no driver"),
        gpu_slots.slot(8192, run, print, gpu=True),
    ):
        pass


@pytest.mark.usefixtures("machine")
def test_a_cell_that_takes_several_devices_sees_them() -> None:
    roomy = TWO.replace("2048", "143000")
    with gpu_slots.slot(8192, answering(roomy), print, gpu=True, count=2) as variables:
        first, second = variables["CUDA_VISIBLE_DEVICES"].split(",")
    assert (first[:7], second[:7]) == ("GPU-111", "GPU-222")


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("gpu", [True, False])
def test_a_job_that_was_lent_no_device_sees_none(
    gpu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(gpu_slots.machine.IN_A_JOB, "7")
    with gpu_slots.slot(8192, answering(TWO), print, gpu=gpu) as variables:
        assert variables == {"CUDA_VISIBLE_DEVICES": ""}


@pytest.mark.usefixtures("machine")
def test_a_device_that_is_lent_and_not_there_is_a_failure_of_the_surroundings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(gpu_slots.VISIBLE, "7")
    with (
        pytest.raises(InfrastructureError, match="CUDA_VISIBLE_DEVICES is 7"),
        gpu_slots.slot(8192, answering(TWO), print, gpu=True),
    ):
        pass
