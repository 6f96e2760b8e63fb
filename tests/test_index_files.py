"""One file of the index: its metadata without the whole of it, and its bytes by their digest."""

import io
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pypi_simple
import pytest
import remotezip
import requests
from index_support import (
    MISMATCH,
    PACKAGE,
    StandIn,
    file,
    metadata,
)

from mcore_compat.base.errors import InfrastructureError
from mcore_compat.index import package_index
from mcore_compat.index.pip_index import PipIndex


def pip_index(**simple: Any) -> PipIndex:
    """PipIndex with a stand-in for what it asks."""
    made = object.__new__(PipIndex)
    made._simple = SimpleNamespace(**simple)  # type: ignore[assignment]
    return made


def copying(source: Path) -> Callable[[Any, Any], None]:
    """A stand-in for a download."""

    def download(pkg: Any, path: Any) -> None:
        shutil.copy(source, path)

    return download


def tarball(path: Path, members: Mapping[str, str]) -> Path:
    with tarfile.open(path, "w:gz") as source:
        for name, text in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            source.addfile(member, io.BytesIO(text.encode()))
    return path


def test_a_sources_metadata_is_its_own_and_not_a_vendored_one(tmp_path: Path) -> None:
    path = tarball(
        tmp_path / "a-1.0.tar.gz",
        {
            "a-1.0/vendor/b-2.0/PKG-INFO": metadata("of-the-vendored"),
            "a-1.0/a.egg-info/PKG-INFO": metadata("of-the-egg"),
            "a-1.0/NOT-PKG-INFO": "prose",
            "a-1.0/PKG-INFO": metadata("its-own"),
        },
    )
    asked = pip_index(download_package=copying(path))
    assert asked.metadata(file("a-1.0.tar.gz")) == metadata("its-own")


def test_a_source_without_metadata_has_none(tmp_path: Path) -> None:
    path = tarball(tmp_path / "a-1.0.tar.gz", {"a-1.0/b/PKG-INFO": metadata("of-the-vendored")})
    assert pip_index(download_package=copying(path)).metadata(file("a-1.0.tar.gz")) is None


def test_a_source_that_is_no_tarball_has_no_metadata(tmp_path: Path) -> None:
    path = tmp_path / "a-1.0.zip"
    with zipfile.ZipFile(path, "w") as source:
        source.writestr("a-1.0/PKG-INFO", metadata("torch"))
    assert pip_index(download_package=copying(path)).metadata(file("a-1.0.zip")) is None


def test_what_the_index_keeps_beside_a_wheel_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PipIndex, "_member", lambda self, file: pytest.fail("was opened"))
    asked = pip_index(get_package_metadata=lambda file, verify: f"beside {file.filename}")
    assert asked.metadata(file("a-1.0-py3-none-any.whl")) == "beside a-1.0-py3-none-any.whl"


def without_metadata(file: Any, verify: bool) -> str:
    """A stand-in for an index that keeps nothing beside a wheel."""
    raise pypi_simple.NoMetadataError(file.filename, file.url)


def test_a_wheel_is_opened_where_the_index_keeps_nothing_beside_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(PipIndex, "_member", lambda self, file: f"in {file.filename}")
    asked = pip_index(get_package_metadata=without_metadata)
    assert asked.metadata(file("a-1.0-py3-none-any.whl")) == "in a-1.0-py3-none-any.whl"


@pytest.mark.parametrize(
    ("member", "text"),
    [("a-1.0.dist-info/METADATA", "Name: a"), ("a-1.0.dist-info/RECORD", None)],
)
def test_the_member_of_a_wheel_is_its_metadata(
    member: str, text: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("a/METADATA", "not this one")
        wheel.writestr(member, "Name: a")
    opened: list[tuple[str, object]] = []

    def open_here(url: str, session: object) -> zipfile.ZipFile:
        """Stands in for reading by HTTP ranges."""
        opened.append((url, session))
        return zipfile.ZipFile(path)

    monkeypatch.setattr(remotezip, "RemoteZip", open_here)
    asked = pip_index(get_package_metadata=without_metadata, s="the session")
    wheel_file = file("a-1.0-py3-none-any.whl", url="https://index.invalid/a.whl#sha256=ab")
    assert asked.metadata(wheel_file) == text
    assert opened == [("https://index.invalid/a.whl", "the session")]


OURS, OTHER = "ab" * 32, "cd" * 32


def download(
    files: list[SimpleNamespace] | Exception,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    texts: Mapping[str, str | Exception | None] | None = None,
) -> Path:
    monkeypatch.setattr(package_index, "client", lambda: StandIn({PACKAGE: files}, texts or {}))
    return package_index.download_sdist(PACKAGE, "1.0", ["ef" * 32, OURS], tmp_path)


def test_the_source_is_the_one_of_the_locks_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [
        file("a-1.0.zip", digests={"sha256": OTHER}),
        file("a-1.0-py3-none-any.whl", digests={"sha256": OURS}),
        file("a-1.0.tar.xz", digests={"md5": OURS}),
        file("a-1.0.tar.gz", digests={"sha256": OURS}),
    ]
    path = download(files, tmp_path, monkeypatch)
    assert path == tmp_path / "a-1.0.tar.gz"
    assert path.read_text() == "a stand-in for a-1.0.tar.gz"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "files",
    [
        [],
        [file("a-1.0.tar.gz", digests={"sha256": OTHER})],
        [file("a-1.0.tar.gz", digests={})],
        [file("a-1.0-py3-none-any.whl", digests={"sha256": OURS})],
    ],
)
def test_a_source_of_another_hash_is_not_taken(
    files: list[SimpleNamespace], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InfrastructureError, match=rf"{PACKAGE} 1\.0.*hash"):
        download(files, tmp_path, monkeypatch)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("where", ["page", "download"])
@pytest.mark.parametrize(
    "error",
    [
        MISMATCH,
        requests.ConnectionError("no route"),
        OSError("no space"),
        pypi_simple.NoSuchProjectError(PACKAGE, "https://index.invalid"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_download_that_fails_names_what_was_asked_for(
    error: Exception, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = file("a-1.0.tar.gz", digests={"sha256": OURS})
    page: list[SimpleNamespace] | Exception = error if where == "page" else [source]
    with pytest.raises(InfrastructureError) as caught:
        download(page, tmp_path, monkeypatch, {source.filename: error})
    assert f"{PACKAGE} 1.0" in str(caught.value)
    assert type(error).__name__ in str(caught.value)
