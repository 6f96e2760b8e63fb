"""An environment is exactly what its lock says, or is made again.

Nothing is installed here: a stand-in makes the folders that uv would make.
"""

import dataclasses
import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version
from support import stand_in_cell

from mcore_compat.base import files
from mcore_compat.base.errors import InfrastructureError, WrongFileError
from mcore_compat.base.processes import Completed
from mcore_compat.environments import creation
from mcore_compat.environments.creation import Environment
from mcore_compat.environments.wheelhouse import Key, Wheel
from mcore_compat.resolve.locks import Lock, Pin

CELL = stand_in_cell()

LOCK = Lock(
    cell=CELL.name,
    text="a stand-in",
    exclude_newer="2026-01-01",
    axes={},
    pins=(
        Pin(name="torch", version="2.9.1", hashes=("ab" * 32,)),
        Pin(name="typing-extensions", version="4.15.0", hashes=("cd" * 32,)),
        Pin(name="pytz", version="2025.02", hashes=("ef" * 32,)),
    ),
    source_only=(Pin(name="causal-conv1d", version="1.5.0", hashes=("c0" * 32,)),),
)

Spoil = Callable[[Path], object]


@dataclass
class Uv:
    """Stands in for uv and for the Python that is asked its series.

    Where `breaks` is `venv`, `pins`, `wheels` or `tools`, that step does its work and then fails
    all the same. `also` are folders that come along with what is installed.
    """

    series: str = "3.12"
    breaks: str = ""
    also: tuple[str, ...] = ()
    calls: list[list[str]] = field(default_factory=list)

    def __call__(self, argv: Sequence[str | os.PathLike[str]], **options: Any) -> Completed:
        words = [os.fspath(a) for a in argv]
        self.calls.append(words)
        if "-c" in words:
            return self._ended("asked", self.series)
        if words[1] == "venv":
            folder = Path(words[-1])
            site_of(folder).mkdir(parents=True)
            (folder / "pyvenv.cfg").write_text(f"home = /python\nversion_info = {self.series}.1\n")
            (folder / "bin").mkdir()
            (folder / "bin" / "python").symlink_to(Path(words[words.index("-p") + 1]).absolute())
            return self._ended("venv")
        if words[1:3] == ["cache", "clean"]:
            return self._ended("cleaned")
        assert words[1:3] == ["pip", "install"], words
        if "--target" in words:
            (Path(words[words.index("--target") + 1]) / "pytest").mkdir(parents=True)
            return self._ended("tools")
        site = site_of(Path(words[words.index("-p") + 1]).parents[1])
        for name in self.also:
            (site / name).mkdir(parents=True, exist_ok=True)
        if "-r" in words:
            text = Path(words[words.index("-r") + 1]).read_text()
            for name, version in re.findall(r"^(\S+)==(\S+) ", text, re.MULTILINE):
                (site / info(name, version)).mkdir()
            return self._ended("pins")
        for word in words:
            if word.endswith(".whl"):
                (site / info(*Path(word).name.split("-")[:2])).mkdir()
        return self._ended("wheels")

    def _ended(self, step: str, output: str = "") -> Completed:
        broken = step == self.breaks
        return Completed(
            argv=(),
            returncode=2 if broken else 0,
            output="error: Failed to fetch\nNo space left on device" if broken else output,
            seconds=0.0,
        )

    def step(self, word: str) -> list[str]:
        """The one command line that holds `word`."""
        (found,) = [c for c in self.calls if any(word in w for w in c)]
        return found


def info(name: str, version: str) -> str:
    """The folder name of a distribution, the version in its normal form as installers write it."""
    return f"{name.replace('-', '_')}-{Version(version)}.dist-info"


