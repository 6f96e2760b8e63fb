"""A wheel is built once for its key, counts only when verified, and a full disk is no verdict.

Nothing is compiled here: a stand-in makes the files that uv, pip and the compiler would make.
"""

import dataclasses
import io
import json
import multiprocessing
import os
import tarfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import stand_in_cell

from mcore_compat import buildlog, files, index, recipes, runtime, wheelhouse
from mcore_compat.cells import Cell
from mcore_compat.errors import InfrastructureError
from mcore_compat.locks import Lock, Pin
from mcore_compat.proc import Completed
from mcore_compat.recipes import RECIPES, Toolkit
from mcore_compat.wheelhouse import Job, Key, Unbuildable, Wheel

TORCH = Pin(name="torch", version="2.9.1", hashes=("ab" * 32,))
CONV = Pin(name="causal-conv1d", version="1.5.0", hashes=("c0" * 32,))
MAMBA = Pin(name="mamba-ssm", version="2.2.4", hashes=("3a" * 32,))
TE = Pin(name="transformer-engine-torch", version="2.3.0", hashes=("7e" * 32,))

LOCK = Lock(
    cell="compat-0.16-modelopt0.41",
    text="a stand-in",
    exclude_newer="2026-01-01",
    axes={},
    pins=(TORCH,),
    source_only=(CONV, MAMBA),
)

COMPILE_ERROR = "csrc/conv.cpp:7:10: fatal error: cuda_fp16.h: No such file or directory"


def step_of(words: Sequence[str]) -> str:
    """Which of a build's processes a command line is."""
    if words[1] == "venv":
        return "venv"
    if words[1] == "-c":
        return "import"
    if list(words[1:4]) == ["-m", "pip", "wheel"]:
        return "build"
    assert list(words[1:3]) == ["pip", "install"], words
    return "try" if words[-1].endswith(".whl") else "prepare"


