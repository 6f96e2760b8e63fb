"""One cell's way through the stages: what ends it early, what is kept, what is not run again.

The processes, the wheelhouse and the environment stand in; no package under test is installed.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from resolver_support import pylock
from support import START, event

from mcore_compat.base import files, processes
from mcore_compat.base.errors import CompatError, EvidenceError, InfrastructureError, LockError
from mcore_compat.core import matrix, releases
from mcore_compat.core.cells import Cell
from mcore_compat.core.outcomes import CellOutcome
from mcore_compat.environments import creation
from mcore_compat.environments.wheelhouse import Key, Unbuildable, Wheel
from mcore_compat.resolve import locks
from mcore_compat.results import evidence
from mcore_compat.results.evidence import Evidence
from mcore_compat.run import memory, pipeline
from mcore_compat.run.context import Context, Options
from mcore_compat.schedule import survey

CELL = "compat-0.16-modelopt0.41"
END = {"event": "end", "seconds": 1.0}


class Stages:
    """What stands in for the stages, and what they were asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: list[str] = []
        self.suites = 0
        self.events: list[dict[str, Any]] = [START, event("restore[gpt]"), END]
        self.resolver = processes.Completed(argv=(), returncode=0, output="", seconds=0)
        self.wheel: Wheel | Unbuildable | None = None

    def run(self, argv: Sequence[str | os.PathLike[str]], **options: Any) -> processes.Completed:
        words = [os.fspath(word) for word in argv]
        if "compile" in words and self.resolver.ok:
            out = Path(words[words.index("--output-file") + 1])
            out.write_text(pylock(f"torch==2.9.1 --hash=sha256:{'0' * 64}\n"))
        return self.resolver

    def suite(
        self, *, on_event: Callable[[Mapping[str, Any]], None], **_: Any
    ) -> processes.Completed:
        self.suites += 1
        for one in self.events:
            on_event(one)
        return processes.Completed(argv=(), returncode=0, output="", seconds=1)

    @property
    def stored(self) -> Evidence:
        return evidence.load(self.folder / "evidence" / CELL / "main.host.json")


