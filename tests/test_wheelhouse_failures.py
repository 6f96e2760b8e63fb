"""A build that fails is told by the line that matters; what the machine ended is no verdict.

Nothing is compiled here.
"""

import dataclasses
import json
import os
import time
import zipfile
from pathlib import Path

import pytest
from wheelhouse_support import (
    COMPILE_ERROR,
    CONV,
    LOCK,
    TE,
    StandIn,
    built,
    ended,
    job_of,
    left_behind,
    refused,
    sources,
    stand_in,
    surroundings,
)

from mcore_compat.base import files
from mcore_compat.base.errors import InfrastructureError
from mcore_compat.base.processes import Completed
from mcore_compat.environments import (
    build_folder,
    build_log,
    kept_wheels,
    process_variables,
    toolkits,
    wheelhouse,
)
from mcore_compat.environments.toolkits import Toolkit
from mcore_compat.environments.wheelhouse import Unbuildable


@pytest.fixture(autouse=True)
def _surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    surroundings(tmp_path, monkeypatch)


@pytest.fixture
def tools(tmp_path: Path) -> StandIn:
    return stand_in(tmp_path)


@pytest.mark.parametrize(
    ("log", "line"),
    [
        (
            "Processing ./causal_conv1d-1.5.0.tar.gz\n"
            "  building 'causal_conv1d_cuda' extension\n"
            "  csrc/other.cpp:9:1: error: '__half' does not name a type\n"
            f"  {COMPILE_ERROR}\n"
            "      7 | #include <cuda_fp16.h>\n"
            "  compilation terminated.\n"
            "  error: command '/usr/bin/g++' failed with exit code 1\n"
            "  error: subprocess-exited-with-error\n"
            "  ERROR: Failed building wheel for causal-conv1d\n",
            COMPILE_ERROR,
        ),
        (
            "  error: [Errno 2] No such file or directory: 'git'\n"
            "  ModuleNotFoundError: No module named 'optional'\n"
            "  [3/9] c++ -MMD -c ext.cpp -o ext.o\n"
            "  FAILED: ext.o\n"
            "  ext.cpp:12:5: error: 'at::Tensr' has not been declared\n"
            "  ninja: build stopped: subcommand failed.\n"
            "  RuntimeError: Error compiling objects for extension\n",
            "ext.cpp:12:5: error: 'at::Tensr' has not been declared",
        ),
        (
            "  error: subprocess-exited-with-error\n"
            "  Traceback (most recent call last):\n"
            '    File "setup.py", line 40, in <module>\n'
            "  RuntimeError: causal_conv1d is only supported on CUDA 11.6 and above.\n"
            "  note: This error originates from a subprocess\n",
            "RuntimeError: causal_conv1d is only supported on CUDA 11.6 and above.",
        ),
        (
            "  error: subprocess-exited-with-error\n"
            "  running build_ext\n"
            "  error: command '/usr/bin/g++' failed with exit code 1\n"
            "  ERROR: Failed building wheel for mamba-ssm\n",
            "error: command '/usr/bin/g++' failed with exit code 1",
        ),
        ("  one\n  two  \n\n", "two"),
        (f"ext.cpp:1:1: error: {'x' * 1000}", f"ext.cpp:1:1: error: {'x' * 280}"),
        ("\n \n", "the build printed nothing"),
    ],
    ids=["missing header", "compiler", "setup.py", "command", "no error", "long", "silent"],
)
def test_a_failed_build_names_the_line_that_matters(tools: StandIn, log: str, line: str) -> None:
    tools.ends["build"] = ended(log, 1)
    assert build_log.line_that_matters(log) == line
    assert refused(tools).reason == line


