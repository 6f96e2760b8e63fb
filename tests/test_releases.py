"""Facts about releases: one line each, the same bytes for the same facts, errors of one line."""

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.version import Version

from mcore_compat.base.errors import MatrixError, UsageError
from mcore_compat.core import releases
from mcore_compat.core.releases import Release, Releases


def stand_ins(*versions: str, yanked: tuple[str, ...] = (), package: str = "a") -> Releases:
    """Releases that no index has, oldest first."""
    made = [Release(package=package, version=v, uploaded="", yanked=v in yanked) for v in versions]
    return Releases({package: tuple(sorted(made, key=lambda r: Version(r.version)))})


def rows(*found: object) -> str:
    """The text of a file with these rows."""
    return json.dumps({"releases": found})


words = st.lists(st.text(max_size=8), max_size=3).map(tuple)
one_release = st.builds(
    Release,
    package=st.sampled_from(["a", "b-c", "z"]),
    version=st.tuples(st.integers(0, 12), st.integers(0, 12)).map(lambda v: f"{v[0]}.{v[1]}"),
    uploaded=st.datetimes().map(lambda t: f"{t:%Y-%m-%dT%H:%M:%SZ}"),
    requires_python=st.text(max_size=8),
    yanked=st.booleans(),
    sdist=st.booleans(),
    wheels=words,
    requires=words,
)


def gathered(found: list[Release]) -> Releases:
    by_package: dict[str, list[Release]] = {}
    for release in sorted(found, key=lambda r: (r.package, Version(r.version))):
        by_package.setdefault(release.package, []).append(release)
    return Releases({package: tuple(rows) for package, rows in by_package.items()})


some = st.lists(one_release, max_size=8, unique_by=lambda r: (r.package, r.version)).map(gathered)


@settings(deadline=None)
@given(some)
def test_what_is_written_is_what_is_read(known: Releases) -> None:
    assert releases.parse(releases.dumps(known), "releases.json") == known


@settings(deadline=None)
@given(some)
def test_a_release_is_one_line(known: Releases) -> None:
    lines = releases.dumps(known).split("\n")[3:-3]
    expected = [(r.package, r.version) for found in known.by_package.values() for r in found]
    read = [json.loads(line.removesuffix(",")) for line in lines if line]
    assert [(r["package"], r["version"]) for r in read] == expected


def test_the_file_is_sorted_whatever_the_order_that_was_asked_in() -> None:
    known = Releases({**stand_ins("1.0", package="b").by_package, **stand_ins("2.0").by_package})
    text = releases.dumps(known)
    assert text.index('"a"') < text.index('"b"')
    assert json.loads(text)["made_by"] == "nox -s refresh"


def test_what_is_read_is_sorted_as_versions() -> None:
    wanted = (("b", "1.0"), ("a", "0.10"), ("a", "0.9"))
    text = rows(*({"package": p, "version": v, "uploaded": ""} for p, v in wanted))
    known = releases.parse(text, "releases.json")
    assert list(known.by_package) == ["a", "b"]
    assert [r.version for r in known.of("a")] == ["0.9", "0.10"]


def test_defaults_are_left_out_and_come_back() -> None:
    plain = Release(package="a", version="1.0", uploaded="2026-01-01T00:00:00Z")
    full = dataclasses.replace(plain, version="1.1", sdist=True, wheels=("py3-none-any",))
    lines = releases.dumps(Releases({"a": (plain, full)})).splitlines()
    assert lines[3:5] == [
        '  {"package": "a", "uploaded": "2026-01-01T00:00:00Z", "version": "1.0"},',
        '  {"package": "a", "sdist": true, "uploaded": "2026-01-01T00:00:00Z", '
        '"version": "1.1", "wheels": ["py3-none-any"]}',
    ]


ROW = {"package": "a", "version": "1.0", "uploaded": ""}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"releases": [',
        "\x00\x01\x02",
        "[]",
        "null",
        "{}",
        '{"release": []}',
        rows({**ROW, "sha": "x"}),
        '{"releases": 1}',
        '{"releases": null}',
        rows(1),
        rows("text"),
        rows({"package": "a", "uploaded": ""}),
        rows({"version": "1.0", "uploaded": ""}),
        rows({**ROW, "version": "one"}),
        rows({**ROW, "version": 1}),
        rows({**ROW, "wheels": None}),
    ],
)
def test_a_corrupt_file_is_one_line_with_the_way_out(text: str, tmp_path: Path) -> None:
    path = tmp_path / "releases.json"
    path.write_text(text)
    with pytest.raises(MatrixError) as caught:
        releases.load(path)
    assert "releases.json" in str(caught.value)
    assert "nox -s refresh" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_an_unknown_key_is_named_with_its_package() -> None:
    with pytest.raises(MatrixError) as caught:
        releases.parse(rows({**ROW, "yank": True}), "releases.json")
    assert "'yank'" in str(caught.value)
    assert "a: unknown key " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_says_how_it_is_made(tmp_path: Path) -> None:
    with pytest.raises(MatrixError, match=r"releases\.json does not exist.*nox -s refresh"):
        releases.load(tmp_path / "releases.json")


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("0.9", "0.9.2"),
        ("0.10", "0.10.10"),
        ("0.9.0", "0.9.0"),
        ("0.10.2", "0.10.2"),
        ("0.11", "0.11.0.post1"),
        ("0.12", "0.12.0"),
    ],
)
def test_a_series_is_its_newest_patch_that_is_not_yanked(wanted: str, found: str) -> None:
    known = stand_ins(
        *("0.9.0", "0.9.2", "0.10.2", "0.10.10", "0.11.0", "0.11.0.post1", "0.12.0", "0.12.1"),
        yanked=("0.12.1",),
    )
    assert known.newest("a", wanted).version == found


