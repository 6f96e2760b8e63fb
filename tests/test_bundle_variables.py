"""What the suite is given to find libraries, headers and compilers by, over a base: whatever the
machine says itself."""

from __future__ import annotations

import json
import os
from pathlib import Path

import bundle_support
import pytest
from bundle_support import RESULT, StandIn, base_python, contents_of, result_of, run, wheel
from test_toolkits import toolkit

CUDA = "12.8"
"""What the stand-in of torch was built for."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> StandIn:
    return bundle_support.stand_in(tmp_path_factory.mktemp("repository"))


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A Python with torch and its libraries, and a command that PATH does not name."""
    names = ("torch", "transformer-engine")
    python = base_python(tmp_path / "base", *(wheel(tmp_path, n, "2.8.0") for n in names))
    nvidia = next((tmp_path / "base").glob("lib/python3*/site-packages")) / "nvidia"
    for name in ("cudnn/lib/libcudnn.so.9", "cuda_nvrtc/lib/libnvrtc.so.12",
                 "curand/lib/libcurand.so.10", "cuda_runtime/include/cuda_runtime.h"):  # fmt: skip
        bundle_support.put(nvidia / name, "")
    bundle_support.put(tmp_path / "base" / "bin" / "ninja", "")
    return python


def given(bundle: Path, base: Path, tmp_path: Path, **variables: str) -> dict[str, str]:
    """Variables of the suite's process."""
    tells = tmp_path / "tells.json"
    done = run(bundle, "--base", "current", python=base, STAND_IN_TELLS=str(tells), **variables)
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(tells.read_text())
    return found


@pytest.mark.parametrize("home", ["unset", "toolkit", "nonsense", "of another CUDA"])
def test_a_cuda_home_spoils_nothing(
    made: StandIn, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str
) -> None:
    mine = toolkit(tmp_path / "cuda", CUDA)
    bundle_support.put(mine / "include" / "cuda_runtime.h", "")
    (tmp_path / "path").symlink_to(mine / "bin")
    named = {
        "toolkit": mine,
        "nonsense": tmp_path / "nowhere",
        "of another CUDA": toolkit(tmp_path / "other", "11.8"),
    }
    for name in ("CUDA_HOME", "CUDA_PATH", "CUDNN_HOME", "NVTE_CUDA_INCLUDE_DIR"):
        monkeypatch.delenv(name, raising=False)
        if home in named:
            monkeypatch.setenv(name, str(named[home]))
    monkeypatch.setenv("PATH", f"{tmp_path / 'path'}:{os.environ['PATH']}")
    bundle = made.laid_out(tmp_path / "bundle", ["torch", "mamba-ssm"])
    found = given(bundle, base, tmp_path)
    site = next((tmp_path / "base").glob("lib/python3*/site-packages"))
    assert found["CUDA_HOME"] == str(mine)
    assert "CUDA_PATH" not in found
    assert found["NVTE_CUDA_INCLUDE_DIR"] == str(mine / "include")
    for name, folder in (("CUDNN", "cudnn"), ("NVRTC", "cuda_nvrtc"), ("CURAND", "curand")):
        assert found[f"{name}_HOME"] == str(site / "nvidia" / folder)
        assert str(site / "nvidia" / folder / "lib") in found["LD_LIBRARY_PATH"].split(":")
    path = found["PATH"].split(":")
    assert path.index(str(mine / "bin")) == 1, "behind the environment's own"
    assert str(base.parent) in path, "ninja is there"
    told = result_of(bundle, RESULT.with_name("main.host-base.json"))["base"]
    assert isinstance(told, dict)
    assert told["toolkit"] == CUDA


def test_compiled_python_is_kept_and_never_beside_the_bases_sources(
    made: StandIn, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    bundle = made.laid_out(tmp_path / "bundle", ["torch", "mamba-ssm"])
    before = contents_of(tmp_path / "base")
    environment = given(bundle, base, tmp_path)
    assert "PYTHONDONTWRITEBYTECODE" not in environment
    assert contents_of(tmp_path / "base") == before
    kept = Path(environment["PYTHONPYCACHEPREFIX"])
    assert kept.is_relative_to(bundle / "work" / "pycache")
    torch = next((tmp_path / "base").glob("lib/python3*/site-packages/torch"))
    (compiled,) = kept.joinpath(*torch.parts[1:]).glob("__init__.*.pyc")
    first = compiled.stat().st_mtime_ns
    assert not list(kept.rglob("mcore-compat-*")), "of an environment that is gone"
    assert given(bundle, base, tmp_path)["PYTHONPYCACHEPREFIX"] == str(kept)
    assert compiled.stat().st_mtime_ns == first, "not compiled again"
