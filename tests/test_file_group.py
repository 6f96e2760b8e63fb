"""Files that belong together are all written, or none."""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

import pytest
from support import ROOT, write_folder

from mcore_compat.base import file_group, files
from mcore_compat.base.errors import InfrastructureError
from mcore_compat.base.forks import forked


@pytest.fixture
def group(tmp_path: Path) -> dict[Path, str | None]:
    (tmp_path / "a").write_text("old a")
    (tmp_path / "c").write_text("old c")
    return {tmp_path / "a": "new a", tmp_path / "b": "new b", tmp_path / "c": None}


def content(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_all_are_written(group: dict[Path, str | None], tmp_path: Path) -> None:
    file_group.write_all(group)
    assert content(tmp_path) == {"a": "new a", "b": "new b"}


@pytest.mark.parametrize("number", [0, 1])
def test_a_disk_that_fills_meanwhile_changes_nothing(
    number: int,
    group: dict[Path, str | None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, calls = files.write_into, iter(range(9))

    def full(out: TextIO, text: str, *, durable: bool) -> None:
        if next(calls) == number:
            raise OSError(28, "No space left on device")
        real(out, text, durable=durable)

    monkeypatch.setattr(files, "write_into", full)
    with pytest.raises(InfrastructureError, match="No space left"):
        file_group.write_all(group)
    assert content(tmp_path) == {"a": "old a", "c": "old c"}


@pytest.mark.parametrize("name", ["a", "b"])
def test_a_rename_that_fails_takes_the_others_back(
    name: str,
    group: dict[Path, str | None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = os.replace

    def refuses(old: Path, new: Path) -> None:
        if Path(new) == tmp_path / name and Path(old).name.startswith(f".{name}."):
            monkeypatch.setattr(os, "replace", real)
            raise OSError(30, "Read-only file system")
        real(old, new)

    monkeypatch.setattr(os, "replace", refuses)
    with pytest.raises(InfrastructureError, match="Read-only"):
        file_group.write_all(group)
    assert content(tmp_path) == {"a": "old a", "c": "old c"}


@pytest.mark.parametrize("well", range(5))
def test_all_is_as_it_was_where_nothing_can_be_renamed_any_more(
    well: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path / "site", [("a.html", "old"), ("x/b.html", "old")])
    (tmp_path / "b").write_text("old")
    before = tree(tmp_path)
    left = iter(range(well))

    def once(real: Callable[..., None]) -> Callable[..., None]:
        def rename(old: Path, new: Path) -> None:
            if next(left, None) is None:
                raise OSError(5, "Input/output error")
            real(old, new)

        return rename

    with file_group.Changes() as changes:
        changes.write_folder(tmp_path / "site", [("a.html", "new")])
        changes.write(tmp_path / "a", "new")
        changes.write(tmp_path / "b", "new")
        for name in ("rename", "replace"):
            monkeypatch.setattr(os, name, once(getattr(os, name)))
        if well < 4:
            with pytest.raises(InfrastructureError, match="Input/output error"):
                changes.commit()
        else:
            changes.commit()
    assert (tree(tmp_path) == before) == (well < 4)


@pytest.mark.parametrize("failing", range(4))
def test_a_folder_too_is_as_it_was_whichever_step_fails(
    failing: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path / "site", [("a.html", "old"), ("x/b.html", "old")])
    for name in ("a", "gone"):
        (tmp_path / name).write_text("old")
    before = tree(tmp_path)
    real, calls = os.replace, iter(range(99))

    def full(old: Path, new: Path) -> None:
        if next(calls) == failing:
            raise OSError(28, "No space left on device")
        real(old, new)

    def write() -> None:
        with file_group.Changes() as changes:
            changes.write(tmp_path / "a", "new")
            changes.write(tmp_path / "new" / "folder" / "b", ["in ", "pieces"])
            changes.write_folder(tmp_path / "site", [("a.html", "new")], [("y/c.html", "new")])
            changes.remove(tmp_path / "gone")
            monkeypatch.setattr(os, "replace", full)
            changes.commit()

    if failing < 3:
        with pytest.raises(InfrastructureError, match="No space left"):
            write()
        assert tree(tmp_path) == before
    else:
        write()
        assert tree(tmp_path) == {
            "a": "new",
            "new": None,
            "new/folder": None,
            "new/folder/b": "in pieces",
            "site": None,
            "site/a.html": "new",
            "site/y": None,
            "site/y/c.html": "new",
        }


def tree(folder: Path) -> dict[str, str | None]:
    """All below a folder, hidden files too."""
    return {
        path.relative_to(folder).as_posix(): path.read_text() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def test_a_limit_of_the_size_of_files_changes_nothing(
    group: dict[Path, str | None], tmp_path: Path
) -> None:
    def limited() -> str:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        with pytest.raises(InfrastructureError) as caught:
            file_group.write_all({**group, tmp_path / "large": "x" * 5000})
        return str(caught.value)

    with forked(limited) as said:
        assert "large: File too large" in said()
    assert content(tmp_path) == {"a": "old a", "c": "old c"}


def test_what_dead_writers_have_left_is_removed_after_an_hour(tmp_path: Path) -> None:
    old = time.time() - file_group.OLD_S - 60
    for name in (".a.01234567", ".a.01234567.old", ".a.x_8k2m1q", ".other.01234567", ".a.toml"):
        (tmp_path / name).write_text("left")
        os.utime(tmp_path / name, (old, old))
    (tmp_path / ".a.76543210").write_text("somebody is writing")
    file_group.write_all({tmp_path / "a": "new"})
    there = {path.name for path in tmp_path.iterdir()}
    assert there == {"a", ".a.76543210", ".other.01234567", ".a.toml"}


def test_a_forked_writer_that_is_ended_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    def pieces() -> Iterator[str]:
        yield "first"
        (tmp_path / "writes").touch()
        time.sleep(600)

    with file_group.Changes() as changes:
        changes.expect([tmp_path / "a"])
        with forked(lambda: changes.write(tmp_path / "a", pieces())):
            while not (tmp_path / "writes").exists():
                time.sleep(0.01)
    assert [path.name for path in tmp_path.iterdir()] == ["writes"]


def test_a_killed_writer_leaves_nothing(tmp_path: Path) -> None:
    code = """if True:
        import os, signal, sys
        from pathlib import Path
        from mcore_compat.base.file_group import Changes
        with Changes() as changes:
            changes.write(Path("a"), "new")
            changes.write_folder(Path("site"), [("x.html", "new")])
            print(len(os.listdir()), flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
    """
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=variables,
        stdout=subprocess.PIPE,
        timeout=60,
    )
    assert int(done.stdout) == 2
    deadline = time.monotonic() + 10
    while os.listdir(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert os.listdir(tmp_path) == []