def site_of(folder: Path) -> Path:
    return folder / "lib" / "python3.12" / "site-packages"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("MCORE_COMPAT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def wheel(tmp_path: Path) -> Wheel:
    path = tmp_path / "causal_conv1d-1.5.0-cp312-cp312-linux_x86_64.whl"
    path.write_text("a stand-in for a wheel")
    key = Key(package="causal-conv1d", version="1.5.0", torch="2.9.1", python="3.12", cuda=12)
    return Wheel(key=key, path=path, sha256=files.sha256_file(path))


def quiet(text: str) -> None:
    """Progress that nobody reads."""


def ensure(
    uv: Callable[..., Completed],
    *wheels: Wheel,
    lock: Lock = LOCK,
    said: list[str] | None = None,
    python: str = "py",
) -> Environment:
    return creation.ensure(
        CELL,
        lock,
        wheels,
        python=Path(python),
        uv=Path("uv"),
        run=uv,
        say=quiet if said is None else said.append,
    )


def test_an_environment_is_made_once_and_then_kept(home: Path, wheel: Wheel) -> None:
    uv, said = Uv(), list[str]()
    first = ensure(uv, wheel, said=said)
    assert not first.reused
    assert len(said) == 1
    assert CELL.name in said[0]
    again, heard = Uv(), list[str]()
    second = ensure(again, wheel, said=heard)
    assert second.reused
    assert heard == []
    assert again.calls == []
    assert second == dataclasses.replace(first, reused=True)


def test_an_environment_tells_where_its_python_and_packages_are(home: Path, wheel: Wheel) -> None:
    made = ensure(Uv(), wheel)
    folder = home / "envs" / CELL.name
    assert made.python == folder / "bin" / "python"
    assert made.site == site_of(folder)
    assert made.variables["PATH"].startswith(f"{folder / 'bin'}:")


def test_an_environment_holds_the_lock_and_the_wheels_and_no_more(wheel: Wheel) -> None:
    made = ensure(Uv(), wheel)
    assert creation.installed(made.site) == {
        "torch": "2.9.1",
        "typing-extensions": "4.15.0",
        "pytz": "2025.2",
        "causal-conv1d": "1.5.0",
    }


SPOILED: dict[str, Spoil] = {
    "an extra package": lambda site: (site / "intruder-1.0.dist-info").mkdir(),
    "a missing package": lambda site: (site / "torch-2.9.1.dist-info").rmdir(),
    "another version": lambda site: (site / "torch-2.9.1.dist-info").rename(
        site / "torch-2.9.0.dist-info"
    ),
    "a version that is none": lambda site: (site / "torch-2.9.1.dist-info").rename(
        site / "torch-x.dist-info"
    ),
    "no packages at all": lambda site: shutil.rmtree(site.parents[2]),
    "no mark": lambda site: mark_of(site).unlink(),
    "an empty mark": lambda site: mark_of(site).write_text(""),
    "a mark cut short": lambda site: mark_of(site).write_text(mark_of(site).read_text()[:40]),
    "a mark of something else": lambda site: mark_of(site).write_text("[]"),
    "a mark that is no text": lambda site: mark_of(site).write_bytes(b"\xff\xfe"),
    "no Python": lambda site: (site.parents[2] / "bin" / "python").unlink(),
    "another Python": lambda site: other_python(site.parents[2] / "bin" / "python"),
    "no settings": lambda site: (site.parents[2] / "pyvenv.cfg").unlink(),
    "settings of another Python": lambda site: (site.parents[2] / "pyvenv.cfg").write_text(
        "version_info = 3.11.1\n"
    ),
    "a file that is cut short": lambda site: (site / "torch-2.9.1.dist-info" / "RECORD").write_text(
        "torch/__init__.py,sha256=x,100\n"
    ),
}


def other_python(place: Path) -> None:
    place.unlink()
    place.write_text("nonsense")


def mark_of(site: Path) -> Path:
    """What tells that an environment was made to its end; it lies beside the environment."""
    folder = site.parents[2]
    return folder.with_name(f"{folder.name}.json")


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED.keys())
def test_what_is_not_exactly_what_the_lock_says_is_made_anew(wheel: Wheel, spoil: Spoil) -> None:
    made = ensure(Uv(), wheel)
    assert ensure(Uv(), wheel).reused
    spoil(made.site)
    anew = ensure(Uv(), wheel)
    assert not anew.reused
    assert creation.installed(anew.site)["torch"] == "2.9.1"
    assert "intruder" not in creation.installed(anew.site)
    assert ensure(Uv(), wheel).reused


def test_another_lock_another_wheel_or_another_python_is_another_environment(
    wheel: Wheel, tmp_path: Path
) -> None:
    ensure(Uv(), wheel)
    other = dataclasses.replace(LOCK, text="another lock of the same packages")
    assert not ensure(Uv(), wheel, lock=other).reused
    assert ensure(Uv(), wheel, lock=other).reused
    wheel.path.write_text("the same version, built again")
    built = dataclasses.replace(wheel, sha256=files.sha256_file(wheel.path))
    assert not ensure(Uv(), built, lock=other).reused
    assert ensure(Uv(), built, lock=other).reused
    assert not ensure(Uv(), built, lock=other, python="another").reused


