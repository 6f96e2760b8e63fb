"""What is a machine's fault and not a cell's. Messages are written by hand as CUDA's runtime,
torch, NCCL and NVML word them; no GPU is here."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from support import ROOT, START, event

from mcore_compat.base.errors import InfrastructureError
from mcore_compat.run import infrastructure, machine
from mcore_compat.run.infrastructure import NO_GPU, Watch

OUT_OF_MEMORY = (
    "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 79.10 GiB of "
    "which 3.06 MiB is free. Process 4711 has 79.09 GiB memory in use."
)
FAULTS = [
    ("OutOfMemoryError", OUT_OF_MEMORY),
    ("RuntimeError", "CUDA error: out of memory"),
    ("RuntimeError", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ("AcceleratorError", "CUDA error: uncorrectable ECC error encountered"),
    ("RuntimeError", "CUDA error: all CUDA-capable devices are busy or unavailable"),
    ("AcceleratorError", "CUDA error: CUDA-capable device(s) is/are busy or unavailable"),
    ("RuntimeError", "No CUDA GPUs are available"),
    ("RuntimeError", "CUDA error: no CUDA-capable device is detected"),
    ("RuntimeError", "Failed to initialize NVML: Driver/library version mismatch"),
    ("RuntimeError", "CUDA driver version is insufficient for CUDA runtime version"),
    ("RuntimeError", "GPU 0000:1A:00.0: GPU has fallen off the bus."),
    (
        "DistBackendError",
        "NCCL error in: NCCLUtils.cpp:77, unhandled system error, NCCL version 2.27.5\n"
        "ncclSystemError: System call (e.g. socket, malloc) or external library call failed or "
        "device error.\nLast error:\nError while creating shared memory segment /dev/shm/nccl-x "
        "(size 9637888)",
    ),
    ("OSError", "[Errno 28] No space left on device: 'checkpoint/__0_0.distcp'"),
    ("MemoryError", ""),
]
OWN = [
    ("AcceleratorError", "CUDA error: an illegal memory access was encountered"),
    ("RuntimeError", "CUDA error: device-side assert triggered"),
    ("RuntimeError", "CUDA error: no kernel image is available for execution on the device"),
    ("OutOfResources", "out of resource: shared memory, Required: 262144, Hardware limit: 232448"),
    ("DistBackendError", "NCCL error in: NCCLUtils.cpp:77, unhandled system error"),
    ("RuntimeError", "No dot product attention backend is available for the provided inputs"),
    ("KeyError", "'decoder.weight'"),
]


def failed(kind: str, message: str, outcome: str = "broken", **fields: Any) -> dict[str, Any]:
    made = event("device-logits[gpt]", "broken", **fields)
    made["outcome"] = outcome
    made["failure"].update(type=kind, message=message)
    return made


def on_gpu(made: dict[str, Any]) -> str | None:
    """The fault of the machine that a check on a GPU failed for."""
    return infrastructure.fault(made, gpu=True)


@pytest.mark.parametrize(("kind", "message"), FAULTS)
def test_a_fault_of_the_machine_is_told(kind: str, message: str) -> None:
    said = on_gpu(failed(kind, message))
    assert said
    assert "\n" not in said


@pytest.mark.parametrize(("kind", "message"), OWN)
def test_what_may_be_the_packages_own_is_no_fault_of_the_machine(kind: str, message: str) -> None:
    assert on_gpu(failed(kind, message)) is None


@pytest.mark.parametrize("outcome", ["works", "needs-gpu", "unsupported", "blocked"])
def test_only_what_failed_is_looked_at(outcome: str) -> None:
    assert on_gpu(failed("RuntimeError", OUT_OF_MEMORY, outcome)) is None


def test_what_an_error_was_raised_from_counts_and_a_line_of_source_does_not() -> None:
    made = failed("CheckpointException", "ranks:dict_keys([0])")
    made["failure"]["traceback"] = (
        "Traceback (most recent call last):\n"
        '  File "torch/x.py", line 3, in x\n    raise ValueError("CUDA error: out of memory")\n'
        "ValueError: something else\n"
    )
    assert on_gpu(made) is None
    made["failure"]["traceback"] += "torch.OutOfMemoryError: CUDA out of memory. Tried to\n"
    assert on_gpu(made) == "torch.OutOfMemoryError: CUDA out of memory. Tried to"


def test_of_a_process_that_died_its_output_tells() -> None:
    output = "terminate called\n  what():  CUDA error: uncorrectable ECC error encountered\n"
    assert on_gpu(failed("SIGABRT", "killed by SIGABRT", "crashed", output=output))
    assert on_gpu(failed("KeyError", "'x'", "broken", output=output)) is None


def test_a_line_is_told_without_control_characters() -> None:
    assert on_gpu(failed("RuntimeError", "out of memory \x1b[31m")) == (
        "RuntimeError: out of memory �[31m"
    )


# As events come


GPU = {**START, "device_class": "gpu"}


def test_on_a_gpu_a_fault_ends_the_run_and_nothing_after_it_is_taken() -> None:
    watch = Watch("gpu")
    watch.see(GPU)
    watch.see(event("restore[gpt]"))
    for one in (failed("RuntimeError", OUT_OF_MEMORY), event("x[gpt]"), {"event": "end"}):
        with pytest.raises(
            InfrastructureError, match=r"device-logits\[gpt\] failed because of this"
        ):
            watch.see(one)


def test_on_a_host_words_are_the_suite_s_to_judge() -> None:
    watch = Watch("host")
    for one in (START, failed("RuntimeError", "No CUDA GPUs are available")):
        watch.see(one)


def test_a_suite_on_another_device_class_than_expected_is_ended() -> None:
    with pytest.raises(InfrastructureError, match=NO_GPU):
        Watch("gpu").see(START)
    with pytest.raises(InfrastructureError, match="not visible"):
        Watch("host").see(GPU)


@pytest.mark.parametrize("device", ["host", "gpu"])
def test_a_check_that_was_killed_for_memory_ends_the_run(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    died = failed("SIGKILL", "killed by SIGKILL", "crashed")
    Watch(device).see(died)  # by a person
    counted = iter([3, 4])  # stands in for the kernel's count
    monkeypatch.setattr(infrastructure.memory, "kills", lambda: next(counted))
    with pytest.raises(InfrastructureError, match="ran out of memory"):
        Watch(device).see(died)


# The device class


@pytest.mark.parametrize(
    ("environ", "none"),
    [
        ({}, False),
        ({"CUDA_VISIBLE_DEVICES": "0,1"}, False),
        ({"CUDA_VISIBLE_DEVICES": "GPU-1"}, False),
        ({"CUDA_VISIBLE_DEVICES": "MIG-5"}, False),
        ({"CUDA_VISIBLE_DEVICES": ""}, True),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, True),
        ({"CUDA_VISIBLE_DEVICES": "NoDevFiles"}, True),
        ({"SLURM_JOB_ID": "7"}, True),
        ({"SLURM_JOB_ID": "7", "CUDA_VISIBLE_DEVICES": "0"}, False),
    ],
)
def test_a_machine_with_a_driver_is_a_host_to_whom_no_device_is_lent(
    environ: dict[str, str], none: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert machine.lent_none(environ) is none
    monkeypatch.setattr(machine, "DRIVER", (tmp_path / "none", tmp_path))
    assert machine.device_class(environ) == ("host" if none else "gpu")
    monkeypatch.setattr(machine, "DRIVER", (tmp_path / "none",))
    assert machine.device_class(environ) == "host"


def test_both_sides_look_for_the_driver_at_the_same_places(monkeypatch: pytest.MonkeyPatch) -> None:
    if str(ROOT) not in sys.path:
        sys.path.append(str(ROOT))  # `suite` is not installed
    from suite import machine as suites

    asked: list[Path] = []

    def exists(path: Path) -> bool:
        asked.append(path)
        return False

    monkeypatch.setattr(Path, "exists", exists)
    assert not suites.driver_present()
    assert tuple(asked) == machine.DRIVER


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ("died: SIGKILL", True),
        ("ImportError: libtorch.so: failed to map segment from shared object", True),
        ("OSError: [Errno 24] Too many open files: 'x.py'", True),
        ("died: SIGSEGV", False),
        ("ImportError: x.so: cannot allocate memory in static TLS block", False),
        ("ok", False),
    ],
)
def test_an_import_that_the_machine_ended_is_no_answer(said: str, fault: bool) -> None:
    watch = Watch("host")
    start = {**START, "device_class": "host", "preload": {"torch": said}}
    if not fault:
        watch.see(start)
        return
    with pytest.raises(InfrastructureError, match="importing torch failed because of this machine"):
        watch.see(start)


def test_a_record_that_the_machine_kept_from_being_made_is_its_fault() -> None:
    made = {"event": "record", "record": "signatures", "seconds": 1.0, "details": {}}
    failure = {**failed("OSError", "[Errno 28] No space left on device")["failure"]}
    with pytest.raises(InfrastructureError, match="signatures failed because of this machine"):
        Watch("host").see({**made, "failure": failure})


def test_what_failed_while_something_was_exhausted_is_the_machines() -> None:
    seen = iter([None, "/tmp has 0.0 MiB left", "/tmp has 0.0 MiB left"])
    watch = Watch("host", lambda *, late: next(seen))
    watch.see(failed("KeyError", "'x'"))
    watch.see(event("restore[gpt]"))  # it works all the same
    with pytest.raises(InfrastructureError, match="while it ran, /tmp has"):
        watch.see(failed("KeyError", "'x'"))
