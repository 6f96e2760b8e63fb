"""A cell's processes get an environment of their own, and a driver's stand-in where none is."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mcore_compat.base import processes
from mcore_compat.base.processes import Completed
from mcore_compat.environments import process_variables


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own, on a machine without a driver."""
    monkeypatch.setenv("MCORE_COMPAT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(process_variables, "has_driver", lambda: False)
    return tmp_path / "home"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """An environment's site-packages, with nothing in it."""
    folder = tmp_path / "env" / "lib" / "python3.12" / "site-packages"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize(
    "name",
    [
        "PYTHONPATH",
        "PYTHONHOME",
        "PYTHONSTARTUP",
        "VIRTUAL_ENV",
        "CUDA_PATH",
        "NVTE_FRAMEWORK",
        "NVTE_DEBUG",
        "UV_INDEX_STRATEGY",
        "UV_LINK_MODE",
        "CPATH",
    ],
)
def test_what_would_change_a_cell_is_dropped(site: Path, name: str) -> None:
    assert name not in process_variables.variables(site, None, {name: "of-the-machine"})


def test_what_does_not_matter_stays_and_nothing_is_added_to_what_was_given(site: Path) -> None:
    base = {"LANG": "C.UTF-8", "MY_PYTHONPATH": "x", "CUDA_VISIBLE_DEVICES": "0", "PATH": "p"}
    before = dict(base)
    found = process_variables.variables(site, None, base)
    assert {name: found[name] for name in base if name != "PATH"} == {
        name: value for name, value in base.items() if name != "PATH"
    }
    assert base == before


def test_without_a_base_the_machines_own_environment_is_taken(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_NAME_OF_THE_TEST", "x")
    monkeypatch.setenv("VIRTUAL_ENV", "x")
    found = process_variables.variables(site, None)
    assert found["A_NAME_OF_THE_TEST"] == "x"
    assert "VIRTUAL_ENV" not in found
    assert "A_NAME_OF_THE_TEST" not in process_variables.variables(site, None, {})


@pytest.mark.parametrize("base", [{}, {"CUDA_HOME": ""}, {"CUDA_HOME": "of-the-machine"}])
def test_cuda_home_is_the_environments_and_never_empty(site: Path, base: dict[str, str]) -> None:
    assert process_variables.variables(site, None, base)["CUDA_HOME"] == str(site / "nvidia")


def test_the_packages_libraries_come_first_and_the_stub_last(site: Path, tmp_path: Path) -> None:
    for name in ("cudnn", "cublas"):
        (site / "nvidia" / name / "lib").mkdir(parents=True)
    (site / "nvidia" / "cuda_cccl" / "include").mkdir(parents=True)
    stub = tmp_path / "stub"
    found = process_variables.variables(site, stub, {"LD_LIBRARY_PATH": "one::two:"})
    assert found["LD_LIBRARY_PATH"].split(":") == [
        str(site / "nvidia" / "cublas" / "lib"),
        str(site / "nvidia" / "cudnn" / "lib"),
        "one",
        "two",
        str(stub),
    ]


def test_without_libraries_the_current_folder_is_not_searched(site: Path) -> None:
    assert process_variables.variables(site, None, {})["LD_LIBRARY_PATH"] == ""


def test_the_environments_programs_come_first(site: Path, tmp_path: Path) -> None:
    own = tmp_path / "env" / "bin"
    assert process_variables.variables(site, None, {"PATH": "one:two"})["PATH"] == f"{own}:one:two"
    assert process_variables.variables(site, None, {})["PATH"] == f"{own}:/usr/bin:/bin"


def test_no_model_is_downloaded_and_no_package_of_the_user_is_seen(site: Path) -> None:
    found = process_variables.variables(site, None, {"HF_HUB_OFFLINE": "0"})
    assert found["HF_HUB_OFFLINE"] == "1"
    assert found["PYTHONNOUSERSITE"] == "1"


@dataclass
class Binutils:
    """Stands in for readelf, nm and the compiler; `needs` is what the library is linked to."""

    needs: str = "libcuda.so.1"
    compiles: bool = True
    programs: list[str] = field(default_factory=list)
    source: str = ""

    def __call__(self, argv: Sequence[str | os.PathLike[str]], **options: Any) -> Completed:
        words = [os.fspath(a) for a in argv]
        self.programs.append(words[0])
        if words[0] == "readelf":
            return ended(f" 0x1 (NEEDED)  Shared library: [{self.needs}]")
        if words[0] == "nm":
            return ended(
                "                 U cuMemFree_v2\n"
                "                 U cudaMalloc@libcudart.so.12\n"
                "                 U cuInit\n"
                "0000000000001139 T cuOwn\n"
                "                 U cuInit\n"
            )
        Path(words[words.index("-o") + 1]).write_text("a stand-in for a library")
        self.source = Path(words[-1]).read_text()
        return ended("" if self.compiles else "ld: error", 0 if self.compiles else 1)


def ended(output: str, returncode: int = 0) -> Completed:
    return Completed(argv=(), returncode=returncode, output=output, seconds=0.0)


@pytest.fixture
def core(site: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for TE's core, on a machine with a compiler."""
    monkeypatch.setattr(shutil, "which", lambda name: name)
    path = site / "transformer_engine" / "wheel_lib" / "libtransformer_engine.so"
    path.parent.mkdir(parents=True)
    path.touch()
    return path


def test_a_stub_has_the_drivers_functions_that_the_core_asks_for(
    site: Path, core: Path, home: Path
) -> None:
    tools = Binutils()
    folder = process_variables.driver_stub(site, tools)
    assert folder is not None
    assert folder.is_relative_to(home)
    assert (folder / "libcuda.so.1").exists()
    assert tools.source == (
        "int cuInit(void) { return 100; }\nint cuMemFree_v2(void) { return 100; }\n"
    )


def test_a_stub_is_compiled_once(site: Path, core: Path) -> None:
    first = process_variables.driver_stub(site, Binutils())
    again = Binutils()
    assert process_variables.driver_stub(site, again) == first
    assert "cc" not in again.programs


def test_no_stub_where_there_is_a_driver(
    site: Path, core: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_variables, "has_driver", lambda: True)
    tools = Binutils()
    assert process_variables.driver_stub(site, tools) is None
    assert tools.programs == []


def test_no_stub_where_the_core_is_not_linked_to_the_driver(site: Path, core: Path) -> None:
    tools = Binutils(needs="libcudart.so.12")
    assert process_variables.driver_stub(site, tools) is None
    assert "cc" not in tools.programs


def test_no_stub_where_there_is_no_core(site: Path, core: Path) -> None:
    core.unlink()
    tools = Binutils()
    assert process_variables.driver_stub(site, tools) is None
    assert tools.programs == []


@pytest.mark.parametrize("missing", [("cc", "gcc"), ("nm",)], ids=["compiler", "nm"])
def test_no_stub_where_nothing_can_make_one(
    site: Path, core: Path, missing: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        shutil, "which", lambda name: None if name in missing else f"/usr/bin/{name}"
    )
    assert process_variables.driver_stub(site, Binutils()) is None


def test_a_stub_that_did_not_compile_is_not_taken(site: Path, core: Path) -> None:
    assert process_variables.driver_stub(site, Binutils(compiles=False)) is None
    again = Binutils()
    assert process_variables.driver_stub(site, again) is not None
    assert "cc" in again.programs


def test_a_real_stub_lets_a_library_load_and_says_that_there_is_no_device(
    site: Path, tmp_path: Path
) -> None:
    missing = [name for name in ("cc", "nm", "readelf") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)} to compile a small library")
    core = compiled_core(site, tmp_path)
    stub = process_variables.driver_stub(site, processes.run)
    assert stub is not None
    # In a process of its own: a library stays loaded, and this one would look like a driver.
    code = (
        "import ctypes, sys\n"
        "print(ctypes.CDLL(sys.argv[1]).ask(), ctypes.CDLL('libcuda.so.1').cuInit(0))"
    )
    done = processes.run(
        [sys.executable, "-I", "-c", code, core],
        timeout=30,
        env=process_variables.variables(site, stub),
    )
    assert done.output == "100 100"


def compiled_core(site: Path, tmp_path: Path) -> Path:
    """A tiny library linked to a libcuda.so.1 that is gone by the time it is loaded."""
    core = site / "transformer_engine" / "libtransformer_engine.so"
    core.parent.mkdir()
    driver = tmp_path / "libcuda.so.1"
    sources = {
        "driver.c": "int cuInit(unsigned int flags) { return flags; }\n",
        "core.c": "int cuInit(unsigned int);\nint ask(void) { return cuInit(0); }\n",
    }
    for name, text in sources.items():
        (tmp_path / name).write_text(text)
    shared: list[str | Path] = ["cc", "-shared", "-fPIC", "-o"]
    for argv in (
        [*shared, driver, "-Wl,-soname,libcuda.so.1", tmp_path / "driver.c"],
        [*shared, core, tmp_path / "core.c", driver],
    ):
        subprocess.run(argv, check=True, timeout=60)
    driver.unlink()
    return core


# What TE looks for by itself


def test_te_is_told_where_torchs_libraries_and_headers_are(site: Path) -> None:
    for name in ("cu13/lib/libnvrtc.so.13", "cu13/lib/libcurand.so.10", "cudnn/lib/libcudnn.so.9"):
        (site / "nvidia" / name).parent.mkdir(parents=True, exist_ok=True)
        (site / "nvidia" / name).touch()
    (site / "nvidia" / "cu13" / "include").mkdir()
    (site / "nvidia" / "cu13" / "include" / "cuda_runtime.h").touch()
    found = process_variables.variables(site, None, {"CUDNN_HOME": "/of/the/machine"})
    nvidia = site / "nvidia"
    assert found["CUDNN_HOME"] == str(nvidia / "cudnn")
    assert found["NVRTC_HOME"] == found["CURAND_HOME"] == str(nvidia / "cu13")
    assert found["NVTE_CUDA_INCLUDE_DIR"] == str(nvidia / "cu13" / "include")


def test_te_is_told_nothing_of_what_is_not_there(site: Path) -> None:
    assert process_variables.for_te(site) == {}
