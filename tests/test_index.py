"""What the index says is gathered once, sorted, and never half; stand-ins answer for the index."""

import datetime
import io
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pypi_simple
import pytest
import remotezip
import requests

from mcore_compat import index
from mcore_compat.errors import InfrastructureError
from mcore_compat.releases import Release, Releases

PACKAGE = "a-stand-in"
"""Not in PACKAGES: without an oldest version."""

WHEEL = "a_stand_in-{}-py3-none-any.whl"
SDIST = "a_stand_in-{}.tar.gz"

MISMATCH = pypi_simple.DigestMismatchError(
    algorithm="sha256", expected_digest="aa", actual_digest="bb", url="https://index.invalid/a"
)


def file(filename: str, version: str = "1.0", **said: Any) -> SimpleNamespace:
    """A stand-in for a file of the index."""
    standard = {
        "filename": filename,
        "version": version,
        "package_type": "wheel" if filename.endswith(".whl") else "sdist",
        "upload_time": None,
        "requires_python": None,
        "is_yanked": False,
        "digests": {},
        "url": f"https://index.invalid/{filename}",
    }
    assert set(said) <= set(standard)
    return SimpleNamespace(**{**standard, **said})


def day(number: int, hour: int = 12) -> datetime.datetime:
    return datetime.datetime(2026, 1, number, hour, tzinfo=datetime.timezone.utc)


@dataclass
class StandIn:
    """Stands in for the index: `files` by package, METADATA by file name; an exception is raised.

    `read` names the files whose metadata was asked for.
    """

    files: Mapping[str, list[SimpleNamespace] | Exception]
    texts: Mapping[str, str | Exception | None] = field(default_factory=dict)
    read: list[str] = field(default_factory=list)

    def get_project_page(self, project: str) -> Any:
        found = self.files[project]
        if isinstance(found, Exception):
            raise found
        return SimpleNamespace(packages=found)

    def metadata(self, file: Any) -> str | None:
        self.read.append(file.filename)
        text = self.texts.get(file.filename)
        if isinstance(text, Exception):
            raise text
        return text

    def download_package(self, pkg: Any, path: Any) -> None:
        found = self.texts.get(pkg.filename)
        if isinstance(found, Exception):
            raise found
        Path(path).write_text(f"a stand-in for {pkg.filename}")


def quiet(text: str) -> None:
    """Says nothing."""


def refreshed(
    *files: SimpleNamespace,
    texts: Mapping[str, str | Exception | None] | None = None,
    known: Releases | None = None,
    package: str = PACKAGE,
) -> tuple[Release, ...]:
    """What a refresh gathers from `files`."""
    asked = StandIn({package: list(files)}, texts or {})
    return index.refresh(known or Releases({}), asked, quiet, [package]).of(package)


def metadata(*requires: str) -> str:
    lines = ["Metadata-Version: 2.1", "Name: a-stand-in", "Version: 1.0"]
    return "\n".join([*lines, *(f"Requires-Dist: {r}" for r in requires)]) + "\n\nProse.\n"


def test_the_files_of_a_version_are_one_release() -> None:
    wheel = WHEEL.format("1.0")
    found = refreshed(
        file(wheel, upload_time=day(3), requires_python=">=3.10", is_yanked=True),
        file(SDIST.format("1.0"), upload_time=day(2)),
        texts={wheel: metadata("torch", 'einops~=0.8; extra == "dev"')},
    )
    assert found == (
        Release(
            package=PACKAGE,
            version="1.0",
            uploaded="2026-01-02T12:00:00Z",
            requires_python=">=3.10",
            yanked=False,
            sdist=True,
            wheels=("py3-none-any",),
            requires=('einops~=0.8; extra == "dev"', "torch"),
        ),
    )


def test_releases_are_sorted_as_versions() -> None:
    versions = ["0.10.0", "0.9.1", "0.9.0", "0.10.0.post2"]
    found = refreshed(*(file(SDIST.format(v), v) for v in versions))
    assert [r.version for r in found] == ["0.9.0", "0.9.1", "0.10.0", "0.10.0.post2"]


def test_every_package_is_asked_for_and_said() -> None:
    said: list[str] = []
    asked = StandIn({"b": [file("b-1.0.tar.gz")], "a": []})
    found = index.refresh(Releases({}), asked, said.append, ["b", "a"])
    assert [len(found.of(p)) for p in ("b", "a")] == [1, 0]
    assert said == ["asking the index for b", "asking the index for a"]


def test_the_upload_is_that_of_the_first_file_wherever_it_is_in_the_list() -> None:
    times = [day(5), None, day(4, hour=23), day(9)]
    (found,) = refreshed(*(file(SDIST.format("1.0"), upload_time=t) for t in times))
    assert found.uploaded == "2026-01-04T23:00:00Z"


def test_an_index_that_gives_no_times_gives_no_upload() -> None:
    (found,) = refreshed(file(SDIST.format("1.0")))
    assert found.uploaded == ""


