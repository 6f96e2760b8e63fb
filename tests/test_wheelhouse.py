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
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st
from support import stand_in_cell
from wheelhouse_support import (
    CONV,
    MAMBA,
    TE,
    StandIn,
    built,
    ended,
    job_of,
    left_behind,
    sources,
    stand_in,
    surroundings,
)

from mcore_compat.base import files, processes
from mcore_compat.base.errors import InfrastructureError, UsageError
from mcore_compat.environments import (
    build_folder,
    process_variables,
    recipes,
    toolkits,
    wheelhouse,
)
from mcore_compat.environments.recipes import RECIPES
from mcore_compat.environments.toolkits import Toolkit
from mcore_compat.environments.wheelhouse import Key, Wheel
from mcore_compat.index import package_index


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
    assert RECIPES[TE.name].module in tools.seen["import"][0][-1]


def test_a_build_leaves_a_wheel_and_its_record_and_nothing_else(tools: StandIn) -> None:
    wheel = built(tools)
    assert left_behind() == ["build.json", wheel.path.name]
    record = json.loads((wheel.path.parent / "build.json").read_text())
    assert record["wheel"] == wheel.path.name
    assert record["sha256"] == wheel.sha256
    assert record["key"] == str(wheel.key)
    assert record["source_sha256"] == list(TE.hashes)


