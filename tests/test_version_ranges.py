"""Versions of other packages that each release's code accepts: how they are read, their file, and
how it is brought up to date."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ranges_support import CODE, MCORE, MODELOPT, TE, UTILS, known, lay_out

from mcore_compat.analysis import range_refresh
from mcore_compat.analysis.around import release_ranges
from mcore_compat.base.errors import InfrastructureError, MatrixError
from mcore_compat.core.releases import Release, Releases
from mcore_compat.core.workspace import Workspace
from mcore_compat.environments import version_guards


@pytest.mark.parametrize(
    ("package", "version", "key", "specifier", "line"),
    [
        (TE, "1.11.0", "flash-attn, asserted", ">=2.0.6,<=2.6.3", 2),
        (TE, "1.13.0", "flash-attn", ">=2.1.1,<=2.6.3", 2),
        (TE, "2.2.0", "flash-attn", ">=2.1.1,<=2.7.4.post1", 4),
        (TE, "2.12.0", "flash-attn", ">=2.1.1,<=2.8.3", 4),
        (TE, "2.20.2", "flash-attn", ">=2.1.1,<2.8.4", 4),
        (MODELOPT, "0.43.0", "transformers", ">=4.53,<5.0", 2),
        (MODELOPT, "0.44.0", "transformers", ">=4.56,<5.0", 1),
        (MODELOPT, "0.45.0", "transformers", ">=4.56,<5.10", 1),
        (MCORE, "0.18.0", "nvidia-resiliency-ext", ">=0.6.0", 1),
    ],
)
def test_bounds_are_read_from_the_code_of_every_generation(
    package: str, version: str, key: str, specifier: str, line: int, tmp_path: Path
) -> None:
    lay_out(package, version, tmp_path)
    (found,) = version_guards.ranges_of(package, tmp_path)
    assert (found.guard.key, found.specifier) == (key, specifier)
    assert found.where == f"{CODE[package][version][0]}:{line}"


def test_guards_of_a_package_are_told_apart() -> None:
    keys = [(guard.of, guard.key) for guard in version_guards.GUARDS]
    assert len(keys) == len({*keys})


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    made = known(tmp_path)
    text = release_ranges.dumps(made)
    again = release_ranges.parse(text, "version_ranges.json")
    assert again == made
    for package, by_release in CODE.items():
        for version in by_release:
            read = version_guards.ranges_of(package, tmp_path / package / version)
            assert again.of(package, version) == read
    assert again.of(TE, "2.12") == again.of(TE, "2.12.0+vendor") == again.of(TE, "2.12.0") != ()
    assert [*map(again.of, (TE, TE, "torch"), ("2.13.0", "x", "2.9.0"))] == [(), (), ()]


def test_a_line_a_change_and_none_where_nothing_changes(tmp_path: Path) -> None:
    text = release_ranges.dumps(known(tmp_path))
    changes = re.findall(r'^ \["([\d.]+)",(null|\{.*\})\]', text, re.M)
    assert [version for version, _ in changes if version.startswith("2.")] == [
        "2.2.0", "2.5.0", "2.12.0", "2.20.2",
    ]  # fmt: skip
    assert ("1.13.0", "null") in changes  # it asserts no more
    same = version_guards.ranges_of(TE, tmp_path / TE / "2.12.0")
    made = release_ranges.made({TE: {"2.12.0": same, "2.13.0": same}})
    assert made.of(TE, "2.13.0") == same
    assert len(made.packages[TE].ranges["flash-attn"]) == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"packages":{"torch":{"releases":["x"],"read_with":"","ranges":{}}}}',
        '{"packages":{"torch":{"releases":[],"read_with":"","ranges":{"a":[["x",null]]}}}}',
    ],
)
def test_a_damaged_file_is_told_with_what_remakes_it(text: str, tmp_path: Path) -> None:
    path = tmp_path / "version_ranges.json"
    path.write_text(text)
    why = r"version_ranges.json is not valid .*; remake it: nox -s refresh"
    with pytest.raises(MatrixError, match=why):
        release_ranges.load(path)


class Index:
    """An index whose wheels have the excerpts of Transformer Engine."""

    def __init__(self, broken: str = "") -> None:
        self.read: list[str] = []
        self.broken = broken

    def get_project_page(self, project: str) -> Any:
        rows = [
            SimpleNamespace(
                filename=f"p-{version}-py3-none-any.whl", version=version, package_type="wheel"
            )
            for version in CODE[TE]
        ]
        return SimpleNamespace(packages=rows)

    def sources(self, file: Any, folder: Path) -> None:
        self.read.append(file.version)
        if file.version == self.broken:
            raise InfrastructureError("the index did not answer")
        lay_out(TE, file.version, folder)


def releases(*versions: str) -> Releases:
    return Releases({TE: tuple(Release(package=TE, version=version) for version in versions)})


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    here = Workspace(tmp_path)
    here.constraints.mkdir()
    return here


def update(
    place: Workspace, index: Index, versions: Sequence[str], said: list[str], *, begin: bool = False
) -> tuple[str, ...]:
    index.read.clear()
    known = releases(*versions)
    return range_refresh.update(place, known, lambda: index, said.append, begin=begin)


def test_a_night_reads_only_what_is_new(place: Workspace) -> None:
    index = Index()
    assert update(place, index, ["2.5.0"], []) == ()
    assert not place.version_ranges.exists()
    assert update(place, index, ["2.5.0"], [], begin=True) == (f"{TE} 2.5.0",)
    assert update(place, index, ["2.5.0", "2.12.0"], []) == (f"{TE} 2.12.0",)
    assert index.read == ["2.12.0"]
    assert update(place, index, ["2.5.0", "2.12.0"], []) == ()
    assert index.read == []
    made = release_ranges.load(place.version_ranges)
    assert [made.of(TE, v)[0].most for v in ("2.5.0", "2.12.0")] == ["2.7.4.post1", "2.8.3"]
    assert made.of(TE, "2.12.0")[0].where == f"{UTILS}:4"


def test_a_release_that_cannot_be_read_is_left_to_the_next_time(place: Workspace) -> None:
    said: list[str] = []
    versions = ["2.5.0", "2.12.0"]
    assert update(place, Index("2.5.0"), versions, said, begin=True) == (f"{TE} 2.12.0",)
    assert said[-1] == "  the index did not answer; the next refresh tries again"
    assert update(place, Index(), versions, said) == (f"{TE} 2.5.0",)


def test_other_patterns_read_everything_again(
    place: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = Index()
    update(place, index, ["2.5.0"], [], begin=True)
    guards = tuple(replace(guard, most="") for guard in version_guards.GUARDS)
    monkeypatch.setattr(version_guards, "GUARDS", guards)
    assert release_ranges.load(place.version_ranges).of(TE, "2.5.0") == ()
    assert update(place, index, ["2.5.0"], []) == (f"{TE} 2.5.0",)
    assert release_ranges.load(place.version_ranges).of(TE, "2.5.0")[0].most == ""