@pytest.mark.parametrize(
    ("files", "yanked"), [((True, True), True), ((True, False), False), ((False, False), False)]
)
def test_a_release_is_yanked_once_all_its_files_are(files: tuple[bool, ...], yanked: bool) -> None:
    (found,) = refreshed(*(file(SDIST.format("1.0"), is_yanked=y) for y in files))
    assert found.yanked is yanked


@pytest.mark.parametrize(
    ("name", "sdist"), [(SDIST.format("1.0"), True), (WHEEL.format("1.0"), False)]
)
def test_a_release_says_whether_it_has_a_source(name: str, sdist: bool) -> None:
    (found,) = refreshed(file(name))
    assert found.sdist is sdist


@pytest.mark.parametrize(
    ("tags", "kept"),
    [
        ("py3-none-any", "py3-none-any"),
        ("py2.py3-none-any", "py2.py3-none-any"),
        ("cp312-cp312-linux_x86_64", "cp312-cp312-linux_x86_64"),
        (
            "cp39-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64",
            "cp39-abi3-manylinux2014_x86_64.manylinux_2_17_x86_64",
        ),
        ("cp312-cp312-manylinux_2_28_aarch64", None),
        ("cp312-cp312-win_amd64", None),
        ("cp312-none-macosx_11_0_arm64", None),
        ("cp312-cp312-macosx_10_9_x86_64", None),
    ],
)
def test_only_wheels_that_the_machine_can_take_are_kept(tags: str, kept: str | None) -> None:
    (found,) = refreshed(file(f"a_stand_in-1.0-{tags}.whl"))
    assert found.wheels == ((kept,) if kept else ())


def test_a_wheel_whose_name_is_none_is_passed_over() -> None:
    (found,) = refreshed(file("a_stand_in-1.0-any.whl"), file(WHEEL.format("1.0")))
    assert found.wheels == ("py3-none-any",)


def test_tags_are_sorted_and_each_is_there_once() -> None:
    tags = ["cp312-cp312-linux_x86_64", "cp311-cp311-linux_x86_64"]
    builds = [f"1.0-{build}{tag}" for tag in tags for build in ("", "1-", "2-")]
    (found,) = refreshed(*(file(f"a_stand_in-{b}.whl") for b in builds))
    assert found.wheels == tuple(sorted(tags))


@pytest.mark.parametrize("version", ["1.0rc1", "1.0a1", "1.0.dev3", "1.0.post1.dev2", "", None])
def test_what_is_no_release_is_left_out(version: str | None) -> None:
    odd = file("a_stand_in-odd.tar.gz")
    odd.version = version
    found = refreshed(odd, file(SDIST.format("0.9"), "0.9"))
    assert [r.version for r in found] == ["0.9"]


@pytest.mark.parametrize(("package", "oldest"), index.PACKAGES.items())
def test_what_is_older_than_matters_is_left_out(package: str, oldest: str) -> None:
    versions = ["0.1", f"{oldest}.dev1", oldest, f"{oldest}.1"]
    files = [file(f"a-{v}.tar.gz", v) for v in versions]
    assert [r.version for r in refreshed(*files, package=package)] == versions[2:]


def test_without_an_oldest_version_everything_is_kept() -> None:
    assert [r.version for r in refreshed(file("a-0.0.1.tar.gz", "0.0.1"))] == ["0.0.1"]


def known_with(*requires: str) -> Releases:
    """A stand-in for what an earlier refresh wrote."""
    old = Release(package=PACKAGE, version="1.0", uploaded="", requires=requires)
    return Releases({PACKAGE: (old,)})


def test_known_metadata_is_not_asked_for_again_but_the_rest_is_new() -> None:
    wheel = file(WHEEL.format("1.0.0"), "1.0.0", is_yanked=True)
    asked = StandIn({PACKAGE: [wheel]}, {wheel.filename: metadata("other")})
    (found,) = index.refresh(known_with("torch"), asked, quiet, [PACKAGE]).of(PACKAGE)
    assert asked.read == []
    assert found.requires == ("torch",)
    assert found.yanked


def test_a_release_that_is_known_without_metadata_is_asked_for_again() -> None:
    wheel = file(WHEEL.format("1.0"))
    (found,) = refreshed(wheel, texts={wheel.filename: metadata("torch")}, known=known_with())
    assert found.requires == ("torch",)


def test_a_new_version_of_a_known_package_is_asked_for() -> None:
    files = [file(WHEEL.format(v), v) for v in ("1.0", "1.1")]
    asked = StandIn({PACKAGE: files}, {files[1].filename: metadata("einops")})
    found = index.refresh(known_with("torch"), asked, quiet, [PACKAGE]).of(PACKAGE)
    assert asked.read == [files[1].filename]
    assert [r.requires for r in found] == [("torch",), ("einops",)]


