"""A toolkit is made of packages, in a folder of its own, and counts once it has compiled.

The processes stand in here; `tests/real/test_new_toolkit.py` makes one.
"""

import dataclasses
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from index_support import StandIn as StandInIndex
from index_support import file, quiet
from test_toolkits import toolkit

from mcore_compat.base.errors import CompatError, InfrastructureError, UsageError
from mcore_compat.base.processes import Completed
from mcore_compat.cli import main
from mcore_compat.environments import new_toolkit
from mcore_compat.index import package_index

URIS = "'http://a.invalid/d/dists/bookworm/InRelease' x 0\n"
MADISON = """\
nvidia-cuda-toolkit | 12.4.131~12.4.1-8 | http://a.invalid/d unstable/non-free amd64 Packages
nvidia-cuda-toolkit | 12.4.131~12.4.1-2 | http://a.invalid/d stable/non-free amd64 Packages
nvidia-cuda-toolkit | 11.8.89~11.8.0-5~ | http://a.invalid/d oldstable/non-free amd64 Packages
"""


@dataclasses.dataclass
class Packages:
    """Stands in for apt, dpkg, uv and nvcc; `says` and `fails` by program."""

    says: dict[str, str]
    fails: dict[str, str] = dataclasses.field(default_factory=dict)
    ran: list[tuple[str, ...]] = dataclasses.field(default_factory=list)

    def __call__(self, argv: Sequence[str | os.PathLike[str]], **options: Any) -> Completed:
        words = tuple(os.fspath(word) for word in argv)
        program = Path(words[0]).name
        step = next((w for w in words[1:] if w in ("download", "update", "--version")), program)
        self.ran.append(words)
        if program == "nvcc":
            assert Path(words[0]).with_name("nvcc.profile").exists() or step == "--version"
        if "--print-uris" in words:
            return done(words, self.says["uris"])
        if step in self.fails:
            return done(words, self.fails[step], 1)
        if step == "download":
            (options["cwd"] / "nvidia-cuda-toolkit_x.deb").touch()
        elif program == "dpkg-deb":
            for name in new_toolkit.COMPILER:
                lay(Path(words[-1]) / name / ("x" if name.endswith(("crt", "libdevice")) else ""))
        elif program == "uv":
            self._install(Path(words[words.index("--target") + 1]), words[-1])
        return done(words, self.says.get(step, ""))

    def _install(self, site: Path, wanted: str) -> None:
        whole = "==13" in wanted
        part = site / "nvidia" / ("cu13" if whole else "cuda_runtime")
        for name in ("include/cuda.h", "lib/libcudart.so.12", "lib/__init__.py"):
            lay(part / name)
        if whole:
            lay(part / "bin" / "nvcc")
        lay(site / "nvidia_cuda_runtime-1.dist-info" / "METADATA")


