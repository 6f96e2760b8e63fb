"""Files are written whole or not at all, and the same input gives the same bytes."""

import errno
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import write_folder

from mcore_compat.base import files
from mcore_compat.base.errors import InfrastructureError

FULL = [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of the test's own."""
    monkeypatch.setenv("MCORE_COMPAT_HOME", str(tmp_path / "home"))


def fail(monkeypatch: pytest.MonkeyPatch, name: str, error: BaseException) -> None:
    """Let a function of `os` fail as it does on a full disk."""

    def failing(*_: object) -> None:
        raise error

    monkeypatch.setattr(os, name, failing)


def test_what_is_written_is_read_and_folders_are_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file.txt"
    files.write_text(path, "one\ntwo \u00d7\n")
    assert path.read_bytes() == b"one\ntwo \xc3\x97\n"
    files.write_text(path, "three")
    assert path.read_bytes() == b"three"
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]


def test_everyone_may_read_what_is_written(tmp_path: Path) -> None:
    files.write_text(tmp_path / "file.txt", "x")
    assert (tmp_path / "file.txt").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("number", FULL, ids=errno.errorcode.get)
def test_a_disk_that_cannot_be_written_leaves_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, number: int
) -> None:
    path = tmp_path / "folder" / "file.txt"
    files.write_text(path, "old")
    with monkeypatch.context() as patch:
        fail(patch, step, OSError(number, os.strerror(number)))
        with pytest.raises(InfrastructureError) as caught:
            files.write_text(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]
    assert str(path) in str(caught.value)
    assert os.strerror(number) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_file_that_was_not_there_is_not_there_after_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    fail(monkeypatch, step, OSError(errno.ENOSPC, "full"))
    with pytest.raises(InfrastructureError):
        files.write_text(tmp_path / "folder" / "file.txt", "new")
    assert list((tmp_path / "folder").iterdir()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.EINVAL, "broken")], ids=repr)
def test_any_other_failure_passes_through_and_leaves_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    path = tmp_path / "folder" / "file.txt"
    files.write_text(path, "old")
    with monkeypatch.context() as patch:
        fail(patch, "fsync", error)
        with pytest.raises(type(error)) as caught:
            files.write_text(path, "new")
    assert caught.value is error
    assert path.read_text() == "old"
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]


def test_content_is_on_the_disk_before_it_takes_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(handle: int) -> None:
        order.append("fsync")
        fsync(handle)

    def noted_replace(source: str, target: Path) -> None:
        order.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    files.write_text(tmp_path / "file.txt", "x")
    assert order == ["fsync", "rename"]


def test_json_is_sorted_and_ends_with_a_newline() -> None:
    text = files.dump_json({"b": [1, {"d": 1, "c": 2}], "a": "\u00d7"})
    assert text == files.dump_json({"a": "\u00d7", "b": [1, {"c": 2, "d": 1}]})
    assert json.loads(text) == {"a": "\u00d7", "b": [1, {"c": 2, "d": 1}]}
    assert text.index('"a"') < text.index('"b"') < text.index('"c"') < text.index('"d"')
    assert text.endswith("}\n")
    assert not text.endswith("\n\n")
    assert "\u00d7" in text


@pytest.mark.parametrize(
    "data",
    [
        {},
        [],
        {"a": [], "b": {}, "c": [[]]},
        {"texts": ["a", "\u00d7", '"\n'], "mixed": [1, None, True, 0.5, "x", [1], {"a": 1}]},
    ],
)
def test_json_is_as_the_standard_librarys(data: object) -> None:
    expected = json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False)
    assert files.dump_json(data) == expected + "\n"


@pytest.mark.parametrize("rows", [[], [{"d": 1, "c": [2, {"f": "\u00d7", "e": 0}]}, "text", []]])
def test_json_with_rows_is_the_same_with_each_in_a_line(rows: list[object]) -> None:
    data = {"b": [{"d": 1, "c": [2]}, "text", []], "a": "text", "empty": []}
    text = files.json_with_rows(data, "rows", rows)
    assert json.loads(text) == {**data, "rows": rows}
    assert text.startswith(files.dump_json(data)[:-3])
    lines = text.splitlines()[-len(rows) - 2 : -2]
    assert [line.strip(" ,") for line in lines] == [
        json.dumps(row, sort_keys=True, ensure_ascii=False, separators=(",", ":")) for row in rows
    ]
    assert text.endswith("}\n")
    assert "".join(files.json_pieces(data, {"rows": iter(rows)})) == text


