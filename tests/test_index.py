"""What the index says is gathered once, sorted, and never half; stand-ins answer for the index."""

from types import SimpleNamespace

import pypi_simple
import pytest
import remotezip
import requests
from index_support import (
    MISMATCH,
    PACKAGE,
    SDIST,
    WHEEL,
    StandIn,
    day,
    file,
    metadata,
    quiet,
    refreshed,
)

from mcore_compat.base.errors import InfrastructureError
from mcore_compat.core.releases import Release, Releases
from mcore_compat.index import package_index


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
    asked = StandIn({"b": [file("b-1.0.tar.gz")], "a": [file("a-1.0.tar.gz")]})
    found = package_index.refresh(Releases({}), asked, said.append, ["b", "a"])
    assert [len(found.of(p)) for p in ("b", "a")] == [1, 1]
    assert said == ["querying the index for b", "querying the index for a"]


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


@pytest.mark.parametrize(("package", "oldest"), package_index.PACKAGES.items())
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
    (found,) = package_index.refresh(known_with("torch"), asked, quiet, [PACKAGE]).of(PACKAGE)
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
    found = package_index.refresh(known_with("torch"), asked, quiet, [PACKAGE]).of(PACKAGE)
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
    (found,) = package_index.refresh(Releases({}), asked, quiet, [PACKAGE]).of(PACKAGE)
    assert asked.read == [read]
    assert found.requires == (f"number-{names.index(read)}",)


def test_a_release_without_metadata_requires_nothing() -> None:
    asked = StandIn({PACKAGE: [file(SDIST.format("1.0"))]})
    (found,) = package_index.refresh(Releases({}), asked, quiet, [PACKAGE]).of(PACKAGE)
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
    asked = StandIn(
        {"torch": [file("torch-9.0.tar.gz", "9.0")], PACKAGE: page}, {wheel.filename: error}
    )
    with pytest.raises(InfrastructureError) as caught:
        package_index.refresh(Releases({}), asked, quiet, ["torch", PACKAGE])
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
        package_index.refresh(Releases({}), asked, quiet, [PACKAGE])
    assert caught.value is error


def stand_ins(package: str, *versions: str) -> tuple[Release, ...]:
    return tuple(Release(package=package, version=v, uploaded="") for v in versions)


def test_what_was_added_is_named() -> None:
    before = Releases({"a": stand_ins("a", "1.0"), "gone": stand_ins("gone", "1.0")})
    after = Releases({"a": stand_ins("a", "1.0", "1.1"), "b": stand_ins("b", "1.0")})
    assert [(r.package, r.version) for r in package_index.added(before, after)] == [
        ("a", "1.1"),
        ("b", "1.0"),
    ]
    assert package_index.added(after, after) == ()
