"""One cell's way through the stages: what ends it early, what is kept, what is not run again.

The processes, the wheelhouse and the environment stand in; no package under test is installed.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import snapshot
from engine_support import END, SuiteProcess, is_suite
from resolver_support import pylock
from support import START, event
from test_toolkits import toolkit

from mcore_compat.base import files, processes
from mcore_compat.base.errors import InfrastructureError, WrongFileError
from mcore_compat.core.cells import Cell
from mcore_compat.core.matrix import Matrix
from mcore_compat.core.outcomes import CellOutcome
from mcore_compat.core.workspace import Workspace
from mcore_compat.environments import creation, toolkits
from mcore_compat.environments.wheelhouse import Key, Unbuildable, Wheel
from mcore_compat.resolve import refusal, resolution
from mcore_compat.resolve.locks import Lock
from mcore_compat.results import store
from mcore_compat.results.result import Result, result_path
from mcore_compat.run import gpu_slots, machine, memory, pipeline
from mcore_compat.run.context import Context, Options

CELL = "compat-0.16-modelopt0.41"


class Stages:
    """A workspace, what stands in for its processes, and what was said."""

    def __init__(self, folder: Path) -> None:
        self.workspace = Workspace(folder)
        self.said: list[str] = []
        self.suite = SuiteProcess([START, event("restore[gpt]"), END])
        self.resolver = processes.Completed(argv=(), returncode=0, output="", seconds=0)
        self.wheel: Wheel | Unbuildable | None = None

    def run(self, argv: Sequence[str | os.PathLike[str]], **options: Any) -> processes.Completed:
        if is_suite(argv):
            return self.suite(argv, **options)
        words = [os.fspath(word) for word in argv]
        if "compile" in words and self.resolver.ok:
            out = Path(words[words.index("--output-file") + 1])
            out.write_text(pylock(f"torch==2.9.1 --hash=sha256:{'0' * 64}\n"))
        return self.resolver

    def context(self, declared: Matrix | None = None) -> Context:
        return Context(
            workspace=self.workspace,
            matrix=declared or snapshot.matrix(),
            releases=snapshot.releases(),
            run=self.run,
            say=self.said.append,
            uv=Path("uv"),
        )

    def stored(self, device: str = "host") -> Result:
        return store.load(result_path(CELL, device, self.workspace.results))


@pytest.fixture
def stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stages:
    found = Stages(tmp_path / "workspace")
    monkeypatch.setenv("MCORE_COMPAT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(machine, "device_class", lambda: "host")
    monkeypatch.setattr(
        pipeline.interpreters, "find", lambda series, run, uv: Path("/usr/bin/python3")
    )
    monkeypatch.setattr(
        pipeline, "wheels_of", lambda *_: found.wheel if found.wheel is not None else ()
    )
    there = creation.Environment(python=Path("python"), site=tmp_path, variables={}, reused=False)
    monkeypatch.setattr(creation, "ensure", lambda *_, **__: there)
    monkeypatch.setattr(creation, "tools", lambda *_, **__: tmp_path)
    (tmp_path / "home" / "envs").mkdir(parents=True)
    return found


def ran(stages: Stages, **options: Any) -> pipeline.Outcome:
    return pipeline.run_cell(CELL, Options(**options), stages.context())


def test_an_unbuildable_package_ends_the_cell_with_what_would_help(stages: Stages) -> None:
    key = Key(package="p", version="1", torch="2.9.1", python="3.12", cuda=12)
    stages.wheel = Unbuildable(key=key, reason="p 1 needs nvcc 12.4; found none", help="install it")
    outcome = ran(stages)
    assert outcome.result.outcome is CellOutcome.UNBUILDABLE
    assert outcome.result.reason is not None
    assert outcome.result.reason.help == "install it"
    assert stages.suite.runs == 0


def test_a_reason_names_no_folder_of_this_machine(stages: Stages) -> None:
    key = Key(package="p", version="1", torch="2.9.1", python="3.12", cuda=12)
    where = files.home() / "build" / "x" / "lib" / "python3.12" / "site-packages" / "te" / "a.so"
    stages.wheel = Unbuildable(key=key, reason=f"OSError: {where}: undefined symbol: b", help="")
    reason = ran(stages).result.reason
    assert reason is not None
    assert reason.message == "OSError: te/a.so: undefined symbol: b"


@pytest.mark.parametrize("cuda", ["12.4", "12.8"])
def test_a_name_means_the_same_whatever_toolkit_the_machine_has(
    cuda: str, stages: Stages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = dataclasses.replace(stages.context(), run=processes.run)
    names = [CELL, "compat-0.9-modelopt0.21", "compat-0.9-modelopt0.21-te1.13-torch2.5"]
    monkeypatch.setattr(toolkits, "_homes", lambda: iter(()))
    without = [pipeline.chosen(name, context) for name in names]
    monkeypatch.setattr(toolkits, "_homes", lambda: iter([toolkit(tmp_path / "cuda", cuda)]))
    assert toolkits.of_cuda(cuda, processes.run)
    assert [pipeline.chosen(name, context) for name in names] == without
    assert [cell.name for cell in without] == names
    assert without[2].te == "1.13.0"


@pytest.mark.parametrize(("kind", "is_error"), [("SIGKILL", True), ("SIGSEGV", False)])
def test_a_check_that_the_machine_killed_for_memory_is_no_verdict(
    kind: str, is_error: bool, stages: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = iter([3, 4])  # stands in for the kernel's count, before the suite and after
    monkeypatch.setattr(memory, "kills", lambda: next(counted))
    died = event("restore[gpt]", "broken")
    died["outcome"], died["failure"]["type"] = "crashed", kind
    stages.suite.events = [START, event("build-default[gpt]"), died, END]
    if is_error:
        with pytest.raises(InfrastructureError, match="ran out of memory"):
            ran(stages)
        assert stages.stored().outcome is CellOutcome.ERROR
        assert [c.check for c in stages.stored().checks] == ["build-default[gpt]"]
    else:
        assert ran(stages).result.outcome is CellOutcome.INCOMPATIBLE


@pytest.fixture
def gpu(stages: Stages, monkeypatch: pytest.MonkeyPatch) -> Stages:
    """The same on what stands in for a machine with a driver, but no nvidia-smi."""
    monkeypatch.setattr(machine, "device_class", lambda: "gpu")
    monkeypatch.setattr(gpu_slots.shutil, "which", lambda name: None)
    monkeypatch.setattr(machine, "lent_none", lambda environ: False)
    return stages


def test_a_gpu_that_fails_is_no_verdict_of_the_cell(gpu: Stages) -> None:
    failed = event("restore[gpt]", "broken")
    failed["failure"].update(
        type="AcceleratorError", message="CUDA error: uncorrectable ECC error encountered"
    )
    start = {**START, "device_class": "gpu"}
    gpu.suite.events = [start, event("build-default[gpt]"), failed, event("x[gpt]"), END]
    with pytest.raises(InfrastructureError, match="uncorrectable ECC error") as caught:
        ran(gpu)
    assert caught.value.exit_code == 3
    stored = gpu.stored("gpu")
    assert stored.outcome is CellOutcome.ERROR
    assert [c.check for c in stored.checks] == ["build-default[gpt]"]


def test_a_suite_that_finds_no_gpu_where_one_was_taken_is_no_result_of_a_host(
    gpu: Stages,
) -> None:
    with pytest.raises(InfrastructureError, match="no GPU can be used"):
        ran(gpu)
    assert not gpu.workspace.results.exists()


def test_the_kernels_count_is_read(tmp_path: Path) -> None:
    vmstat = tmp_path / "vmstat"
    vmstat.write_text("pgfault 12\noom_kill 5\noom_kill_x 7\n")
    assert memory.kills(vmstat) == 5
    assert memory.kills(tmp_path / "absent") == 0


@pytest.mark.parametrize("locked", [True, False])
def test_a_lock_just_made_of_other_files_than_the_index_has_is_not_kept(
    locked: bool, stages: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = stages.workspace.lock(CELL)
    if locked:
        pipeline.lock_of(pipeline.chosen(CELL, stages.context()), stages.context())

    def wrong(*_: object, **__: object) -> None:
        raise WrongFileError("the index has another file")

    monkeypatch.setattr(creation, "ensure", wrong)
    with pytest.raises(WrongFileError):
        ran(stages)
    assert lock.exists() == locked


class TestWhatIsThereAlready:
    """A result of the same lock and suite is not lost to a run that fares worse."""

    def unbuildable(self, stages: Stages) -> None:
        key = Key(package="p", version="1", torch="2.9.1", python="3.12", cuda=12)
        stages.wheel = Unbuildable(key=key, reason="p 1 does not link", help="")

    def test_what_was_built_once_is_never_unbuildable(self, stages: Stages) -> None:
        good = ran(stages).result
        self.unbuildable(stages)
        with pytest.raises(InfrastructureError, match="was built and run with the same lock"):
            ran(stages, force=True)
        assert stages.stored().taken == good.taken

    def test_a_part_of_the_checks_stores_nothing_however_it_ends(
        self, stages: Stages, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # No index is here to hold the resolver's refusal against.
        monkeypatch.setattr(refusal, "contradiction", lambda *_: None)
        self.unbuildable(stages)
        assert ran(stages, only="restore*").result.outcome is CellOutcome.UNBUILDABLE
        assert not stages.workspace.results.exists()
        stages.wheel = None
        stages.workspace.lock(CELL).unlink()
        stages.resolver = processes.Completed(
            argv=(), returncode=1, output="No solution found: a needs b", seconds=0
        )
        assert ran(stages, only="restore*").result.outcome is CellOutcome.UNRESOLVABLE
        assert not stages.workspace.results.exists()

    def test_what_it_says_otherwise_is_asked_a_second_time(self, stages: Stages) -> None:
        ran(stages)
        stages.suite.events[1] = event("restore[gpt]", "broken")
        assert ran(stages, force=True).result.outcome is CellOutcome.INCOMPATIBLE
        assert stages.suite.runs == 3

    def test_what_it_says_as_well_is_not(self, stages: Stages) -> None:
        ran(stages)
        ran(stages, force=True)
        assert stages.suite.runs == 2


def test_the_lock_of_further_pins_does_not_depend_on_whether_their_cell_has_one(
    stages: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = stages.context()
    name = f"{CELL}-with-transformers@4.57.x"
    made: list[tuple[str, str]] = []

    def make(cell: Cell, *_: Any, near: Lock | None = None, **__: Any) -> Lock:
        made.append((cell.name, near.cell if near else ""))
        none = {"exclude_newer": "", "axes": {}, "pins": (), "source_only": ()}
        return Lock(cell=cell.name, text="", **none)

    monkeypatch.setattr(pipeline.resolution, "make", make)
    pipeline.lock_of(pipeline.chosen(name, here), here)
    assert made == [(CELL, ""), (name, CELL)]
    assert not stages.workspace.lock(CELL).exists()


@pytest.mark.parametrize(("pin", "again"), [("4.57.1", False), ("4.57.x", True)])
def test_an_unresolvable_pin_of_a_series_is_resolved_again(
    pin: str, again: bool, stages: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later release of the series may install, and the date of the lock is that of the newest."""
    tries: list[str] = []

    def make(cell: Cell, *_: Any, **__: Any) -> resolution.Unresolvable:
        tries.append(cell.name)
        return resolution.Unresolvable(reason="a needs b")

    monkeypatch.setattr(resolution, "make", make)
    name = f"{CELL}-with-transformers@{pin}"
    for _ in range(2):
        outcome = pipeline.run_cell(name, Options(), stages.context())
        assert outcome.result.outcome is CellOutcome.UNRESOLVABLE
    assert tries.count(name) == 1 + again
    assert outcome.fresh is not again
