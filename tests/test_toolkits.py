"""CUDA toolkits are found by their nvcc, and taken by the CUDA that it says."""

from pathlib import Path

import pytest

from mcore_compat.base import processes
from mcore_compat.base.errors import InfrastructureError
from mcore_compat.environments import toolkits


def toolkit(folder: Path, version: str) -> Path:
    """A toolkit that has an nvcc, which tells its version."""
    nvcc = folder / "bin" / "nvcc"
    nvcc.parent.mkdir(parents=True)
    nvcc.write_text(f"#!/bin/sh\necho 'Cuda compilation tools, release {version}, V{version}.48'\n")
    nvcc.chmod(0o755)
    return folder


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine that names no toolkit, and has none but where the test puts one."""
    monkeypatch.delenv("CUDA_HOME", raising=False)
    monkeypatch.delenv("CUDA_PATH", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path / 'on-path'}:/usr/bin:/bin")
    monkeypatch.setenv("MCORE_COMPAT_HOME", str(tmp_path / "home"))
    real = Path.glob
    places = {Path("/usr/local"): tmp_path / "local"}
    monkeypatch.setattr(Path, "glob", lambda self, p: real(places.get(self, self), p))


@pytest.mark.usefixtures("bare")
def test_it_is_taken_by_its_cuda_wherever_it_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert toolkits.of_cuda("13.0", processes.run) is None
    mine = toolkit(tmp_path / "local" / "cuda-13.0", "13.0")
    toolkit(tmp_path / "named", "12.8")
    (tmp_path / "nonsense").mkdir()
    for named in ("", str(tmp_path / "named"), str(tmp_path / "nonsense")):
        monkeypatch.setenv("CUDA_HOME", named)
        found = toolkits.of_cuda("13.0", processes.run)
        assert found is not None
        assert found.home == mine
    assert toolkits.of_cuda(None, processes.run) is None


@pytest.mark.usefixtures("bare")
def test_one_that_was_made_here_is_found(tmp_path: Path) -> None:
    mine = toolkit(toolkits.made() / "cuda-12.4", "12.4")
    assert mine.is_relative_to(tmp_path)
    assert toolkits.found(processes.run) == (toolkits.Toolkit(home=mine, version="12.4"),)


@pytest.mark.usefixtures("bare")
def test_an_nvcc_that_does_not_run_is_none(tmp_path: Path) -> None:
    nvcc = tmp_path / "local" / "cuda" / "bin" / "nvcc"
    nvcc.parent.mkdir(parents=True)
    nvcc.write_text("#!/bin/sh\nexit 1\n")
    nvcc.chmod(0o755)
    assert toolkits.found(processes.run) == ()


@pytest.mark.usefixtures("bare")
def test_a_wrapper_on_path_is_not_taken_for_its_toolkit(tmp_path: Path) -> None:
    toolkit(tmp_path / "wrapped", "13.0")
    (tmp_path / "on-path").symlink_to(tmp_path / "wrapped" / "bin")
    mine = toolkit(tmp_path / "local" / "cuda", "13.0")
    (mine / "include").mkdir()
    (mine / "include" / "cuda_runtime.h").touch()
    assert [one.home for one in toolkits.found(processes.run)] == [mine]


@pytest.mark.usefixtures("bare")
def test_an_nvcc_that_was_killed_does_not_tell_that_there_is_none(tmp_path: Path) -> None:
    nvcc = toolkit(tmp_path / "local" / "cuda-13.0", "13.0") / "bin" / "nvcc"
    nvcc.write_text("#!/bin/sh\nkill -TERM $$\n")
    with pytest.raises(InfrastructureError, match="nvcc was killed by SIGTERM"):
        toolkits.found(processes.run)


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("printf '9.0\\n8.0\\n9.0\\n'", ("80", "90")),
        ("echo 12.0", ("120",)),
        ("echo '[N/A]'", ()),
        ("echo 9.0; exit 9", ()),
        (None, ()),
    ],
    ids=["GPUs", "a newer one", "not told", "failed", "no nvidia-smi"],
)
def test_the_architectures_of_this_machines_gpus(
    script: str | None, told: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if script:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin" if script else str(tmp_path))
    assert toolkits.capabilities(processes.run) == told