def test_a_failed_build_leaves_nothing_that_counts(tools: StandIn) -> None:
    tools.ends["build"] = ended(COMPILE_ERROR, 1)
    said = refused(tools)
    assert left_behind() == []
    assert wheelhouse.lookup(said.key) is None
    assert said.log.endswith("build.log")
    assert kept_wheels.failed_lately(str(said.key))
    old = time.time() - kept_wheels.REMEMBER_S
    os.utime(Path(said.log).parent / "failed.json", (old, old))
    assert not kept_wheels.failed_lately(str(said.key))  # and is tried again
    tools.ends.clear()
    built(tools)
    assert not kept_wheels.failed_lately(str(said.key))
    assert tools.count == 2


def test_what_is_built_but_not_importable_is_no_wheel(tools: StandIn) -> None:
    problem = "ImportError: causal_conv1d_cuda.so: undefined symbol: _ZN2at4_ops5zeros"
    tools.ends["import"] = ended(f"Traceback (most recent call last):\n{problem}", 1)
    said = refused(tools)
    assert said.reason == f"built, but its import fails: {problem}"
    assert wheelhouse.lookup(said.key) is None
    assert left_behind() == []


def test_an_import_that_only_lacks_a_gpu_is_verified_where_there_is_none(
    tools: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "RuntimeError: 0 active drivers ([]). There should only be one."
    tools.ends["import"] = ended(said, 1)
    with monkeypatch.context() as patch:
        patch.setattr(process_variables, "has_driver", lambda: True)
        assert refused(tools).reason.endswith(said)
    built(tools)


@pytest.mark.parametrize(
    ("there", "found"),
    [((), "found none"), (("12.4", "13.0"), "found 12.4, 13.0")],
    ids=["no toolkit", "others"],
)
def test_cuda_sources_without_their_nvcc_are_unbuildable_and_the_reason_helps(
    tools: StandIn, there: tuple[str, ...], found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources(monkeypatch, "setup.py", "csrc/kernel.cu")
    homes = tuple(Toolkit(home=Path(f"cuda-{v}"), version=v) for v in there)
    monkeypatch.setattr(toolkits, "found", lambda run: homes)
    said = refused(tools, TE)
    assert "transformer-engine-torch 2.3.0" in said.reason
    assert "nvcc 12.8" in said.reason
    assert found in said.reason
    assert "mcore-compat toolkit --cuda 12.8" in said.help
    assert "CUDA_HOME" in said.help
    assert tools.steps == []
    assert left_behind() == []


def test_cuda_sources_with_their_nvcc_are_built_with_it(
    tools: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources(monkeypatch, "setup.py", "csrc/kernel.cu")
    homes = (
        Toolkit(home=Path("of-13"), version="13.0"),
        Toolkit(home=Path("of-12"), version="12.8"),
    )
    monkeypatch.setattr(toolkits, "found", lambda run: homes)
    wheel = built(tools, TE)
    assert tools.seen["build"][1]["CUDA_HOME"] == "of-12"
    record = json.loads((wheel.path.parent / "build.json").read_text())
    assert record["cuda_toolkit"] == "12.8"


def test_sources_without_cuda_are_built_against_torchs_own_headers_on_every_machine(
    tools: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    homes = (Toolkit(home=Path("of-12"), version="12.8"),)
    monkeypatch.setattr(toolkits, "found", lambda run: homes)
    monkeypatch.setenv("CUDA_HOME", "of-the-machine")
    built(tools, TE)
    assert tools.seen["build"][1]["CUDA_HOME"].startswith(str(files.home() / "build"))
    assert "release 12.8" in tools.texts["nvcc"]
    assert tools.seen["build"][1]["NVTE_FRAMEWORK"] == "pytorch"


def test_kernels_are_left_out_only_where_there_is_no_gpu(
    tools: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    homes = (Toolkit(home=Path("of-12"), version="12.8"),)
    monkeypatch.setattr(toolkits, "found", lambda run: homes)
    without = built(tools, CONV)
    assert without.key.variant == "-nocuda"
    assert tools.steps == [], "nothing is built, no torch is installed"
    with zipfile.ZipFile(without.path) as archive:
        assert "causal_conv1d/__init__.py" in archive.namelist()
    monkeypatch.setattr(process_variables, "has_driver", lambda: True)
    whole = built(tools, CONV)
    assert whole.key.variant == ""
    assert tools.count == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("fatal error: error writing to /tmp/ccX.s: No space left on device", "the disk is full"),
        ("OSError: [Errno 122] Disk quota exceeded", "the disk is full"),
        ("c++: fatal error: Killed signal terminated program cc1plus", "memory ran out"),
        ("virtual memory exhausted: Cannot allocate memory", "memory ran out"),
        ("cc1plus: out of memory allocating 65536 bytes after a total of 1", "memory ran out"),
        ("collect2: fatal error: ld terminated with signal 9 [Killed]", "memory ran out"),
        ("nvcc error : 'cicc' died due to signal 9 (Kill signal)", "memory ran out"),
        (
            "crt/host_config.h:132:2: error: #error -- unsupported GNU version! gcc versions later"
            " than 11 are not supported!",
            "this machine's g.. is too new for nvcc",
        ),
    ],
)
def test_a_build_that_the_machine_ended_is_no_verdict(tools: StandIn, line: str, said: str) -> None:
    tools.ends["build"] = ended(f"{line}\ncompilation terminated.\n{COMPILE_ERROR}", 1)
    with pytest.raises(InfrastructureError, match=said) as caught:
        built(tools)
    assert caught.value.exit_code == 3
    assert "build.log" in str(caught.value)
    assert left_behind() == []
    tools.ends.clear()
    built(tools)


def test_a_build_over_its_limit_is_no_verdict_and_its_wheel_is_not_taken(
    tools: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(build_folder.LIMIT, "71")
    tools.ends["build"] = ended("[2/9] c++ -c ext.cpp", -9, timed_out=True)
    with pytest.raises(InfrastructureError, match=r"limit of 71 s.*resume") as caught:
        built(tools)
    assert caught.value.exit_code == 3
    assert tools.seen["build"][2] == 71.0
    assert len(left_behind()) == 1, "the folder in which it goes on"


@pytest.mark.parametrize("step", ["build", "try", "import"])
@pytest.mark.parametrize(
    "end",
    [ended("OSError: [Errno 28] No space left on device", 1), ended("it was at step 7", -9)],
    ids=["disk", "killed"],
)
def test_what_the_machine_ended_is_no_verdict_whatever_the_step(
    tools: StandIn, step: str, end: Completed
) -> None:
    tools.ends[step] = end
    with pytest.raises(InfrastructureError):
        built(tools)
    assert left_behind() == []


@pytest.mark.parametrize("text", ["", "[]", "null", '{"wheel": 1}', '{"wheel": "", "sha256": ""}'])
def test_a_record_that_is_none_does_not_count(tools: StandIn, text: str) -> None:
    wheel = built(tools)
    (wheel.path.parent / "build.json").write_text(text)
    assert wheelhouse.lookup(wheel.key) is None


def test_a_build_that_ends_well_without_a_wheel_is_unbuildable(
    tools: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StandIn, "_build", lambda self, words, env: None)
    tools.ends["build"] = ended("Successfully built nothing")
    assert refused(tools).reason == "Successfully built nothing"


def test_a_failed_build_is_not_tried_again_at_once(tools: StandIn) -> None:
    tools.ends["build"] = ended(COMPILE_ERROR, 1)
    first = refused(tools)
    assert refused(tools) == first
    assert tools.count == 1


def test_another_lock_or_a_later_day_tries_a_failed_build_again(
    tools: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools.ends["build"] = ended(COMPILE_ERROR, 1)
    refused(tools)
    job = dataclasses.replace(job_of(tools), lock=dataclasses.replace(LOCK, text="another"))
    assert isinstance(wheelhouse.ensure(TE, job), Unbuildable)
    assert tools.count == 2
    later = time.time() + kept_wheels.REMEMBER_S + 60
    monkeypatch.setattr(time, "time", lambda: later)
    assert isinstance(wheelhouse.ensure(TE, job), Unbuildable)
    assert tools.count == 3