@dataclass
class StandIn:
    """Stands in for every process of a build.

    `ends` says how a step ends, by default well; a step that ends badly has done its work all
    the same, as one that is killed late has. `builds` is a folder that gets a file per build.
    """

    builds: Path
    ends: dict[str, Completed] = field(default_factory=dict)
    slow: float = 0.0
    steps: list[str] = field(default_factory=list)
    seen: dict[str, tuple[tuple[str, ...], Mapping[str, str], float]] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)

    def __call__(
        self,
        argv: Sequence[str | os.PathLike[str]],
        *,
        timeout: float,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        log: Path | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> Completed:
        words = tuple(os.fspath(a) for a in argv)
        step = step_of(words)
        self.steps.append(step)
        self.seen[step] = (words, env or {}, timeout)
        if step == "venv":
            (Path(words[-1]) / "lib" / "python3.12" / "site-packages").mkdir(parents=True)
        elif step == "build":
            self._build(words, env or {})
        elif "-r" in words:
            self.texts["requirements"] = Path(words[words.index("-r") + 1]).read_text()
        return self.ends.get(step, ended())

    def _build(self, words: Sequence[str], env: Mapping[str, str]) -> None:
        nvcc = Path(env["CUDA_HOME"]) / "bin" / "nvcc"
        self.texts["nvcc"] = nvcc.read_text() if nvcc.exists() else ""
        number = len(list(self.builds.iterdir()))
        (self.builds / f"{os.getpid()}-{number}").touch()
        time.sleep(self.slow)
        out = Path(words[words.index("-w") + 1])
        out.mkdir()
        name = Path(words[-1]).name.removesuffix(".tar.gz")
        (out / f"{name}-cp312-cp312-linux_x86_64.whl").write_text(f"a stand-in for {name}")

    @property
    def count(self) -> int:
        return len(list(self.builds.iterdir()))


def ended(output: str = "", returncode: int = 0, *, timed_out: bool = False) -> Completed:
    """How a process of a stand-in ends."""
    return Completed(
        argv=(), returncode=returncode, output=output, seconds=0.0, timed_out=timed_out
    )


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wheelhouse of the test's own, on a machine with neither a driver nor a toolkit."""
    monkeypatch.setenv("MCORE_COMPAT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(runtime, "has_driver", lambda: False)
    monkeypatch.setattr(recipes, "toolkits", lambda run: ())
    sources(monkeypatch, "setup.py", "csrc/conv.cpp")


def sources(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """A stand-in for the index: every source distribution holds empty files of these names."""

    def download(package: str, version: str, hashes: Sequence[str], folder: Path) -> Path:
        stem = f"{package.replace('-', '_')}-{version}"
        path = folder / f"{stem}.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            for name in names:
                archive.addfile(tarfile.TarInfo(f"{stem}/{name}"), io.BytesIO())
        return path

    monkeypatch.setattr(index, "download_sdist", download)


@pytest.fixture
def tools(tmp_path: Path) -> StandIn:
    folder = tmp_path / "builds"
    folder.mkdir()
    return StandIn(folder)


def job_of(tools: StandIn, cell: Cell | None = None, cuda: str = "12.8") -> Job:
    return Job(
        cell=cell or stand_in_cell(),
        lock=LOCK,
        cuda=cuda,
        python=Path("python3.12"),
        uv=Path("uv"),
        run=tools,
        say=lambda text: None,
    )


def built(tools: StandIn, pin: Pin = CONV, cell: Cell | None = None) -> Wheel:
    made = wheelhouse.ensure(pin, job_of(tools, cell))
    assert isinstance(made, Wheel), made
    return made


def refused(tools: StandIn, pin: Pin = CONV) -> Unbuildable:
    made = wheelhouse.ensure(pin, job_of(tools))
    assert isinstance(made, Unbuildable), made
    return made


def left_behind() -> list[str]:
    """What the wheelhouse has besides logs, locks and notes of failures, and what builds left."""
    home = files.home()
    kept = (".lock", "build.log", "failed.json")
    found = [p for p in (home / "wheelhouse").glob("*/*") if p.name not in kept]
    return sorted(p.name for p in (*found, *(home / "build").glob("*")))


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
    assert buildlog.line_that_matters(log) == line
    assert refused(tools).reason == line


def test_a_failed_build_leaves_nothing_that_counts(tools: StandIn) -> None:
    tools.ends["build"] = ended(COMPILE_ERROR, 1)
    said = refused(tools)
    assert left_behind() == []
    assert wheelhouse.lookup(said.key) is None
    assert said.log.endswith("build.log")
    tools.ends.clear()
    (Path(said.log).parent / "failed.json").unlink()
    built(tools)
    assert tools.count == 2


def test_what_is_built_but_not_importable_is_no_wheel(tools: StandIn) -> None:
    problem = "ImportError: causal_conv1d_cuda.so: undefined symbol: _ZN2at4_ops5zeros"
    tools.ends["import"] = ended(f"Traceback (most recent call last):\n{problem}", 1)
    said = refused(tools)
    assert said.reason == f"built, but not importable: {problem}"
    assert wheelhouse.lookup(said.key) is None
    assert left_behind() == []


def test_an_import_that_only_lacks_a_gpu_is_verified_where_there_is_none(
    tools: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "RuntimeError: 0 active drivers ([]). There should only be one."
    tools.ends["import"] = ended(said, 1)
    with monkeypatch.context() as patch:
        patch.setattr(runtime, "has_driver", lambda: True)
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
    monkeypatch.setattr(recipes, "toolkits", lambda run: homes)
    said = refused(tools, TE)
    assert "transformer-engine-torch 2.3.0" in said.reason
    assert "nvcc 12.8" in said.reason
    assert found in said.reason
    assert "CUDA 12.8 toolkit" in said.help
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
    monkeypatch.setattr(recipes, "toolkits", lambda run: homes)
    wheel = built(tools, TE)
    assert tools.seen["build"][1]["CUDA_HOME"] == "of-12"
    record = json.loads((wheel.path.parent / "build.json").read_text())
    assert record["cuda_toolkit"] == "12.8"


def test_sources_without_cuda_are_built_against_torchs_own_headers_on_every_machine(
    tools: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    homes = (Toolkit(home=Path("of-12"), version="12.8"),)
    monkeypatch.setattr(recipes, "toolkits", lambda run: homes)
    monkeypatch.setenv("CUDA_HOME", "of-the-machine")
    built(tools, TE)
    assert tools.seen["build"][1]["CUDA_HOME"].startswith(str(files.home() / "build"))
    assert "release 12.8" in tools.texts["nvcc"]
    assert tools.seen["build"][1]["NVTE_FRAMEWORK"] == "pytorch"


def test_kernels_are_left_out_only_where_there_is_no_gpu(
    tools: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    homes = (Toolkit(home=Path("of-12"), version="12.8"),)
    monkeypatch.setattr(recipes, "toolkits", lambda run: homes)
    without = built(tools)
    assert tools.seen["build"][1]["CAUSAL_CONV1D_SKIP_CUDA_BUILD"] == "TRUE"
    monkeypatch.setattr(runtime, "has_driver", lambda: True)
    whole = built(tools)
    assert "CAUSAL_CONV1D_SKIP_CUDA_BUILD" not in tools.seen["build"][1]
    assert without.key.variant == "-nocuda"
    assert whole.key.variant == ""
    assert tools.count == 2


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


def test_a_build_over_its_limit_is_unbuildable_and_its_wheel_is_not_taken(
    tools: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wheelhouse, "BUILD_LIMIT_S", 71.0)
    tools.ends["build"] = ended("[2/9] c++ -c ext.cpp", -9, timed_out=True)
    said = refused(tools)
    assert "limit of 71 s" in said.reason
    assert tools.seen["build"][2] == 71.0
    assert left_behind() == []


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


def test_known_names_the_recorded_wheels_by_their_digest(tools: StandIn) -> None:
    wheels = [built(tools, pin) for pin in (CONV, MAMBA)]
    recorded = {w.path.name: "as it was then" for w in wheels}
    steps = list(tools.steps)
    found = wheelhouse.known(stand_in_cell(), LOCK, recorded)
    assert found == {w.path.name: w.sha256 for w in wheels}
    assert tools.steps == steps


def test_known_finds_wheels_with_and_without_kernels(
    tools: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    homes = (Toolkit(home=Path("of-12"), version="12.8"),)
    monkeypatch.setattr(recipes, "toolkits", lambda run: homes)
    wheels = [built(tools, CONV)]
    monkeypatch.setattr(runtime, "has_driver", lambda: True)
    wheels += [built(tools, MAMBA)]
    assert {w.key.variant for w in wheels} == {"", "-nocuda"}
    found = wheelhouse.known(stand_in_cell(), LOCK, {w.path.name: "" for w in wheels})
    assert found == {w.path.name: w.sha256 for w in wheels}


@pytest.mark.parametrize("why", ["never built", "changed", "not recorded", "another torch"])
def test_known_is_nothing_where_one_wheel_is_missing(tools: StandIn, why: str) -> None:
    wheels = [built(tools, pin) for pin in (CONV, MAMBA)]
    recorded = {w.path.name: w.sha256 for w in wheels}
    cell = stand_in_cell()
    assert wheelhouse.known(cell, LOCK, recorded) == recorded
    if why == "never built":
        (wheels[1].path.parent / "build.json").unlink()
    elif why == "changed":
        wheels[1].path.write_text("changed behind our back")
    elif why == "not recorded":
        del recorded[wheels[1].path.name]
    else:
        cell = dataclasses.replace(cell, torch="2.9.0")
    assert wheelhouse.known(cell, LOCK, recorded) is None


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
    assert isinstance(wheelhouse.ensure(CONV, job), Unbuildable)
    assert tools.count == 2
    later = time.time() + wheelhouse.REMEMBER_S + 60
    monkeypatch.setattr(time, "time", lambda: later)
    assert isinstance(wheelhouse.ensure(CONV, job), Unbuildable)
    assert tools.count == 3
