"""The check sets beside the main one, the host's side. All results here are made up."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import snapshot
from engine_support import END, SuiteProcess
from parts_support import ONE, taken
from support import ROOT, START, event, stand_in_cell

from mcore_compat.base import processes
from mcore_compat.base.errors import InfrastructureError, ResultError
from mcore_compat.core.workspace import Workspace
from mcore_compat.environments import creation
from mcore_compat.publish import part_reports
from mcore_compat.resolve.locks import Lock
from mcore_compat.results import store
from mcore_compat.results.result import Result, out_of_date, result_path
from mcore_compat.run import cells, gpu_slots, machine, memory, pipeline
from mcore_compat.run.check_sets import EXCHANGE, GPU, MAIN, ON_A_GPU, RANKS, CheckSet
from mcore_compat.run.context import Context, Options


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    """A workspace, empty, with the checkout's suite."""
    return Workspace(tmp_path / "workspace")


def stored(place: Workspace, part: CheckSet) -> tuple[Result, ...]:
    return store.load_all(place.results, part.name)


def keep(found: Result, place: Workspace) -> Path:
    return store.save(found, place.results)


def is_fresh(found: Result, *, lock: str = "l", suite: str = "d") -> bool:
    return not out_of_date(found, lock=lock, suite=suite, python="3.12")


def test_both_sides_mean_the_same_folders_and_words() -> None:
    if str(ROOT) not in sys.path:
        sys.path.append(str(ROOT))  # `suite` is not installed
    from suite.gpu import conftest

    assert conftest.MEMORY == part_reports.MEMORY
    for part in (*ON_A_GPU.values(), EXCHANGE):
        assert list(part.folder(ROOT / "suite").glob("check_*.py"))