def test_of_a_mapping_each_value_is_a_line() -> None:
    tables = {"by key": {"b\u00d7": [1, {"d": 2}], "a": {"c": "\u202e"}}, "none": {}}
    text = "".join(files.json_pieces({"first": 1}, {**tables, "rows": [3]}))
    assert json.loads(text) == {"first": 1, **tables, "rows": [3]}
    assert text.splitlines()[2:7] == [
        ' "by key": {',
        '  "a":{"c":"\\u202e"},',
        '  "b\\u00d7":[1,{"d":2}]',
        " },",
        ' "none": {},',
    ]


def test_digests_are_sha256_whatever_the_size(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert files.sha256_bytes(b"abc") == known
    assert files.sha256_file(path) == known
    large = b"0123456789abcdef" * 80_000  # more than one read
    path.write_bytes(large)
    assert files.sha256_file(path) == files.sha256_bytes(large)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder of Python files, with one that is none."""
    folder = tmp_path / "tree"
    (folder / "below").mkdir(parents=True)
    (folder / "one.py").write_text("1")
    (folder / "below" / "two.py").write_text("2")
    (folder / "notes.txt").write_text("x")
    return folder


def test_a_tree_changes_with_every_name_and_every_content(tree: Path) -> None:
    seen = [files.sha256_tree(tree)]
    (tree / "below" / "two.py").write_text("3")
    seen.append(files.sha256_tree(tree))
    (tree / "one.py").rename(tree / "uno.py")
    seen.append(files.sha256_tree(tree))
    (tree / "uno.py").rename(tree / "below" / "uno.py")
    seen.append(files.sha256_tree(tree))
    (tree / "empty.py").touch()
    seen.append(files.sha256_tree(tree))
    (tree / "below" / "two.py").unlink()
    seen.append(files.sha256_tree(tree))
    assert len(set(seen)) == len(seen)


def test_a_tree_tells_two_files_that_changed_places(tree: Path) -> None:
    before = files.sha256_tree(tree)
    (tree / "one.py").write_text("2")
    (tree / "below" / "two.py").write_text("1")
    assert files.sha256_tree(tree) != before


def test_a_tree_does_not_change_with_anything_else(tree: Path, tmp_path: Path) -> None:
    before = files.sha256_tree(tree)
    (tree / "notes.txt").write_text("y")
    (tree / "one.pyc").write_bytes(b"\0")
    (tree / "below" / "empty").mkdir()
    os.utime(tree / "one.py", (0, 0))
    assert files.sha256_tree(tree) == before
    assert files.sha256_tree(tree.rename(tmp_path / "elsewhere")) == before


def test_the_cache_is_where_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert files.home() == (tmp_path / "home").resolve()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MCORE_COMPAT_HOME", "~/mine")
    assert files.home() == (tmp_path / "mine").resolve()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MCORE_COMPAT_HOME", "relative")
    assert files.home() == (tmp_path / "relative").resolve()


@pytest.mark.parametrize("unset", [None, ""], ids=["unset", "empty"])
def test_without_a_name_the_cache_is_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unset: str | None
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("MCORE_COMPAT_HOME", "XDG_CACHE_HOME"):
        if unset is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, unset)
    assert files.home() == tmp_path / ".cache" / "mcore-compat"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert files.home() == tmp_path / "cache" / "mcore-compat"


def test_both_halves_of_a_folder_are_there(tmp_path: Path) -> None:
    made = [("a.html", "a"), ("x/b.html", "b")]
    assert write_folder(tmp_path / "site", made, [("x/c.html", "c")]) == 3
    there = {p.name: p.read_text() for p in (tmp_path / "site").rglob("*.html")}
    assert there == {"a.html": "a", "b.html": "b", "c.html": "c"}


def test_a_half_that_fails_leaves_the_folder_as_it_was(tmp_path: Path) -> None:
    write_folder(tmp_path / "site", [("a.html", "old")])

    def fails() -> Iterator[tuple[str, str]]:
        yield "b.html", "b"
        raise ValueError("of the other process")

    with pytest.raises(ValueError, match="of the other process"):
        write_folder(tmp_path / "site", [("a.html", "new")], fails())
    assert [p.read_text() for p in tmp_path.rglob("*.html")] == ["old"]


def test_a_half_that_is_killed_leaves_the_folder_as_it_was(tmp_path: Path) -> None:
    write_folder(tmp_path / "site", [("a.html", "old")])

    def killed() -> Iterator[tuple[str, str]]:
        os.kill(os.getpid(), signal.SIGKILL)
        yield "b.html", "b"

    with pytest.raises(InfrastructureError):
        write_folder(tmp_path / "site", [("a.html", "new")], killed())
    assert [p.read_text() for p in tmp_path.rglob("*.html")] == ["old"]
    assert [p.name for p in tmp_path.iterdir()] == ["site"]