def test_what_a_killed_build_left_goes_with_the_next_build_of_the_same_wheel(
    tools: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = files.home() / "build"

    def killed(*_: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(wheelhouse, "record", killed)
        with pytest.raises(SystemExit):
            built(tools)
    (work / "another-build").mkdir()
    assert len(list(work.iterdir())) == 2
    built(tools)
    assert [path.name for path in work.iterdir()] == ["another-build"]


def test_a_build_that_was_cut_off_goes_on_in_its_folder(tools: StandIn) -> None:
    tools.ends["build"] = ended("[2/9] c++ -c ext.cpp", -9, timed_out=True)
    with pytest.raises(InfrastructureError, match="limit"):
        built(tools)
    (compiled,) = (files.home() / "build").glob("*/source/*/setup.py")
    (compiled.parent / "compiled.o").touch()
    tools.ends.clear()
    tools.steps.clear()
    built(tools)
    assert tools.steps == ["build", "try", "import"], "its environment was there"
    assert tools.seen["build"][0][-1] == str(compiled.parent)
    assert not list((files.home() / "build").iterdir())


def test_folders_that_no_build_goes_on_from_are_swept(tools: StandIn) -> None:
    """Whose wheel is there by now, and whose build was cut off long ago; not one that somebody
    builds in, and not one that may go on."""
    there = built(tools)
    work, wheels = files.home() / "build", wheelhouse.folder()
    keys = {"done": str(there.key), "held": "held", "goes-on": "other", "old": "old", "bare": ""}
    for name, key in keys.items():
        (work / name).mkdir(parents=True)
        if key:
            (work / name / "stamp.txt").write_text(f"inputs {key}")
    for name in ("held", "old", "bare"):
        stamp = work / name / "stamp.txt"
        os.utime(stamp if stamp.exists() else work / name, (0, 0))
    (wheels / "held").mkdir()
    with FileLock(wheels / "held" / ".lock"):
        built(tools)
        assert sorted(path.name for path in work.iterdir()) == ["goes-on", "held"]
    built(tools)
    assert sorted(path.name for path in work.iterdir()) == ["goes-on"]


def test_a_build_of_other_inputs_begins_anew(
    tools: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools.ends["build"] = ended("", -9, timed_out=True)
    with pytest.raises(InfrastructureError, match="limit"):
        built(tools)
    tools.ends.clear()
    tools.steps.clear()
    monkeypatch.setattr(wheelhouse._Build, "inputs", "another lock")
    built(tools)
    assert "venv" in tools.steps


def test_kernels_are_built_for_the_gpu_of_another_machine_where_there_is_a_toolkit(
    tools: StandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    job = dataclasses.replace(job_of(tools), arch="sm_90")
    without = wheelhouse.ensure(CONV, job)
    assert isinstance(without, Wheel)
    assert without.key.variant == "-nocuda"
    there = Toolkit(home=tmp_path / "a toolkit", version="12.8")
    (there.home / "include" / "crt").mkdir(parents=True)
    monkeypatch.setattr(toolkits, "found", lambda run: (there,))
    made = wheelhouse.ensure(CONV, job)
    assert isinstance(made, Wheel)
    assert made.key.variant == "-sm_90"
    assert (
        f"exec '{there.home}/bin/nvcc' -gencode arch=compute_90,code=sm_90" in tools.texts["nvcc"]
    )
    assert tools.texts["headers"] == "crt"
    assert wheelhouse.keys_of(CONV, job.cell, "sm_90") == (made.key,)
    mamba = wheelhouse.ensure(MAMBA, job)
    assert isinstance(mamba, Wheel)
    assert mamba.key.variant == "-nocuda", "it needs none of its own"


def test_nvcc_for_one_architecture_drops_all_others(tmp_path: Path) -> None:
    (tmp_path / "nvcc").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / "nvcc").chmod(0o755)
    script = tmp_path / "one"
    script.write_text(recipes.ONE_ARCH_NVCC.format(nvcc=tmp_path / "nvcc", arch="90"))
    words = ["-gencode", "arch=compute_75,code=sm_75", "-O3", "-gencode=arch=compute_90,code=sm_90"]
    words += [
        "--generate-code",
        "arch=compute_100,code=sm_100",
        "-DNAME=a b",
        "-arch=sm_80",
        "-lineinfo",
        "x.cu",
    ]
    done = processes.run(["sh", script, *words], timeout=30)
    assert done.output.splitlines() == [
        "-gencode", "arch=compute_90,code=sm_90", "-O3", "-DNAME=a b", "x.cu",
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["0", "-1", "nan", "an hour"])
def test_a_limit_that_is_none_is_refused(
    tools: StandIn, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv(build_folder.LIMIT, text)
    with pytest.raises(UsageError, match=build_folder.LIMIT):
        built(tools)


def test_chosen_architectures_are_part_of_the_key_where_there_are_cuda_sources(
    tools: StandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NVTE_CUDA_ARCHS", "90;80")
    assert built(tools, TE).key.variant == ""
    assert "NVTE_CUDA_ARCHS" not in tools.seen["build"][1]
    other = dataclasses.replace(TE, version="2.2.0")
    sources(monkeypatch, "setup.py", "csrc/kernel.cu")
    monkeypatch.setattr(toolkits, "found", lambda run: (Toolkit(home=tmp_path, version="12.8"),))
    made = built(tools, other)
    assert made.key.variant == "-archs80+90"
    assert tools.seen["build"][1]["NVTE_CUDA_ARCHS"] == "80;90"


@pytest.mark.parametrize(
    ("driver", "arch", "told", "key"),
    [
        (False, None, (), "-archs90"),
        (False, "sm_80", (), "-archs80"),
        (False, "", (), ""),
        (True, None, ("80", "90"), "-archs80+90"),
        (True, None, (), ""),
    ],
    ids=["no GPU", "of another machine", "of any", "its GPUs", "GPUs that nobody tells of"],
)
def test_no_more_architectures_are_compiled_than_are_of_use(
    driver: bool,
    arch: str | None,
    told: tuple[str, ...],
    key: str,
    tools: StandIn,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(process_variables, "has_driver", lambda: driver)
    monkeypatch.setattr(build_folder, "_of_gpus", lambda: told)
    sources(monkeypatch, "setup.py", "csrc/kernel.cu")
    monkeypatch.setattr(toolkits, "found", lambda run: (Toolkit(home=tmp_path, version="12.8"),))
    made = wheelhouse.ensure(TE, dataclasses.replace(job_of(tools), arch=arch))
    assert isinstance(made, Wheel)
    assert made.key.variant == key
    assert made.key in wheelhouse.keys_of(TE, stand_in_cell(), arch)
    asked = tools.seen["build"][1].get("NVTE_CUDA_ARCHS", "")
    assert asked == key.removeprefix("-archs").replace("+", ";")


def test_a_wheel_with_all_architectures_serves_who_asked_for_none(
    tools: StandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sources(monkeypatch, "setup.py", "csrc/kernel.cu")
    monkeypatch.setattr(toolkits, "found", lambda run: (Toolkit(home=tmp_path, version="12.8"),))
    with monkeypatch.context() as patch:
        patch.setattr(process_variables, "has_driver", lambda: True)
        patch.setattr(build_folder, "_of_gpus", lambda: ())
        whole = built(tools, TE)
    assert built(tools, TE) == whole
    monkeypatch.setenv("NVTE_CUDA_ARCHS", "80")
    assert built(tools, TE).key.variant == "-archs80"


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
    with pytest.raises(
        InfrastructureError, match="build environment could not be made: connection reset"
    ):
        built(tools)
    assert tools.count == 0
    assert left_behind() == []


def test_a_source_that_cannot_be_downloaded_is_no_verdict(
    tools: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object) -> Path:
        raise InfrastructureError("the index did not answer")

    monkeypatch.setattr(package_index, "download_sdist", unreachable)
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