def test_a_part_is_stale_with_its_own_checks_and_those_of_the_suite(tmp_path: Path) -> None:
    for name in ("run.py", "ranks/check_it.py", "gpu/check_it.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    sets = (MAIN, RANKS, GPU)

    def changed(name: str) -> list[bool]:
        before = [one.digest(tmp_path) for one in sets]
        assert len({*before}) == 3
        (tmp_path / name).write_text("2")
        return [one.digest(tmp_path) != old for one, old in zip(sets, before, strict=True)]

    assert changed("run.py") == [True, True, True]
    assert changed("ranks/check_it.py") == [False, True, False]
    assert changed("gpu/check_it.py") == [False, False, True]


def test_the_main_result_does_not_know_of_parts(place: Workspace) -> None:
    path = keep(taken(ONE), place)
    assert path == place.results / taken(ONE).cell / "ranks.host.json"
    assert store.load_all(place.results) == ()
    assert not cells.installed(stand_in_cell(), place)
    assert cells.other_results(place.results) == ()


def test_a_result_is_read_as_it_was_written(place: Workspace) -> None:
    found = taken(ONE, event("restore-pp1-to-pp2[gpt]", "broken"))
    path = keep(found, place)
    assert stored(place, RANKS) == (found,)
    assert stored(place, GPU) == ()
    assert found.checks[1].details == {"tensors": 3}
    assert path.read_text() == store.dumps(store.load(path))


def test_a_result_is_fresh_of_its_lock_and_its_checks_alone() -> None:
    found = taken(ONE)
    assert is_fresh(found)
    assert not is_fresh(found, lock="other")
    assert not is_fresh(found, suite="other")
    assert not is_fresh(taken(ONE, end=False))


def test_what_was_broken_on_purpose_is_no_result() -> None:
    with pytest.raises(ResultError, match="swap-shards"):
        taken({**ONE, "details": {"sabotage": "swap-shards"}})


def test_what_was_cut_short_never_replaces_what_was_whole_and_still_holds(
    place: Workspace,
) -> None:
    whole = taken(ONE)
    keep(whole, place)
    keep(taken(ONE, end=False), place)
    assert stored(place, RANKS) == (whole,)
    short = replace(taken(ONE, end=False), suite="newer")
    keep(short, place)
    assert stored(place, RANKS) == (short,)
    keep(whole, place)
    assert stored(place, RANKS) == (whole,)


def test_runs_of_some_checks_add_up_and_the_latest_counts(place: Workspace) -> None:
    a, b = event("a[gpt]", "broken"), event("b[gpt]")
    for events in ((a,), (b,), (event("a[gpt]"),)):
        keep(taken(*events, end=False), place)
    (found,) = stored(place, RANKS)
    assert [(c.check, c.outcome.value) for c in found.checks] == [
        ("a[gpt]", "works"),
        ("b[gpt]", "works"),
    ]
    assert not found.complete
    assert not is_fresh(found)


@pytest.mark.parametrize(
    "other", [{"lock": "other"}, {"suite": "other"}, {"platform": {"gpu": "another"}}]
)
def test_runs_of_other_checks_locks_and_machines_do_not_add_up(
    place: Workspace, other: dict[str, Any]
) -> None:
    keep(replace(taken(event("a[gpt]"), end=False), **other), place)
    after = taken(event("b[gpt]"), end=False)
    keep(after, place)
    assert stored(place, RANKS) == (after,)


@pytest.mark.parametrize(
    "harm",
    [
        lambda text: text[:-30],
        lambda text: text.replace('"format": 2', '"format": 3'),
        lambda text: text.replace('"works"', '"fine"'),
        lambda text: text.replace('"host"', '"tpu"'),
        lambda text: text.replace('"ranks"', '"gpu"'),
        lambda text: "[]",
    ],
)
def test_a_file_that_is_not_whole_is_named(place: Workspace, harm: Any) -> None:
    found = taken(ONE)
    path = keep(found, place)
    before = path.read_text()
    path.write_text(harm(before))
    assert path.read_text() != before
    with pytest.raises(ResultError, match=rf"{found.cell}/ranks\.host\.json") as caught:
        stored(place, RANKS)
    assert f"nox -s {found.cell} -- --ranks --publish --force" in str(caught.value)
    short = taken(ONE, end=False)
    keep(short, place)
    assert stored(place, RANKS) == (short,)


def test_a_whole_run_lacks_the_parts_that_are_missing_stale_or_corrupt(place: Workspace) -> None:
    digests = {name: part.digest(place.suite) for name, part in ON_A_GPU.items()}
    main = taken(ONE, part=MAIN, device="gpu")

    def lacking() -> tuple[str, ...]:
        return pipeline.lacking(main, digests, place)

    assert lacking() == ("ranks", "gpu")
    for name, part in ON_A_GPU.items():
        keep(replace(taken(ONE, part=part, device="gpu"), suite=digests[name]), place)
    assert lacking() == ()
    older = replace(taken(ONE, part=GPU, device="gpu"), suite="older")
    keep(older, place)
    result_path(main.cell, "gpu", place.results, "ranks").write_text("{")
    assert lacking() == ("ranks", "gpu")
    assert pipeline.lacking(main, {}, place) == ()


# In a cell, with stand-ins for its environment, the devices and the suite


class Cell:
    """A cell whose suite stands in: what it was run with, and which devices were held meanwhile."""

    def __init__(self, place: Workspace) -> None:
        gpu = {**START, "device_class": "gpu"}
        self.suite = SuiteProcess([gpu, ONE, END])
        self.held: dict[str, Any] = {}
        self.held_then: dict[str, Any] = {}
        self.place = place

    def run(self, argv: Any, **options: Any) -> processes.Completed:
        self.held_then = dict(self.held)
        return self.suite(argv, **options)

    @contextlib.contextmanager
    def slot(self, need: int, *_: Any, **options: Any) -> Iterator[dict[str, str]]:
        self.held = {"need": need, **options}
        yield {"CUDA_VISIBLE_DEVICES": "GPU-1,GPU-2"}
        self.held = {}


@pytest.fixture
def cell(place: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cell:
    monkeypatch.setenv("MCORE_COMPAT_HOME", str(tmp_path / "home"))
    (tmp_path / "home" / "envs").mkdir(parents=True)
    made = Cell(place)
    there = creation.Environment(
        python=tmp_path / "python", site=tmp_path, variables={"A": "b"}, reused=False
    )
    lock = Lock(
        cell=stand_in_cell().name,
        text="l",
        exclude_newer="",
        axes=stand_in_cell().pins,
        pins=(),
        source_only=(),
    )
    monkeypatch.setattr(machine, "device_class", lambda: "gpu")
    monkeypatch.setattr(pipeline, "lock_of", lambda *_: lock)
    monkeypatch.setattr(pipeline.interpreters, "find", lambda *_: tmp_path / "python")
    monkeypatch.setattr(creation, "ensure", lambda *_, **__: there)
    monkeypatch.setattr(creation, "tools", lambda *_, **__: tmp_path)
    monkeypatch.setattr(gpu_slots, "slot", made.slot)
    return made


def run(cell: Cell, part: CheckSet, only: str | None = None) -> Result:
    here = Context(
        workspace=cell.place,
        matrix=replace(snapshot.matrix(), gpu_memory=8192),
        releases=snapshot.releases(),
        run=cell.run,
        say=lambda line: None,
        uv=Path("uv"),
    )
    options = Options(only=only, force=True)
    return pipeline.run_part(stand_in_cell(), part, options, here).result


@pytest.mark.parametrize(("part", "count"), [(GPU, 1), (RANKS, 2)])
def test_a_part_holds_as_many_devices_as_it_takes_while_it_runs(
    part: CheckSet, count: int, cell: Cell
) -> None:
    assert run(cell, part).complete
    assert cell.held_then == {"need": 8192, "gpu": True, "count": count}
    ours = {"TMPDIR", "TORCHINDUCTOR_CACHE_DIR", "TORCH_EXTENSIONS_DIR"}
    given = {name: v for name, v in cell.suite.options["env"].items() if name not in ours}
    assert given == {"A": "b", "CUDA_VISIBLE_DEVICES": "GPU-1,GPU-2"}
    assert cell.suite.options["timeout"] == part.limit
    assert cell.suite.after("--checks") == str(part.folder(ROOT / "suite"))
    assert cell.held == {}


def test_as_many_devices_as_ranks() -> None:
    if str(ROOT) not in sys.path:
        sys.path.append(str(ROOT))  # `suite` is not installed
    from suite.ranks import launch

    assert RANKS.devices == launch.RANKS


def test_a_part_of_which_some_checks_are_asked_is_stored_as_incomplete(cell: Cell) -> None:
    found = run(cell, GPU, only="restore")
    assert cell.suite.after("--only") == "restore"
    assert not found.complete
    assert stored(cell.place, GPU) == (found,)
    assert any("incomplete" in line for line in cells.part_lines(found))
    assert not any("incomplete" in line for line in cells.part_lines(run(cell, GPU)))
    run(cell, GPU, only="restore")
    assert stored(cell.place, GPU)[0].complete


@pytest.mark.parametrize("end", [InfrastructureError("its limit"), KeyboardInterrupt()])
def test_a_part_that_is_cut_short_leaves_what_was_learnt(cell: Cell, end: BaseException) -> None:
    cell.suite.events.pop()
    cell.suite.raises = end
    with pytest.raises(type(end)):
        run(cell, GPU)
    (found,) = stored(cell.place, GPU)
    assert [check.check for check in found.checks] == [ONE["check"]]
    assert not found.complete


def test_what_was_learnt_is_there_while_the_part_still_runs(cell: Cell) -> None:
    """Whatever ends this process, also by force, takes nothing of it away."""
    seen: list[tuple[str, ...]] = []

    def look(argv: Any, **options: Any) -> processes.Completed:
        line = options["on_line"]

        def on_line(text: str) -> None:
            line(text)
            seen.append(tuple(c.check for found in stored(cell.place, GPU) for c in found.checks))

        return cell.suite(argv, **{**options, "on_line": on_line})

    cell.run = look  # type: ignore[method-assign]
    cell.suite.events[2:2] = [event("x[gpt]")]
    run(cell, GPU)
    assert seen == [(), (ONE["check"],), (ONE["check"], "x[gpt]")]


def test_a_part_that_the_machine_fails_keeps_the_checks_before_it(cell: Cell) -> None:
    lost = event("x[gpt]", "broken")
    lost["failure"].update(type="OutOfMemoryError", message="CUDA out of memory. Tried to")
    cell.suite.events[2:2] = [lost]
    with pytest.raises(InfrastructureError):
        run(cell, GPU)
    assert [check.check for check in stored(cell.place, GPU)[0].checks] == [ONE["check"]]


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
        cell.suite.events[1:2] = [one]
        with pytest.raises(InfrastructureError):
            run(cell, GPU)
    assert stored(cell.place, GPU) == ()


def test_a_part_that_finds_no_gpu_is_an_error(cell: Cell) -> None:
    cell.suite.events[0] = START
    with pytest.raises(InfrastructureError, match="no GPU can be used"):
        run(cell, GPU)