def test_every_install_takes_the_lock_and_nothing_else_and_links(wheel: Wheel) -> None:
    uv = Uv()
    ensure(uv, wheel)
    assert [c[1] for c in uv.calls] == ["venv", "pip", "pip"]
    pins, wheels = uv.step("--require-hashes"), uv.step(".whl")
    for argv in (pins, wheels):
        assert "--no-deps" in argv
        assert argv[argv.index("--link-mode") + 1] == "hardlink"
        assert "--no-config" in argv
    assert "-r" in pins
    assert wheels[-1] == str(wheel.path)


def test_the_requirements_that_are_installed_carry_their_hashes(wheel: Wheel) -> None:
    texts: list[str] = []
    uv = Uv()

    def run(argv: Sequence[str | os.PathLike[str]], **options: object) -> Completed:
        words = [os.fspath(a) for a in argv]
        if "--require-hashes" in words:
            texts.append(Path(words[words.index("-r") + 1]).read_text())
        return uv(argv, **options)  # type: ignore[arg-type]

    creation.ensure(CELL, LOCK, [wheel], python=Path("py"), uv=Path("uv"), run=run, say=quiet)
    (text,) = texts
    assert f"torch==2.9.1 --hash=sha256:{'ab' * 32}\n" in text
    assert "causal-conv1d" not in text


def test_without_wheels_only_the_lock_is_installed() -> None:
    uv = Uv()
    ensure(uv, lock=dataclasses.replace(LOCK, source_only=()))
    assert [c[1] for c in uv.calls] == ["venv", "pip"]


@pytest.mark.parametrize("step", ["venv", "pins", "wheels"])
def test_an_install_that_fails_is_no_verdict_and_what_it_left_is_not_kept(
    home: Path, wheel: Wheel, step: str
) -> None:
    with pytest.raises(InfrastructureError) as caught:
        ensure(Uv(breaks=step, also=("leftover",)), wheel)
    assert str(caught.value).endswith("No space left on device")
    assert "Failed to fetch" not in str(caught.value)
    assert caught.value.exit_code == 3
    anew = ensure(Uv(), wheel)
    assert not anew.reused
    assert not (anew.site / "leftover").exists()


def uv_says(output: str, times: int) -> tuple[Callable[..., Completed], list[list[str]]]:
    """A uv whose installs of pins fail so often, and then do not; and its calls."""
    uv = Uv()
    left = [output] * times

    def run(argv: Sequence[str | os.PathLike[str]], **options: Any) -> Completed:
        if "-r" in argv and left:
            return Completed(argv=(), returncode=2, output=left.pop(), seconds=0.0)
        return uv(argv, **options)

    return run, uv.calls


DAMAGED = "error: Failed to install: six-1.17.0-py3-none-any.whl (six==1.17.0)\n  cause: bad RECORD"


def test_a_package_that_is_damaged_in_uvs_cache_is_had_anew(wheel: Wheel, home: Path) -> None:
    run, calls = uv_says(DAMAGED, 1)
    ensure(run, wheel)
    assert ["uv", "cache", "clean", "--quiet", "six"] in calls
    run, calls = uv_says(DAMAGED, 2)
    with pytest.raises(InfrastructureError, match="bad RECORD"):
        ensure(run, wheel, lock=dataclasses.replace(LOCK, text="another"))
    assert not [path for path in (home / "envs").iterdir() if path.suffix == ".txt"]


def test_a_full_disk_is_no_damaged_package(wheel: Wheel) -> None:
    run, calls = uv_says(f"{DAMAGED}\n  cause: No space left on device", 1)
    with pytest.raises(InfrastructureError, match="No space left"):
        ensure(run, wheel)
    assert not [call for call in calls if "clean" in call]


def test_another_file_of_the_index_is_named_with_the_way_out(wheel: Wheel) -> None:
    run, _ = uv_says("error: Failed\n  cause: Hash mismatch for `six==1.17.0`\n\nExpected:\n", 1)
    with pytest.raises(WrongFileError, match=r"another file of six==1\.17\.0 .* nox -s lock -- "):
        ensure(run, wheel)