def lay(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def done(words: tuple[str, ...], output: str = "", returncode: int = 0) -> Completed:
    return Completed(argv=words, returncode=returncode, output=output, seconds=0.0)


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Packages:
    """A Debian machine whose index has the parts of some CUDAs."""
    monkeypatch.setenv("MCORE_COMPAT_HOME", str(tmp_path / "home"))
    listed = [
        file(f"cuda_toolkit-{v}-py3-none-any.whl", v)
        for v in ("11.8.0", "12.4.0", "12.4.1", "12.8.2", "13.0.3.0", "13.5.0")
    ]
    index = StandInIndex({"cuda-toolkit": listed})
    monkeypatch.setattr(package_index, "client", lambda: index)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    system = {"ID": "debian", "VERSION_CODENAME": "bookworm"}
    monkeypatch.setattr(new_toolkit.platform, "freedesktop_os_release", lambda: system)
    return Packages({"uris": URIS, "apt-cache": MADISON})


def made(cuda: str, into: Path, packages: Packages) -> set[str]:
    """What is in the toolkit that was made."""
    home = new_toolkit.make(cuda, into, packages, Path("uv"), quiet).home
    return {str(path.relative_to(home)) for path in home.rglob("*") if not path.is_dir()}


def refused(cuda: str, into: Path, packages: Packages) -> CompatError:
    with pytest.raises(CompatError) as caught:
        new_toolkit.make(cuda, into, packages, Path("uv"), quiet)
    assert not [path for path in into.parent.glob("*") if path.name.startswith("mcore-compat-")]
    return caught.value


def test_the_compiler_is_debians_and_the_rest_the_indexs(
    tmp_path: Path, packages: Packages
) -> None:
    assert made("12.4", tmp_path / "deep" / "cuda", packages) == {
        *("bin/nvcc", "bin/nvcc.profile", "bin/crt/x", "bin/cudafe++", "bin/fatbinary"),
        *("bin/nvlink", "bin/ptxas", "nvvm/bin/cicc", "nvvm/libdevice/x"),
        *("include/cuda.h", "lib64/libcudart.so.12", "lib64/libcudart.so", "packages.txt"),
    }
    told = (tmp_path / "deep" / "cuda" / "packages.txt").read_text()
    assert told == "nvidia-cuda-toolkit_x.deb\nnvidia_cuda_runtime-1\n"
    (download,) = (words for words in packages.ran if "download" in words)
    assert download[-1].endswith("=12.4.131~12.4.1-2"), "of the most stable suite"
    assert [words for words in packages.ran if "-c" in words], "it was not tried"


def test_from_cuda_13_on_all_is_the_indexs(tmp_path: Path, packages: Packages) -> None:
    assert "bin/nvcc" in made("13.0", tmp_path / "cuda", packages)
    assert {Path(words[0]).name for words in packages.ran} == {"uv", "nvcc"}


@pytest.mark.parametrize(
    ("cuda", "said"),
    [
        ("12.8", "no package has nvcc 12.8; toolkits can be made for 11.8, 12.4, 13.0, 13.5, "
         "the nearest is 12.4"),
        ("12.5", "there is no CUDA 12.5; the nearest is 12.4"),
        ("14.0", "there is no CUDA 14.0; the nearest is 13.5"),
    ],
)  # fmt: skip
def test_a_cuda_that_cannot_be_made_names_the_nearest(
    cuda: str, said: str, tmp_path: Path, packages: Packages
) -> None:
    error = refused(cuda, tmp_path / "cuda", packages)
    assert isinstance(error, UsageError)
    assert said in str(error)


@pytest.mark.parametrize(
    ("step", "output", "said"),
    [
        ("uv", "error: no network", "fetching the parts of CUDA 12.4 failed: error: no network"),
        ("download", "E: Failed to fetch http://u:p@a.invalid/x 404", "Failed to fetch 404"),
        ("dpkg-deb", "it is no archive", "failed: it is no archive"),
        ("nvcc", "/x.h:1:2: error: gcc is too new", "test program: /x.h:1:2: error: gcc"),
    ],
)
def test_what_fails_is_told_and_nothing_is_left(
    step: str, output: str, said: str, tmp_path: Path, packages: Packages
) -> None:
    packages.fails[step] = output
    error = refused("12.4", tmp_path / "cuda", packages)
    assert isinstance(error, InfrastructureError)
    assert said in str(error)
    assert "u:p" not in str(error)
    assert not (tmp_path / "cuda").exists()


def test_an_archive_that_was_not_read_has_not_no_compiler(
    tmp_path: Path, packages: Packages
) -> None:
    packages.says["apt-cache"] = ""
    packages.fails["update"] = "W: Failed to fetch http://a.invalid/x Could not resolve 'a.invalid'"
    error = refused("12.4", tmp_path / "cuda", packages)
    assert isinstance(error, InfrastructureError)
    assert "cannot be read: Failed to fetch Could not resolve 'a.invalid'" in str(error)


def test_a_machine_without_apt_is_told(
    tmp_path: Path, packages: Packages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    error = refused("12.4", tmp_path / "cuda", packages)
    assert isinstance(error, InfrastructureError)
    assert "apt-get was not found on PATH" in str(error)
    assert "13.0, 13.5" in str(error)


def test_a_machine_of_another_distribution_is_asked_for_an_archive(
    tmp_path: Path, packages: Packages, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = {"ID": "ubuntu", "VERSION_CODENAME": "noble"}
    monkeypatch.setattr(new_toolkit.platform, "freedesktop_os_release", lambda: system)
    assert "--archive" in str(refused("12.4", tmp_path / "cuda", packages))
    new_toolkit.make("12.4", tmp_path / "cuda", packages, Path("uv"), quiet, "http://a.invalid/d")


def test_one_that_is_there_is_taken_and_nothing_else_is_overwritten(
    tmp_path: Path, packages: Packages
) -> None:
    packages.says["--version"] = "release 12.4, V12.4.131"
    there = toolkit(tmp_path / "cuda", "12.4")
    before = list(there.rglob("*"))
    assert new_toolkit.make("12.4", there, packages, Path("uv"), quiet).home == there
    assert "already has a toolkit of CUDA 12.4" in str(refused("13.0", there, packages))
    lay(tmp_path / "other" / "mine.txt")
    assert "name a new folder" in str(refused("12.4", tmp_path / "other", packages))
    assert list(there.rglob("*")) == before
    (tmp_path / "empty").mkdir()
    made("12.4", tmp_path / "empty", packages)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("12.4.1", 'did you mean "12.4"'),
        ("twelve", 'invalid version "twelve"'),
        ("12", "e.g. 12.4"),
    ],
)
def test_a_wrong_version_is_one_line(
    word: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["toolkit", "--cuda", word]) == 2
    line = capsys.readouterr().err.strip()
    assert said in line
    assert "\n" not in line
