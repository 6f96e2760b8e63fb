"""Parts of the suite that are run by themselves, the host's side. All evidence here is made up."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from parts_support import ONE, taken
from support import ROOT, START, event, stand_in_cell

from mcore_compat import cli
from mcore_compat.base import processes
from mcore_compat.base.errors import EvidenceError, InfrastructureError
from mcore_compat.publish import part_reports
from mcore_compat.results.evidence import Evidence
from mcore_compat.run import cells, memory, pipeline
from mcore_compat.run import part as running
from mcore_compat.run import part_results as results
from mcore_compat.run.check_sets import GPU, PARTS, RANKS, Part


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Parts keep their evidence here."""
    monkeypatch.setattr(Part, "folder", property(lambda part: tmp_path / part.name))
    return tmp_path


def test_both_sides_mean_the_same_folders_and_words() -> None:
    if str(ROOT) not in sys.path:
        sys.path.append(str(ROOT))  # `suite` is not installed
    from suite.gpu import conftest

    assert conftest.MEMORY == part_reports.MEMORY
    for part in PARTS.values():
        assert list(part.checks.glob("check_*.py"))


def test_a_part_is_stale_with_its_own_checks_and_those_of_the_suite(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = RANKS.digest()
    assert before != GPU.digest()
    monkeypatch.setattr(pipeline, "suite_digest", lambda: "another")
    assert RANKS.digest() != before


def test_the_main_evidence_does_not_know_of_parts(folder: Path) -> None:
    results.save(taken(ONE), RANKS)
    assert not list(folder.glob(f"compat-*{'/'}*.json"))
    assert results.path_of(RANKS, "c", "gpu").parent.parent == folder


def test_evidence_is_read_as_it_was_written(folder: Path) -> None:
    found = taken(ONE, event("restore-pp1-to-pp2[gpt]", "broken"))
    results.save(found, RANKS)
    assert results.load_all(RANKS) == (found,)
    assert results.load_all(GPU) == ()
    assert found.checks[1].details == {"tensors": 3}
    path = results.path_of(RANKS, found.cell, "host")
    assert path.read_text() == results.dumps(results.load(path))


def test_evidence_is_fresh_of_its_lock_and_its_checks_alone() -> None:
    found = taken(ONE)
    assert found.fresh(lock="l", digest="d")
    assert not found.fresh(lock="other", digest="d")
    assert not found.fresh(lock="l", digest="other")
    assert not taken(ONE, end=False).fresh(lock="l", digest="d")


def test_what_was_broken_on_purpose_is_no_evidence() -> None:
    with pytest.raises(EvidenceError, match="swap-shards"):
        taken({**ONE, "details": {"sabotage": "swap-shards"}})


def test_what_was_cut_short_never_replaces_what_was_whole_and_still_holds(folder: Path) -> None:
    whole = taken(ONE)
    results.save(whole, RANKS)
    results.save(taken(ONE, end=False), RANKS)
    assert results.load_all(RANKS) == (whole,)
    short = replace(taken(ONE, end=False), digest="newer")
    results.save(short, RANKS)
    assert results.load_all(RANKS) == (short,)
    results.save(whole, RANKS)
    assert results.load_all(RANKS) == (whole,)


def test_runs_of_some_checks_add_up_and_the_latest_counts(folder: Path) -> None:
    a, b = event("a[gpt]", "broken"), event("b[gpt]")
    for events in ((a,), (b,), (event("a[gpt]"),)):
        results.save(taken(*events, end=False), RANKS)
    (found,) = results.load_all(RANKS)
    assert [(c.check, c.outcome.value) for c in found.checks] == [
        ("a[gpt]", "works"),
        ("b[gpt]", "works"),
    ]
    assert not found.complete
    assert not found.fresh(lock="l", digest="d")


@pytest.mark.parametrize(
    "other", [{"lock": "other"}, {"digest": "other"}, {"platform": {"gpu": "another"}}]
)
def test_runs_of_other_checks_locks_and_machines_do_not_add_up(
    folder: Path, other: dict[str, Any]
) -> None:
    results.save(replace(taken(event("a[gpt]"), end=False), **other), RANKS)
    after = taken(event("b[gpt]"), end=False)
    results.save(after, RANKS)
    assert results.load_all(RANKS) == (after,)


@pytest.mark.parametrize(
    "harm",
    [
        lambda text: text[:-30],
        lambda text: text.replace('"format": 1', '"format": 2'),
        lambda text: text.replace('"works"', '"fine"'),
        lambda text: text.replace('"host"', '"tpu"'),
        lambda text: text.replace('"ranks"', '"gpu"'),
        lambda text: "[]",
    ],
)
def test_a_file_that_is_not_whole_is_named(folder: Path, harm: Any) -> None:
    found = taken(ONE)
    results.save(found, RANKS)
    path = results.path_of(RANKS, found.cell, "host")
    path.write_text(harm(path.read_text()))
    with pytest.raises(EvidenceError, match=rf"reports/ranks/{found.cell}\.host\.json"):
        results.load_all(RANKS)
    short = taken(ONE, end=False)
    results.save(short, RANKS)
    assert results.load_all(RANKS) == (short,)


def test_a_whole_run_lacks_the_parts_that_are_missing_stale_or_corrupt(folder: Path) -> None:
    wanted, cell = results.wanted("gpu"), stand_in_cell().name
    assert results.wanted("host") == {}
    assert wanted == {part.name: part.digest() for part in PARTS.values()}

    def lacking() -> tuple[str, ...]:
        return results.lacking(cell, device_class="gpu", lock="l", wanted=wanted)

    assert lacking() == ("ranks", "gpu")
    for part in PARTS.values():
        results.save(replace(taken(ONE, part=part, device="gpu"), digest=part.digest()), part)
    assert lacking() == ()
    results.save(replace(taken(ONE, part=GPU, device="gpu"), digest="older"), GPU)
    results.path_of(RANKS, cell, "gpu").write_text("{")
    assert lacking() == ("ranks", "gpu")
    assert results.lacking(cell, device_class="gpu", lock="l", wanted={}) == ()


# In a cell, with stand-ins for its environment, the devices and the suite


class Cell:
    """What the suite says, what it was run with, and which devices were held meanwhile."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.held: dict[str, Any] = {}
        self.options: dict[str, Any] = {}

    def suite(self, *, on_event: Any, **options: Any) -> processes.Completed:
        self.options = {**options, "held": dict(self.held)}
        for one in self.events:
            on_event(one)
        return processes.Completed(argv=(), returncode=0, output="", seconds=1)

    @contextlib.contextmanager
    def slot(self, need: int, *_: Any, **options: Any) -> Iterator[dict[str, str]]:
        self.held = {"need": need, **options}
        yield {"CUDA_VISIBLE_DEVICES": "GPU-1,GPU-2"}
        self.held = {}


@pytest.fixture
def cell(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Cell:
    made = Cell()
    lock = SimpleNamespace(digest="l")
    there = SimpleNamespace(python=folder, variables={"A": "b"})
    monkeypatch.setattr(pipeline, "device_class", lambda: "gpu")
    monkeypatch.setattr(running, "lock_of", lambda *_: lock)
    monkeypatch.setattr(
        running, "environment_of", lambda *_: contextlib.nullcontext((there, folder))
    )
    monkeypatch.setattr(running.gpu_slots, "slot", made.slot)
    monkeypatch.setattr(running.runner, "run_suite", made.suite)
    made.events = [{**START, "device_class": "gpu"}, ONE, {"event": "end", "seconds": 1.0}]
    return made


def run(part: Part, only: str | None = None) -> Evidence:
    here: Any = SimpleNamespace(
        matrix=SimpleNamespace(gpu_memory=8192), run=None, say=lambda line: None
    )
    return running.run(stand_in_cell(), part, pipeline.Options(only=only), here)


@pytest.mark.parametrize(("part", "count"), [(GPU, 1), (RANKS, 2)])
def test_a_part_holds_as_many_devices_as_it_takes_while_it_runs(
    part: Part, count: int, cell: Cell
) -> None:
    assert run(part).complete
    assert cell.options["held"] == {"need": 8192, "gpu": True, "count": count}
    assert cell.options["variables"] == {"A": "b", "CUDA_VISIBLE_DEVICES": "GPU-1,GPU-2"}
    assert cell.options["limit"] == part.limit
    assert cell.held == {}


def test_as_many_devices_as_ranks() -> None:
    if str(ROOT) not in sys.path:
        sys.path.append(str(ROOT))  # `suite` is not installed
    from suite.ranks import launch

    assert RANKS.devices == launch.RANKS


def test_a_part_of_which_some_checks_are_asked_is_stored_as_incomplete(cell: Cell) -> None:
    found = run(GPU, only="restore")
    assert not found.complete
    assert results.load_all(GPU) == (found,)
    assert any("incomplete" in line for line in cells.part_lines(found))
    assert not any("incomplete" in line for line in cells.part_lines(run(GPU)))
    run(GPU, only="restore")
    assert results.load_all(GPU)[0].complete


@pytest.mark.parametrize("end", [InfrastructureError("its limit"), KeyboardInterrupt()])
def test_a_part_that_is_cut_short_leaves_what_was_learnt(
    cell: Cell, end: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    def suite(**options: Any) -> None:
        cell.suite(**options)
        raise end

    cell.events.pop()
    monkeypatch.setattr(running.runner, "run_suite", suite)
    with pytest.raises(type(end)):
        run(GPU)
    (found,) = results.load_all(GPU)
    assert [check.check for check in found.checks] == [ONE["check"]]
    assert not found.complete


def test_a_part_that_the_machine_fails_keeps_the_checks_before_it(cell: Cell) -> None:
    lost = event("x[gpt]", "broken")
    lost["failure"].update(type="OutOfMemoryError", message="CUDA out of memory. Tried to")
    cell.events[2:2] = [lost]
    with pytest.raises(InfrastructureError):
        run(GPU)
    assert [check.check for check in results.load_all(GPU)[0].checks] == [ONE["check"]]


def test_a_part_whose_only_check_the_machine_fails_is_an_error_and_nothing_is_stored(
    cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = event("x[gpt]", "broken")
    lost["failure"].update(type="OutOfMemoryError", message="CUDA out of memory. Tried to")
    killed = event("x[gpt]", "crashed")
    killed["failure"] = {**lost["failure"], "type": "SIGKILL", "message": "killed by SIGKILL"}
    counted = iter([3, 3, 4])  # stands in for the kernel's count, for the first run and the second
    monkeypatch.setattr(memory, "kills", lambda: next(counted))
    for one in (lost, killed):
        cell.events[1:2] = [one]
        with pytest.raises(InfrastructureError):
            run(GPU)
    assert results.load_all(GPU) == ()


def test_a_part_that_finds_no_gpu_is_an_error(cell: Cell) -> None:
    cell.events[0] = START
    with pytest.raises(InfrastructureError, match="no GPU that can be used"):
        run(GPU)


# The command line


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was run, with stand-ins for all that runs."""
    done: list[str] = []

    def main(name: str, *_: Any) -> int:
        done.append("main")
        return 0

    def part(cell: Any, which: Part, *_: Any) -> Evidence:
        done.append(which.name)
        broken = event("x[gpt]", "broken")
        return taken(broken if which is GPU else ONE, part=which)

    monkeypatch.setattr(cells, "run_suite", main)
    monkeypatch.setattr(running, "run", part)
    monkeypatch.setattr(running, "kept", lambda *_: None)
    monkeypatch.setattr(cells, "installed", lambda cell: True)
    return done


def ask(*words: str) -> int:
    return cli.main(["run", "0.16-modelopt0.41", "--limit", "9", *words])


def test_parts_are_chosen_by_name(ran: list[str]) -> None:
    ask("--gpu", "--ranks")
    assert ran == [*PARTS]


def test_a_part_is_run_in_place_of_the_main_suite(
    ran: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask("--ranks") == 0
    assert ran == ["ranks"]
    assert "ranks, device class host: ✓ works 1" in capsys.readouterr().out
    assert ask("--gpu") == 1


def test_on_a_host_a_whole_run_has_no_parts(
    ran: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "device_class", lambda: "host")
    assert ask() == 0
    assert ran == ["main"]


def test_with_a_gpu_a_whole_run_has_all_parts_but_not_a_run_of_some_checks(
    ran: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "device_class", lambda: "gpu")
    assert ask() == 1
    assert ran == ["main", "ranks", "gpu"]
    ask("--only", "restore")
    assert ran[3:] == ["main"]
    monkeypatch.setattr(cells, "installed", lambda cell: False)
    assert ask() == 0
    assert ran[4:] == ["main"]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["compat-0.99-modelopt0.41"], "0.99"),
        *((["--limit", limit], "--limit: a time limit") for limit in ("0", "nan", "inf")),
    ],
)
def test_a_wrong_name_or_limit_runs_nothing(
    words: list[str], why: str, ran: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["run", "0.16-modelopt0.41", "--gpu", *words]) == 2
    assert why in capsys.readouterr().err
    assert ran == []