ARM = "a_stand_in-1.0-cp312-cp312-manylinux_2_28_aarch64.whl"
LINUX = "a_stand_in-1.0-cp312-cp312-manylinux_2_28_x86_64.whl"
MAC = "a_stand_in-1.0-cp312-cp312-macosx_10_9_x86_64.whl"
WINDOWS = "a_stand_in-1.0-cp312-cp312-win_amd64.whl"


@pytest.mark.parametrize(
    ("names", "read"),
    [
        ([SDIST.format("1.0"), WHEEL.format("1.0")], WHEEL.format("1.0")),
        ([ARM, WINDOWS, LINUX], LINUX),
        ([SDIST.format("1.0"), ARM], ARM),
        ([SDIST.format("1.0")], SDIST.format("1.0")),
        ([MAC, LINUX], LINUX),
    ],
)
def test_metadata_is_that_of_the_wheel_that_is_nearest(names: list[str], read: str) -> None:
    texts = {n: metadata(f"number-{i}") for i, n in enumerate(names)}
    asked = StandIn({PACKAGE: [file(n) for n in names]}, texts)
    (found,) = index.refresh(Releases({}), asked, quiet, [PACKAGE]).of(PACKAGE)
    assert asked.read == [read]
    assert found.requires == (f"number-{names.index(read)}",)


def test_a_release_without_metadata_requires_nothing() -> None:
    asked = StandIn({PACKAGE: [file(SDIST.format("1.0"))]})
    (found,) = index.refresh(Releases({}), asked, quiet, [PACKAGE]).of(PACKAGE)
    assert asked.read == [SDIST.format("1.0")]
    assert found.requires == ()


@pytest.mark.parametrize("where", ["page", "metadata"])
@pytest.mark.parametrize(
    "error",
    [
        requests.ConnectionError("no route"),
        requests.HTTPError("503"),
        OSError("reset"),
        TimeoutError(),
        pypi_simple.NoSuchProjectError(PACKAGE, "https://index.invalid"),
        remotezip.RemoteIOError("503"),
        MISMATCH,
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_network_failure_names_the_package_and_is_not_ours(error: Exception, where: str) -> None:
    wheel = file(WHEEL.format("1.0"))
    page: list[SimpleNamespace] | Exception = error if where == "page" else [wheel]
    asked = StandIn({"torch": [], PACKAGE: page}, {wheel.filename: error})
    with pytest.raises(InfrastructureError) as caught:
        index.refresh(Releases({}), asked, quiet, ["torch", PACKAGE])
    assert PACKAGE in str(caught.value)
    assert type(error).__name__ in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("where", ["page", "metadata"])
@pytest.mark.parametrize("error", [ValueError("a slip"), KeyError("a slip"), AttributeError()])
def test_a_bug_is_not_called_a_network_failure(error: Exception, where: str) -> None:
    wheel = file(WHEEL.format("1.0"))
    page: list[SimpleNamespace] | Exception = error if where == "page" else [wheel]
    asked = StandIn({PACKAGE: page}, {wheel.filename: error})
    with pytest.raises(type(error)) as caught:
        index.refresh(Releases({}), asked, quiet, [PACKAGE])
    assert caught.value is error


def stand_ins(package: str, *versions: str) -> tuple[Release, ...]:
    return tuple(Release(package=package, version=v, uploaded="") for v in versions)


def test_what_was_added_is_named() -> None:
    before = Releases({"a": stand_ins("a", "1.0"), "gone": stand_ins("gone", "1.0")})
    after = Releases({"a": stand_ins("a", "1.0", "1.1"), "b": stand_ins("b", "1.0")})
    assert [(r.package, r.version) for r in index.added(before, after)] == [
        ("a", "1.1"),
        ("b", "1.0"),
    ]
    assert index.added(after, after) == ()


def pip_index(**simple: Any) -> index.PipIndex:
    """PipIndex with a stand-in for what it asks."""
    made = object.__new__(index.PipIndex)
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
    monkeypatch.setattr(index.PipIndex, "_member", lambda self, file: pytest.fail("was opened"))
    asked = pip_index(get_package_metadata=lambda file, verify: f"beside {file.filename}")
    assert asked.metadata(file("a-1.0-py3-none-any.whl")) == "beside a-1.0-py3-none-any.whl"


def without_metadata(file: Any, verify: bool) -> str:
    """A stand-in for an index that keeps nothing beside a wheel."""
    raise pypi_simple.NoMetadataError(file.filename, file.url)


def test_a_wheel_is_opened_where_the_index_keeps_nothing_beside_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(index.PipIndex, "_member", lambda self, file: f"in {file.filename}")
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
    monkeypatch.setattr(index, "client", lambda: StandIn({PACKAGE: files}, texts or {}))
    return index.download_sdist(PACKAGE, "1.0", ["ef" * 32, OURS], tmp_path)


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
        [file("a-1.0.tar.gz")],
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
