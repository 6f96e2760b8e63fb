"""A wheel is built once for its key, counts only when verified, and a full disk is no verdict.

Nothing is compiled here: a stand-in makes the files that uv, pip and the compiler would make.
"""

import dataclasses
import json
import multiprocessing
import os
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import stand_in_cell
from wheelhouse_support import (
    CONV,
    StandIn,
    built,
    ended,
    left_behind,
    stand_in,
    surroundings,
)

from mcore_compat import files, index, wheelhouse
from mcore_compat.errors import InfrastructureError
from mcore_compat.recipes import RECIPES
from mcore_compat.wheelhouse import Key


@pytest.fixture(autouse=True)
def _surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    surroundings(tmp_path, monkeypatch)


@pytest.fixture
def tools(tmp_path: Path) -> StandIn:
    return stand_in(tmp_path)


def test_a_wheel_is_built_once_and_then_taken(tools: StandIn) -> None:
    first = built(tools)
    steps = list(tools.steps)
    assert built(tools) == first
    assert tools.count == 1
    assert tools.steps == steps
    assert first.sha256 == files.sha256_file(first.path)


def test_a_build_installs_the_lock_and_imports_what_it_built(tools: StandIn) -> None:
    built(tools)
    assert tools.steps == ["venv", "prepare", "prepare", "build", "try", "import"]
    assert tools.texts["requirements"] == f"torch==2.9.1 --hash=sha256:{'ab' * 32}\n"
    assert RECIPES["causal-conv1d"].module in tools.seen["import"][0][-1]


def test_a_build_leaves_a_wheel_and_its_record_and_nothing_else(tools: StandIn) -> None:
    wheel = built(tools)
    assert left_behind() == ["build.json", wheel.path.name]
    record = json.loads((wheel.path.parent / "build.json").read_text())
    assert record["wheel"] == wheel.path.name
    assert record["sha256"] == wheel.sha256
    assert record["key"] == str(wheel.key)
    assert record["source_sha256"] == list(CONV.hashes)


def test_what_killed_builds_left_goes_with_the_next_build_of_the_same_wheel(
    tools: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = files.home() / "build"

    def killed(*_: object) -> None:
        (mine,) = work.iterdir()
        (work / f"{mine.name}-left").mkdir()  # one of its own is cleared, for it does not die
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(wheelhouse, "record", killed)
        with pytest.raises(SystemExit):
            built(tools)
    (work / "another-build").mkdir()
    assert len(list(work.iterdir())) == 2
    built(tools)
    assert [path.name for path in work.iterdir()] == ["another-build"]


@pytest.mark.parametrize(
    "other", [{"torch": "2.9.0"}, {"python": "3.11"}, {"cuda": 13}], ids=lambda o: next(iter(o))
)
def test_another_torch_python_or_cuda_never_meets_the_wheel(
    tools: StandIn, other: dict[str, str | int]
) -> None:
    first = built(tools)
    cell = dataclasses.replace(stand_in_cell(), **other)  # type: ignore[arg-type]
    second = built(tools, cell=cell)
    assert tools.count == 2
    assert second.path.parent != first.path.parent
    assert built(tools) == first
    assert built(tools, cell=cell) == second
    assert tools.count == 2


VERSIONS = st.sampled_from(["1", "1.1", "11", "1.11", "1.1.1", "1.1.post1", "2.9", "2.9.1"])
KEYS = st.builds(
    Key,
    package=st.sampled_from(sorted(RECIPES)),
    version=VERSIONS,
    torch=VERSIONS,
    python=st.sampled_from(["3.1", "3.11", "3.12"]),
    cuda=st.sampled_from([1, 12, 13]),
    variant=st.sampled_from(["", "-nocuda"]),
)


@pytest.mark.parametrize("name", [f.name for f in dataclasses.fields(Key)])
@given(one=KEYS, two=KEYS)
def test_keys_have_the_same_folder_only_if_they_are_the_same(name: str, one: Key, two: Key) -> None:
    near = dataclasses.replace(one, **{name: getattr(two, name)})
    assert (str(near) == str(one)) == (near == one)
    assert (str(two) == str(one)) == (two == one)


def test_a_wheel_whose_bytes_changed_is_built_anew(tools: StandIn) -> None:
    first = built(tools)
    first.path.write_text("changed behind our back")
    assert wheelhouse.lookup(first.key) is None
    assert built(tools) == first
    assert tools.count == 2
    assert "changed" not in first.path.read_text()


def test_a_wheel_that_is_gone_is_built_anew(tools: StandIn) -> None:
    first = built(tools)
    first.path.unlink()
    assert built(tools) == first
    assert tools.count == 2


@pytest.mark.parametrize("text", [None, "", "{", "{}", '{"wheel": "x"}'])
def test_a_wheel_without_a_whole_record_does_not_count(tools: StandIn, text: str | None) -> None:
    first = built(tools)
    record = first.path.parent / "build.json"
    record.unlink()
    if text is not None:
        record.write_text(text)
    assert wheelhouse.lookup(first.key) is None
    assert built(tools) == first
    assert tools.count == 2


@pytest.mark.parametrize("where", ["before the wheel is moved", "before the record is written"])
def test_a_build_killed_half_way_does_not_count(
    tools: StandIn, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if "moved" in where:
            patch.setattr(wheelhouse, "record", killed)
        else:
            patch.setattr(files, "write_text", killed)
        with pytest.raises(KeyboardInterrupt):
            built(tools)
    assert "build.json" not in left_behind()
    built(tools)
    assert tools.count == 2


@pytest.mark.parametrize("step", ["venv", "prepare"])
def test_a_build_environment_that_cannot_be_made_is_no_verdict(tools: StandIn, step: str) -> None:
    tools.ends[step] = ended("error: Failed to fetch torch\nconnection reset", 2)
    with pytest.raises(InfrastructureError, match="no build environment: connection reset"):
        built(tools)
    assert tools.count == 0
    assert left_behind() == []


def test_a_source_that_cannot_be_downloaded_is_no_verdict(
    tools: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object) -> Path:
        raise InfrastructureError("the index did not answer")

    monkeypatch.setattr(index, "download_sdist", unreachable)
    with pytest.raises(InfrastructureError, match="did not answer"):
        built(tools)
    assert tools.steps == []
    assert left_behind() == []


def ensure_in_a_process(barrier: Barrier, tools: StandIn, results: Path) -> None:
    """What each of two processes does at the same moment."""
    barrier.wait(timeout=20)
    wheel = built(tools)
    (results / str(os.getpid())).write_text(f"{wheel.path} {wheel.sha256}")


def test_two_processes_that_want_the_same_wheel_build_it_once(
    tools: StandIn, tmp_path: Path
) -> None:
    results = tmp_path / "results"
    results.mkdir()
    tools.slow = 0.2
    context = multiprocessing.get_context("fork")  # the stand-ins go along
    barrier = context.Barrier(2)
    children = [
        context.Process(target=ensure_in_a_process, args=(barrier, tools, results))
        for _ in range(2)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(timeout=30)
    assert [child.exitcode for child in children] == [0, 0]
    said = [path.read_text() for path in results.iterdir()]
    assert len(said) == 2
    assert len(set(said)) == 1
    assert tools.count == 1