@pytest.fixture
def stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stages:
    found = Stages(tmp_path)
    monkeypatch.setenv("MCORE_COMPAT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(pipeline, "device_class", lambda: "host")
    monkeypatch.setattr(pipeline, "lock_path", lambda cell: tmp_path / f"{cell.name}.txt")
    monkeypatch.setattr(pipeline, "toolkit_of", lambda context: None)
    kept = tmp_path / "evidence"
    save, path_of = evidence.save, evidence.path_of
    monkeypatch.setattr(evidence, "save", lambda one: save(one, kept))
    monkeypatch.setattr(
        evidence, "path_of", lambda cell, device, folder=kept: path_of(cell, device, folder)
    )
    monkeypatch.setattr(pipeline.verdict, "note", lambda one: None)
    monkeypatch.setattr(
        pipeline.interpreters, "find", lambda series, run, uv: Path("/usr/bin/python3")
    )
    monkeypatch.setattr(
        pipeline, "wheels_of", lambda *_: found.wheel if found.wheel is not None else ()
    )
    there = creation.Environment(python=Path("python"), site=tmp_path, variables={}, reused=False)
    monkeypatch.setattr(creation, "ensure", lambda *_, **__: there)
    monkeypatch.setattr(creation, "tools", lambda **_: tmp_path)
    monkeypatch.setattr(pipeline.runner, "run_suite", found.suite)
    (tmp_path / "home" / "envs").mkdir(parents=True)
    return found


def ran(stages: Stages, **options: Any) -> pipeline.Outcome:
    context = Context(
        matrix=matrix.load(),
        releases=releases.load(),
        run=stages.run,
        say=stages.said.append,
        uv=Path("uv"),
    )
    return pipeline.run_cell(CELL, Options(**options), context)


def test_a_cell_is_resolved_run_and_stored(stages: Stages) -> None:
    outcome = ran(stages)
    assert outcome.evidence.outcome is CellOutcome.COMPATIBLE
    assert not outcome.fresh
    assert stages.stored == outcome.evidence
    assert locks.read(stages.folder / f"{CELL}.txt").digest == outcome.evidence.lock


def test_fresh_evidence_is_taken_as_it_is(stages: Stages) -> None:
    first = ran(stages)
    again = ran(stages)
    assert again.fresh
    assert again.evidence == first.evidence
    assert stages.suites == 1


def test_force_runs_it_again(stages: Stages) -> None:
    ran(stages)
    assert not ran(stages, force=True).fresh
    assert stages.suites == 2


@pytest.mark.parametrize("changed", ["suite", "lock"])
def test_evidence_of_another_suite_or_lock_is_not_fresh(
    changed: str, stages: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran(stages)
    if changed == "suite":
        monkeypatch.setattr(pipeline, "suite_digest", lambda: "another")
    else:
        path = stages.folder / f"{CELL}.txt"
        lock = locks.read(path)
        body = f"torch==2.9.1 --hash=sha256:{'1' * 64}\n"
        sha256 = files.sha256_bytes(body.encode())
        head = [line for line in lock.text.splitlines() if line.startswith("# ")][:-1]
        path.write_text("\n".join([*head, f"# sha256 of what follows: {sha256}", body]))
    assert not ran(stages).fresh
    assert stages.suites == 2


def test_an_unresolvable_cell_keeps_the_reason_and_runs_nothing(stages: Stages) -> None:
    stages.resolver = processes.Completed(
        argv=(),
        returncode=1,
        output="  × No solution found when resolving dependencies:\n  ╰─▶ Because a needs b\n",
        seconds=0,
    )
    outcome = ran(stages)
    assert outcome.evidence.outcome is CellOutcome.UNRESOLVABLE
    assert stages.stored.reason is not None
    assert stages.stored.reason.message == "Because a needs b"
    assert stages.suites == 0
    assert not (stages.folder / f"{CELL}.txt").exists()


def test_an_unbuildable_package_ends_the_cell_with_what_would_help(stages: Stages) -> None:
    key = Key(package="p", version="1", torch="2.9.1", python="3.12", cuda=12)
    stages.wheel = Unbuildable(key=key, reason="p 1 needs nvcc 12.4; found none", help="install it")
    outcome = ran(stages)
    assert outcome.evidence.outcome is CellOutcome.UNBUILDABLE
    assert outcome.evidence.reason is not None
    assert outcome.evidence.reason.help == "install it"
    assert stages.suites == 0


def test_a_reason_names_no_folder_of_this_machine(stages: Stages) -> None:
    key = Key(package="p", version="1", torch="2.9.1", python="3.12", cuda=12)
    where = files.home() / "build" / "x" / "lib" / "python3.12" / "site-packages" / "te" / "a.so"
    stages.wheel = Unbuildable(key=key, reason=f"OSError: {where}: undefined symbol: b", help="")
    reason = ran(stages).evidence.reason
    assert reason is not None
    assert reason.message == "OSError: te/a.so: undefined symbol: b"


def two_stacks(stages: Stages, monkeypatch: pytest.MonkeyPatch) -> Context:
    """A matrix whose first stack of 0.16 does not build, and whose second does."""
    real = matrix.load()
    (first,) = real.stacks["0.16"]
    second = dataclasses.replace(first, te="2.10.0")
    declared = dataclasses.replace(real, stacks={**real.stacks, "0.16": (first, second)})

    def wheels(cell: Cell, *_: object) -> tuple[Wheel, ...] | Unbuildable:
        key = Key(package="te", version=cell.te, torch=cell.torch, python="3.12", cuda=12)
        return () if cell.te == second.te else Unbuildable(key=key, reason="why", help="")

    monkeypatch.setattr(pipeline, "wheels_of", wheels)
    return Context(
        matrix=declared,
        releases=releases.load(),
        run=stages.run,
        say=stages.said.append,
        uv=Path("uv"),
    )


def test_where_the_first_stack_does_not_build_the_next_is_taken(
    stages: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = two_stacks(stages, monkeypatch)
    outcome = pipeline.run_cell(CELL, Options(), context)
    assert outcome.evidence.outcome is CellOutcome.COMPATIBLE
    assert outcome.evidence.pins["transformer-engine"] == "2.10.0"
    assert any("why; on to the next stack" in line for line in stages.said)
    # From now on the lock decides, on every machine.
    assert pipeline.run_cell(CELL, Options(), context).fresh


def test_a_lock_made_ahead_gives_way_to_the_next_stack(
    stages: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = two_stacks(stages, monkeypatch)
    pipeline.lock_of(pipeline.chosen(CELL, context), context)
    outcome = pipeline.run_cell(CELL, Options(), context)
    assert outcome.evidence.pins["transformer-engine"] == "2.10.0"


def test_a_lock_that_a_run_has_used_is_not_left_for_another_stack(
    stages: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = two_stacks(stages, monkeypatch)
    cell = pipeline.chosen(CELL, context)
    pipeline.lock_of(cell, context)
    evidence.save(evidence.start(cell, device_class="host"))
    assert pipeline.run_cell(CELL, Options(), context).evidence.outcome is CellOutcome.UNBUILDABLE


def test_no_network_is_an_error_and_publishes_nothing(stages: Stages) -> None:
    stages.resolver = processes.Completed(
        argv=(), returncode=2, output="error sending request for url", seconds=0
    )
    with pytest.raises(InfrastructureError) as caught:
        ran(stages)
    assert caught.value.exit_code == 3
    assert not (stages.folder / "evidence").exists()


def test_what_was_learnt_before_an_early_end_is_kept(stages: Stages) -> None:
    stages.events = [START, event("restore[gpt]"), event("build-default[gpt]")]
    with pytest.raises(InfrastructureError, match="2 checks are kept"):
        ran(stages)
    assert {c.check for c in stages.stored.checks} == {"restore[gpt]", "build-default[gpt]"}
    stages.events.append(END)
    again = ran(stages)  # evidence that is not complete is not fresh
    assert not again.fresh
    assert again.evidence.complete


@pytest.mark.parametrize(("kind", "is_error"), [("SIGKILL", True), ("SIGSEGV", False)])
def test_a_check_that_the_machine_killed_for_memory_is_no_verdict(
    kind: str, is_error: bool, stages: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = iter([3, 4])  # stands in for the kernel's count, before the suite and after
    monkeypatch.setattr(memory, "kills", lambda: next(counted))
    died = event("restore[gpt]", "broken")
    died["outcome"], died["failure"]["type"] = "crashed", kind
    stages.events = [START, event("build-default[gpt]"), died, END]
    if is_error:
        with pytest.raises(InfrastructureError, match="ran out of memory"):
            ran(stages)
        assert stages.stored.outcome is CellOutcome.ERROR
        assert [c.check for c in stages.stored.checks] == ["build-default[gpt]"]
    else:
        assert ran(stages).evidence.outcome is CellOutcome.INCOMPATIBLE


@pytest.fixture
def gpu(stages: Stages, monkeypatch: pytest.MonkeyPatch) -> Stages:
    """The same on what stands in for a machine with a driver, but no nvidia-smi."""
    monkeypatch.setattr(pipeline, "device_class", lambda: "gpu")
    monkeypatch.setattr(pipeline.gpu_slots.shutil, "which", lambda name: None)
    monkeypatch.setattr(pipeline.gpu_slots.machine, "lent_none", lambda environ: False)
    return stages


def test_a_gpu_that_fails_is_no_verdict_of_the_cell(gpu: Stages) -> None:
    failed = event("restore[gpt]", "broken")
    failed["failure"].update(
        type="AcceleratorError", message="CUDA error: uncorrectable ECC error encountered"
    )
    start = {**START, "device_class": "gpu"}
    gpu.events = [start, event("build-default[gpt]"), failed, event("x[gpt]"), END]
    with pytest.raises(InfrastructureError, match="uncorrectable ECC error") as caught:
        ran(gpu)
    assert caught.value.exit_code == 3
    stored = evidence.load(gpu.folder / "evidence" / CELL / "main.gpu.json")
    assert stored.outcome is CellOutcome.ERROR
    assert [c.check for c in stored.checks] == ["build-default[gpt]"]


def test_a_suite_that_finds_no_gpu_where_one_was_taken_is_no_evidence_of_a_host(
    gpu: Stages,
) -> None:
    with pytest.raises(InfrastructureError, match="no GPU that can be used"):
        ran(gpu)
    assert not (gpu.folder / "evidence").exists()


def test_the_kernels_count_is_read(tmp_path: Path) -> None:
    vmstat = tmp_path / "vmstat"
    vmstat.write_text("pgfault 12\noom_kill 5\noom_kill_x 7\n")
    assert memory.kills(vmstat) == 5
    assert memory.kills(tmp_path / "absent") == 0


def test_an_interruption_passes_through_and_keeps_what_was_learnt(stages: Stages) -> None:
    def interrupted(
        *, on_event: Callable[[Mapping[str, Any]], None], **_: Any
    ) -> processes.Completed:
        on_event(START)
        on_event(event("restore[gpt]"))
        raise KeyboardInterrupt

    pipeline.runner.run_suite = interrupted  # undone by the fixture's monkeypatch
    with pytest.raises(KeyboardInterrupt):
        ran(stages)
    assert [c.check for c in stages.stored.checks] == ["restore[gpt]"]


def test_a_part_of_the_suite_is_no_verdict(stages: Stages) -> None:
    ran(stages, only="restore")
    assert not (stages.folder / "evidence").exists()


def test_a_suite_that_cannot_run_is_our_error(stages: Stages) -> None:
    stages.events = [{"event": "error", "message": "no check matches\nmore"}]
    with pytest.raises(EvidenceError, match=r"no check matches$"):
        ran(stages)


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        (f"{CELL}.txt", "nonsense\n", LockError),
        (f"evidence/{CELL}/main.host.json", "{", EvidenceError),
    ],
)
def test_a_corrupt_file_is_named_with_the_way_out(
    name: str, text: str, error: type[CompatError], stages: Stages
) -> None:
    ran(stages)
    (stages.folder / name).write_text(text)
    with pytest.raises(error) as caught:
        ran(stages)
    message = str(caught.value)
    assert Path(name).name in message
    assert "nox -s" in message
    assert "\n" not in message
    assert caught.value.exit_code == 2


def test_a_lock_of_other_versions_is_refused(stages: Stages) -> None:
    ran(stages)
    path = stages.folder / f"{CELL}.txt"
    path.write_text(path.read_text().replace("megatron-core==0.16.1", "megatron-core==0.15.0"))
    with pytest.raises(LockError, match="made for other versions"):
        ran(stages)


def of_an_older_patch(stages: Stages) -> Path:
    """The lock and evidence of the cell, as they were before megatron-core's newest patch."""
    ran(stages)
    path = stages.folder / f"{CELL}.txt"
    newest = locks.read(path).digest
    path.write_text(path.read_text().replace("0.16.1", "0.16.0"))
    kept = stages.folder / "evidence" / CELL / "main.host.json"
    text = kept.read_text().replace("0.16.1", "0.16.0")
    kept.write_text(text.replace(newest, locks.read(path).digest))
    return path


def test_a_lock_of_an_older_patch_is_remade_for_the_newest(stages: Stages) -> None:
    path = of_an_older_patch(stages)
    again = ran(stages)
    assert not again.fresh
    assert again.evidence.pins["megatron-core"] == "0.16.1"
    assert locks.read(path).axes["megatron-core"] == "0.16.1"
    assert any("0.16.0 -> 0.16.1" in line for line in stages.said)


def test_a_lock_of_an_older_patch_is_taken_away_where_the_newest_does_not_resolve(
    stages: Stages,
) -> None:
    path = of_an_older_patch(stages)
    stages.resolver = processes.Completed(
        argv=(), returncode=1, output="No solution found when resolving dependencies: no", seconds=0
    )
    assert ran(stages).evidence.outcome is CellOutcome.UNRESOLVABLE
    assert not path.exists()


def test_evidence_of_an_older_patch_is_stale(stages: Stages) -> None:
    of_an_older_patch(stages)
    context = Context(
        matrix=matrix.load(),
        releases=releases.load(),
        run=stages.run,
        say=stages.said.append,
        uv=Path("uv"),
    )
    cell = pipeline.chosen(CELL, context)
    assert not pipeline.locked(cell)
    (known,) = survey.survey([cell], context)
    assert known.state == "megatron-core 0.16.1 is out"


def test_two_runs_of_one_cell_do_not_meet(stages: Stages) -> None:
    from filelock import FileLock

    with (
        FileLock(files.home() / "envs" / f"{CELL}.run"),
        pytest.raises(InfrastructureError, match="another process"),
    ):
        ran(stages)