def test_an_environment_that_failed_to_change_is_not_taken_for_the_old_one(wheel: Wheel) -> None:
    ensure(Uv(), wheel)
    other = dataclasses.replace(LOCK, text="another lock of the same packages")
    with pytest.raises(InfrastructureError):
        ensure(Uv(breaks="wheels"), wheel, lock=other)
    # All of the packages are there by name, and still nobody knows what state they are in.
    assert not ensure(Uv(), wheel).reused


def test_an_interrupted_install_is_not_kept(wheel: Wheel) -> None:
    uv = Uv()

    def interrupted(argv: Sequence[str | os.PathLike[str]], **options: object) -> Completed:
        done = uv(argv, **options)  # type: ignore[arg-type]
        if any(os.fspath(a).endswith(".whl") for a in argv):
            raise KeyboardInterrupt
        return done

    with pytest.raises(KeyboardInterrupt):
        creation.ensure(
            CELL, LOCK, [wheel], python=Path("py"), uv=Path("uv"), run=interrupted, say=quiet
        )
    assert not ensure(Uv(), wheel).reused


def test_a_wheel_that_changed_in_the_wheelhouse_is_not_installed(wheel: Wheel) -> None:
    wheel.path.write_text("changed behind our back")
    uv = Uv()
    with pytest.raises(InfrastructureError, match=re.escape(wheel.path.name)):
        ensure(uv, wheel)
    assert not any("pip" in call for call in uv.calls)


def test_what_comes_out_otherwise_than_the_lock_is_an_error_and_not_kept(wheel: Wheel) -> None:
    with pytest.raises(InfrastructureError, match="differs from its lock"):
        ensure(Uv(also=("intruder-1.0.dist-info",)), wheel)
    assert not ensure(Uv(), wheel).reused


def test_test_data_of_third_packages_is_taken_out(wheel: Wheel) -> None:
    made = ensure(Uv(also=("onnx/backend/test/data/node", "onnx/backend/test/case")), wheel)
    assert not (made.site / "onnx/backend/test/data").exists()
    assert (made.site / "onnx/backend/test/case").exists()


@pytest.fixture
def asked(tmp_path: Path) -> Path:
    """A stand-in for the suite's own lock."""
    path = tmp_path / "suite-tools.txt"
    path.write_text("pytest==8.3.0 --hash=sha256:00\n")
    return path


def tools(asked: Path, uv: Uv, said: list[str] | None = None) -> Path:
    return creation.tools(
        asked,
        python=Path("py"),
        uv=Path("uv"),
        run=uv,
        say=quiet if said is None else said.append,
    )


def test_the_suites_tools_are_installed_once(asked: Path, home: Path) -> None:
    uv, said = Uv(), list[str]()
    folder = tools(asked, uv, said)
    assert (folder / "pytest").is_dir()
    assert folder.is_relative_to(home / "tools")
    assert len(said) == 1
    install = uv.step("install")
    assert "--require-hashes" in install
    assert "--no-deps" in install
    assert install[install.index("-r") + 1] == str(asked)
    again, heard = Uv(), list[str]()
    assert tools(asked, again, heard) == folder
    assert heard == []
    assert not any("install" in call for call in again.calls)


def test_every_python_series_and_every_list_of_tools_has_a_folder_of_its_own(asked: Path) -> None:
    first = tools(asked, Uv())
    older = tools(asked, Uv(series="3.11"))
    assert older != first
    assert older.name.endswith("-py3.11")
    asked.write_text("pytest==8.4.0 --hash=sha256:00\n")
    assert tools(asked, Uv()) not in (first, older)


def test_tools_that_were_installed_half_way_are_not_taken(asked: Path, home: Path) -> None:
    with pytest.raises(InfrastructureError, match="No space left on device"):
        tools(asked, Uv(breaks="tools"))
    assert not [p for p in (home / "tools").glob("*-py3.12") if p.is_dir()]
    (lock,) = (home / "tools").iterdir()
    part = lock.with_suffix(".part")
    part.mkdir()  # as of one that was killed
    (part / "leftover").touch()
    uv = Uv()
    folder = tools(asked, uv)
    assert uv.step("install")
    assert not (folder / "leftover").exists()
    assert not list((home / "tools").glob("*.part"))


def test_a_package_that_is_there_twice_is_not_what_the_lock_says(tmp_path: Path) -> None:
    for version in ("1.0", "2.0"):
        (tmp_path / f"a-{version}.dist-info").mkdir()
    assert set(creation.installed(tmp_path)) == {"a", "a (once more)"}
