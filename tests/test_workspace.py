"""Which workspace is meant, that the package's own is only read, and how one is made."""

from __future__ import annotations

import errno
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import snapshot
import tomllib
from support import ROOT

from mcore_compat import cli
from mcore_compat.base.errors import InfrastructureError, UsageError
from mcore_compat.cli import registry
from mcore_compat.core import workspace
from mcore_compat.core.workspace import VARIABLE, Workspace


def workspace_in(folder: Path) -> Path:
    """A folder that is a workspace, by the one file that makes it one."""
    (folder / "constraints").mkdir(parents=True)
    (folder / "constraints" / "matrix.toml").write_text("")
    return folder


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package, as if it were installed below this folder, with its snapshot; the working
    directory is an empty folder, and no other workspace is named."""
    place = tmp_path / "site-packages" / "mcore_compat"
    carried = place / "snapshot"
    workspace_in(carried)
    for name, text in (
        ("constraints/locks/compat-a.txt", "a lock"),
        ("reports/compatibility.json", "{}"),
        ("reports/constraints/compat-a.txt", "pins"),
        ("reports/results/compat-a/main.host.json", "a result"),
        ("reports/verdicts.json", "{}"),
        ("suite/run.py", "the suite"),
    ):
        (carried / name).parent.mkdir(parents=True, exist_ok=True)
        (carried / name).write_text(text)
    monkeypatch.setattr(workspace, "PACKAGE", place)
    monkeypatch.setattr(workspace, "SNAPSHOT", carried)
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("MCORE_COMPAT_HOME", str(tmp_path / "home"))
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    return place


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# Which one is meant


def test_the_named_comes_before_this_folder_and_the_checkout_before_the_snapshot(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert workspace.find() == Workspace(package / "snapshot")
    assert workspace.find().is_snapshot
    checkout = workspace_in(package.parent)
    assert workspace.find() == Workspace(checkout)
    here = workspace_in(tmp_path / "here")
    monkeypatch.chdir(here)
    assert workspace.find() == Workspace(here)
    named = workspace_in(tmp_path / "named")
    monkeypatch.setenv(VARIABLE, str(named))
    assert workspace.find() == Workspace(named)
    assert not workspace.find().is_snapshot


def test_what_is_named_may_be_relative_a_link_or_in_the_home(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = workspace_in(tmp_path / "named")
    (tmp_path / "link").symlink_to(named)
    monkeypatch.setenv("HOME", str(tmp_path))
    for word in ("../named", str(tmp_path / "link"), "~/named"):
        monkeypatch.setenv(VARIABLE, word)
        assert workspace.find() == Workspace(named)
    monkeypatch.setenv(VARIABLE, "")
    assert workspace.find().is_snapshot


def test_the_snapshot_by_its_name_is_the_snapshot_still(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(package / "snapshot"))
    assert workspace.find().is_snapshot


def test_an_option_comes_before_the_variable_and_goes_on_to_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "nowhere"))
    monkeypatch.chdir(snapshot.WORKSPACE.root.parent)
    assert cli.main(["list", "--workspace", snapshot.WORKSPACE.root.name]) == 0
    assert "compat-0.16-modelopt0.41" in capsys.readouterr().out
    assert os.environ[VARIABLE] == str(snapshot.WORKSPACE.root)


@pytest.mark.parametrize("kind", ["nothing", "an empty folder", "a file", "no matrix"])
@pytest.mark.parametrize("by_option", [True, False])
def test_what_is_no_workspace_is_one_line(
    kind: str,
    by_option: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    named = tmp_path / "named"
    if kind == "a file":
        named.write_text("")
    elif kind != "nothing":
        (named / ("constraints" if kind == "no matrix" else "")).mkdir(parents=True)
    monkeypatch.setenv(VARIABLE, str(named if not by_option else ROOT))
    options = ["--workspace", str(named)] if by_option else []
    for command in (["list"], ["run", "0.16-modelopt0.41"], ["doctor"]):
        assert cli.main([*command, *options]) == UsageError.exit_code
        said = f"mcore-compat: {named} is not a workspace: it has no constraints/matrix.toml\n"
        assert capsys.readouterr().err == said


# The snapshot is only read


WRITING = [command for command in registry.COMMANDS if command.writes]


@pytest.mark.parametrize("command", WRITING, ids=lambda command: command.name)
def test_what_would_write_into_the_snapshot_is_refused_before_anything_runs(
    command: registry.Command,
    package: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = tree(package)
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("something runs"))
    assert cli.main([command.name, *shlex.split(command.example)]) == UsageError.exit_code
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "read-only" in error
    assert "mcore-compat init FOLDER" in error
    assert tree(package) == before
    assert list(Path.cwd().iterdir()) == []


def test_any_other_workspace_may_be_written_to(package: Path, tmp_path: Path) -> None:
    Workspace(workspace_in(tmp_path / "mine")).need_writable()
    with pytest.raises(UsageError, match="read-only"):
        Workspace(package / "snapshot").need_writable()


def test_what_is_carried_is_what_the_wheel_is_made_of() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    within = f"mcore_compat/{workspace.SNAPSHOT.relative_to(workspace.PACKAGE).as_posix()}"
    assert wheel == {name: f"{within}/{name}" for name in (*workspace.CARRIED, "suite")}


# A workspace of one's own


def test_it_has_all_that_the_package_brings_and_is_meant_there(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = workspace.make(Path("mine/matrix"))
    assert made == Workspace(Path("mine/matrix").resolve())
    brought = {n: t for n, t in tree(package / "snapshot").items() if not n.startswith("suite/")}
    assert tree(made.root) == brought
    made.need_writable()
    monkeypatch.chdir(made.root)
    assert workspace.find() == made
    assert made.suite == package / "snapshot" / "suite", "that of the package, until it has one"
    (made.root / "suite").mkdir()
    (made.root / "suite" / "run.py").touch()
    assert made.suite == made.root / "suite"


def test_what_was_there_stays(package: Path) -> None:
    Path("notes.txt").write_text("mine")
    made = workspace.make(Path())
    assert (made.root / "notes.txt").read_text() == "mine"
    assert workspace.find() == made


def test_a_place_that_is_taken_is_one_line(
    package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = workspace_in(tmp_path / "mine")
    (tmp_path / "file").write_text("")
    for folder, why in (
        (mine, "has constraints/ already"),
        (tmp_path / "file", "and is not a folder"),
    ):
        before = tree(tmp_path)
        assert cli.main(["init", str(folder)]) == UsageError.exit_code
        error = capsys.readouterr().err
        assert why in error
        assert error.count("\n") == 1
        assert tree(tmp_path) == before


def test_from_a_checkout_it_is_made_of_the_checkout(tmp_path: Path) -> None:
    made = workspace.make(tmp_path / "mine")
    assert made.matrix.read_bytes() == Workspace(ROOT).matrix.read_bytes()
    assert made.published.read_bytes() == Workspace(ROOT).published.read_bytes()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("at", ["matrix.toml", "main.host.json", "verdicts.json"])
def test_what_a_full_disk_cut_short_is_none_and_can_be_made_again(
    at: str,
    number: int,
    package: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    copy = shutil.copyfile

    def full(source: Any, target: Any, **options: Any) -> Any:
        if Path(source).name == at:
            raise OSError(number, os.strerror(number))
        return copy(source, target, **options)

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", full)
        assert cli.main(["init", "mine"]) == InfrastructureError.exit_code
    error = capsys.readouterr().err
    assert error.startswith("mcore-compat: cannot write mine: ")
    assert error.count("\n") == 1
    assert os.strerror(number) in error
    monkeypatch.setenv(VARIABLE, "mine")
    with pytest.raises(UsageError, match="is not a workspace"):
        workspace.find()
    assert cli.main(["init", "mine"]) == 0
    brought = {n: t for n, t in tree(package / "snapshot").items() if not n.startswith("suite/")}
    assert tree(Path("mine")) == brought
    assert workspace.find() == Workspace(Path("mine").resolve())


KILLED = """
import os, shutil, signal, sys
from pathlib import Path
from mcore_compat.core import workspace
copy = shutil.copyfile
def dies(source, target, **options):
    if Path(source).name == "verdicts.json":
        os.kill(os.getpid(), signal.SIGKILL)
    return copy(source, target, **options)
shutil.copyfile = dies
workspace.SNAPSHOT = Path(sys.argv[1])
workspace.make(Path(sys.argv[2]))
"""


def test_one_that_was_killed_half_way_is_none_and_can_be_made_again(
    package: Path, tmp_path: Path
) -> None:
    argv = [sys.executable, "-c", KILLED, str(package / "snapshot"), str(tmp_path / "mine")]
    done = subprocess.run(argv, timeout=60, cwd=ROOT)
    assert done.returncode == -9
    assert (tmp_path / "mine").is_dir()
    assert not (tmp_path / "mine" / "constraints").exists()
    made = workspace.make(tmp_path / "mine")
    brought = {n: t for n, t in tree(package / "snapshot").items() if not n.startswith("suite/")}
    assert tree(made.root) == brought