@pytest.mark.parametrize(
    ("wanted", "versions", "named"),
    [
        ("0.2", ["0.1.0", "0.20.0"], "0.1"),
        ("0.2", ["0.3.0", "0.20.0"], "0.3"),
        ("0.19", ["0.1.0", "0.20.0", "0.90.0"], "0.20"),
        ("0.2.9", ["0.2.0", "0.2.7", "0.29.0"], "0.2.7"),
        ("1.0", ["0.99.0", "2.1.0", "10.0.0"], "2.1"),
        ("3", ["0.3.0", "2.9.0"], "2.9"),
        ("0.61", ["0.6.0", "0.16.0", "0.19.0"], "0.16"),
        ("0.91", ["0.9.0", "0.11.0", "0.19.0"], "0.19"),
        ("0.166", ["0.16.0", "0.19.0"], "0.16"),
        ("0.21", ["0.12.0", "0.19.0"], "0.19"),
    ],
)
def test_an_unknown_version_is_refused_with_the_one_nearest_in_number(
    wanted: str, versions: list[str], named: str
) -> None:
    with pytest.raises(UsageError) as caught:
        stand_ins(*versions).newest("a", wanted)
    assert str(caught.value) == f'a has no release {wanted}; did you mean "{named}"?'


def test_a_yanked_release_is_refused_and_never_the_nearest() -> None:
    known = stand_ins("0.1.0", "0.2.0", "0.9.0", yanked=("0.2.0",))
    for wanted in ("0.2.0", "0.2"):
        with pytest.raises(UsageError, match=r'did you mean "0\.1"'):
            known.newest("a", wanted)


@pytest.mark.parametrize("known", [stand_ins("0.1.0"), stand_ins(), Releases({})])
@pytest.mark.parametrize("wanted", ["", "x", "0.x", "1.0 beta"])
def test_what_is_no_version_is_a_usage_error(known: Releases, wanted: str) -> None:
    with pytest.raises(UsageError) as caught:
        known.newest("a", wanted)
    assert f"a has no release {wanted}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_release_is_found_by_its_number_however_it_is_spelt() -> None:
    known = stand_ins("0.1.0", "0.2.0", yanked=("0.2.0",))
    assert known.get("a", "0.1").version == "0.1.0"
    assert known.get("a", "0.2.0").yanked
    with pytest.raises(UsageError, match=r"a has no release 0\.1\.1.*0\.1\.0"):
        known.get("a", "0.1.1")
    with pytest.raises(UsageError, match="b has no release"):
        known.get("b", "0.1.0")


LINUX = 'platform_system == "Linux"'


@pytest.mark.parametrize(
    ("requires", "cuda"),
    [
        (["nvidia-cuda-runtime-cu12 (==12.8.90)"], "12.8"),
        ([f"nvidia-cuda-runtime-cu12 (==12.1.105) ; {LINUX}"], "12.1"),
        ([f"nvidia-cuda-runtime-cu12==12.4.127; {LINUX}"], "12.4"),
        (["nvidia-cuda-runtime==13.0.48"], "13.0"),
        ([f"cuda-toolkit[cublas,cudart]==13.0.0; {LINUX}"], "13.0"),
        (["cuda-toolkit==13.2.1"], "13.2"),
        (["filelock", "nvidia-cudnn-cu12==9.10.2", "cuda-toolkit[nvtx]==13.0.2"], "13.0"),
        (["filelock", "nvidia-cudnn-cu12==9.10.2.21"], None),
        (["nvidia-cuda-runtime-cu12>=12.8"], None),
        (["cuda-bindings==13.0.3", "nvidia-cuda-nvrtc-cu12==12.8.93"], None),
        ([], None),
    ],
)
def test_the_cuda_of_torch_is_what_torch_pins(requires: list[str], cuda: str | None) -> None:
    torch = Release(package="torch", version="2.9.1", uploaded="", requires=tuple(requires))
    known = Releases({"torch": (torch,)})
    assert known.cuda_of_torch("2.9.1") == cuda
    assert known.cuda_of_torch("2.9.0") is None


def test_each_torch_has_its_own_cuda_and_no_other_package_counts() -> None:
    made = [
        Release(package=p, version=v, uploaded="", requires=(f"nvidia-cuda-runtime-cu12=={c}",))
        for p, v, c in (
            ("torch", "2.5.0", "12.4.1"),
            ("torch", "2.6.0", "12.6.1"),
            ("a", "1", "11.8.1"),
        )
    ]
    known = gathered(made)
    assert [known.cuda_of_torch(v) for v in ("2.5.0", "2.6.0", "1")] == ["12.4", "12.6", None]
