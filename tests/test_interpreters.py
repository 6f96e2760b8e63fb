"""The Python of a cell is found wherever it is, and only one that runs is taken.

No Python is run here: files stand in for interpreters, and a stand-in answers for them.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mcore_compat.base.errors import InfrastructureError, InterpreterError
from mcore_compat.base.processes import Completed
from mcore_compat.environments import interpreters

UV = Path("uv")


@dataclass
class Machine:
    """Stands in for every process: an interpreter says its series, uv says where it found one.

    An interpreter that `says` does not name ends with an error, and so do those that `crash`.
    """

    root: Path
    says: dict[Path, str] = field(default_factory=dict)
    of_uv: Path | None = None
    crash: set[Path] = field(default_factory=set)
    asked: list[Path] = field(default_factory=list)

    def __call__(self, argv: Sequence[str | os.PathLike[str]], **options: Any) -> Completed:
        program = Path(argv[0])
        self.asked.append(program)
        if program == UV:
            found = self.of_uv
            text = f"warning: a line before the answer\n{found}" if found else "No interpreter"
            return ended(text, 0 if found else 2)
        fails = program in self.crash or program not in self.says
        return ended(self.says.get(program, "broken"), 1 if fails else 0)

    def pyenv(self, name: str, says: str | None = "3.12") -> Path:
        return self._add(self.root / "pyenv" / "versions" / name / "bin" / "python", says)

    def on_path(self, folder: str, says: str | None = "3.12") -> Path:
        return self._add(self.root / folder / "python3.12", says)

    def by_uv(self, says: str | None = "3.12") -> Path:
        self.of_uv = self._add(self.root / "uv" / "python3.12", says)
        return self.of_uv

    def _add(self, path: Path, says: str | None) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        path.chmod(0o755)
        if says is not None:
            self.says[path] = says
        return path

    def find(self) -> Path:
        return interpreters.find("3.12", self, UV)


def ended(output: str, returncode: int = 0) -> Completed:
    return Completed(argv=(), returncode=returncode, output=output, seconds=0.0)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine without any Python."""
    monkeypatch.setenv("MCORE_COMPAT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    folders = [tmp_path / "empty", tmp_path / "shims", tmp_path / "bin"]
    monkeypatch.setenv("PATH", os.pathsep.join(map(str, folders)))
    return Machine(tmp_path)


def test_the_newest_patch_of_pyenv_comes_first(machine: Machine) -> None:
    paths = {name: machine.pyenv(name) for name in ("3.12.9", "3.12.10", "3.12.1")}
    found = list(interpreters.candidates("3.12", machine, UV))
    assert found == [paths[name] for name in ("3.12.10", "3.12.9", "3.12.1")]
    assert machine.find() == paths["3.12.10"]


@pytest.mark.parametrize("name", ["3.12-dev", "3.12.1rc1", "3.12.x-debug", "3.11.9", "3.13.0"])
def test_what_is_no_release_of_the_series_is_passed_over(machine: Machine, name: str) -> None:
    machine.pyenv(name)
    assert list(interpreters.candidates("3.12", machine, UV)) == []


def test_without_pyenv_root_pyenv_is_looked_for_at_home(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = machine.pyenv("3.12.4")
    (machine.root / "pyenv").rename(machine.root / ".pyenv")
    monkeypatch.delenv("PYENV_ROOT")
    monkeypatch.setenv("HOME", str(machine.root))
    there = machine.root / ".pyenv" / path.relative_to(machine.root / "pyenv")
    assert list(interpreters.candidates("3.12", machine, UV)) == [there]


def test_pyenv_then_the_path_then_uv(machine: Machine) -> None:
    expected = [machine.pyenv("3.12.4"), machine.on_path("bin"), machine.by_uv()]
    assert list(interpreters.candidates("3.12", machine, UV)) == expected


def test_shims_on_the_path_are_passed_over(machine: Machine) -> None:
    machine.on_path("shims")
    assert list(interpreters.candidates("3.12", machine, UV)) == []
    real = machine.on_path("bin")
    assert machine.find() == real


def test_uv_is_asked_only_where_nothing_else_was_found(machine: Machine) -> None:
    path = machine.by_uv()
    assert machine.find() == path
    assert UV in machine.asked
    machine.asked.clear()
    machine.on_path("bin")
    assert machine.find() != path
    assert UV not in machine.asked


@pytest.mark.parametrize("says", [None, "3.11", ""], ids=["fails", "another series", "silent"])
def test_what_does_not_run_or_is_another_series_is_passed_over(
    machine: Machine, says: str | None
) -> None:
    wrong = [machine.pyenv("3.12.9", says), machine.on_path("bin", says)]
    right = machine.by_uv()
    assert machine.find() == right
    assert machine.asked[:2] == wrong


def test_what_answers_and_then_crashes_is_passed_over(machine: Machine) -> None:
    machine.crash.add(machine.pyenv("3.12.9"))
    right = machine.on_path("bin")
    assert machine.find() == right


def test_what_is_not_there_is_not_run(machine: Machine) -> None:
    gone = machine.pyenv("3.12.9")
    gone.unlink()
    right = machine.on_path("bin")
    assert machine.find() == right
    assert gone not in machine.asked


@pytest.mark.parametrize("broken", [False, True])
def test_where_there_is_none_one_line_says_what_to_do(machine: Machine, broken: bool) -> None:
    if broken:
        machine.pyenv("3.12.9", None)
        machine.by_uv("3.11")
    with pytest.raises(InterpreterError) as caught:
        machine.find()
    text = str(caught.value)
    assert caught.value.exit_code == 2
    assert "\n" not in text
    assert "python 3.12 " in text
    assert "uv python install 3.12" in text


@pytest.mark.parametrize("how", ["not executable", "for another machine"])
def test_what_cannot_be_started_is_passed_over(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    bad = machine.pyenv("3.12.9")
    right = machine.on_path("bin")
    answers = machine.__call__

    def run(argv: Sequence[str | os.PathLike[str]], **options: Any) -> Completed:
        if Path(argv[0]) == bad:
            raise PermissionError(13, how) if how == "not executable" else OSError(8, how)
        return answers(argv, **options)

    assert interpreters.find("3.12", run, Path("uv")) == right


def test_shims_are_passed_over_however_they_are_spelt(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.on_path("shims")
    right = machine.on_path("bin")
    monkeypatch.setenv("PATH", f"{machine.root}/shims/{os.pathsep}{machine.root}/bin")
    assert machine.find() == right


def test_one_that_was_killed_is_no_missing_one(tmp_path: Path) -> None:
    there = tmp_path / "python"

    def killed(argv: Sequence[str | os.PathLike[str]], **_: Any) -> Completed:
        return Completed(argv=(os.fspath(argv[0]),), returncode=-15, output="", seconds=0.1)

    with pytest.raises(InfrastructureError, match="python was killed by SIGTERM"):
        interpreters.is_of("3.12", there, killed)
