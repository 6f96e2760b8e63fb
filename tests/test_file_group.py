"""Files that belong together are all written, or none."""

import os
from pathlib import Path

import pytest

from mcore_compat.base import file_group, files
from mcore_compat.base.errors import InfrastructureError


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
    real, calls = files.write_text, iter(range(9))

    def full(path: Path, text: str, *, durable: bool = True) -> None:
        if next(calls) == number:
            raise OSError(28, "No space left on device")
        real(path, text, durable=durable)

    monkeypatch.setattr(files, "write_text", full)
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
