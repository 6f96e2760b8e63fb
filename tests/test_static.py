"""The static pass: a stand-in index of a few packages, and what it says of whole cells."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import snapshot

from mcore_compat.base.errors import InfrastructureError
from mcore_compat.core.cells import Cell
from mcore_compat.index.metadata import MetadataStore, NotKeptError
from mcore_compat.resolve import resolvability, solver
from mcore_compat.resolve.solver import Installability, World, need

DATE = "2026-06-01"


def row(version: str, **said: Any) -> dict[str, Any]:
    standard: dict[str, Any] = {
        "version": version,
        "uploaded": "2026-01-01T00:00:00Z",
        "requires_python": "",
        "yanked": False,
        "sdist": True,
        "wheels": ["py3-none-any"],
    }
    return {**standard, **said}


def store(
    folder: Path, rows: Mapping[str, list[dict[str, Any]]], needs: Mapping[str, list[str]]
) -> MetadataStore:
    """A store that keeps `rows` by package, and requirements by `name version`."""
    folder.mkdir(parents=True, exist_ok=True)
    for package, page in rows.items():
        mine = {k.split()[1]: v for k, v in needs.items() if k.split()[0] == package}
        known = {**{r["version"]: [] for r in page}, **mine}
        data = {"asked": "2026-12-31", "page": page, "requires": known}
        (folder / f"{package}.json").write_text(json.dumps(data))
    return MetadataStore(folder=folder)


def ask(
    folder: Path,
    wanted: list[str],
    rows: Mapping[str, list[dict[str, Any]]],
    needs: Mapping[str, list[str]] | None = None,
    **world: Any,
) -> Installability:
    standard: dict[str, Any] = {
        "python": "3.12",
        "until": DATE,
        "sources": frozenset(),
        "overrides": (),
        "bounds": (),
    }
    there = World(**{**standard, **world})
    return solver.resolved([need(w) for w in wanted], there, store(folder, rows, needs or {}))


def test_what_fits_can_be_installed(tmp_path: Path) -> None:
    rows = {"a": [row("1.0"), row("2.0")], "b": [row("1.0")]}
    assert ask(tmp_path, ["a"], rows, {"a 2.0": ["b>=1"]}).installs


def test_a_contradiction_is_said_with_both_sides(tmp_path: Path) -> None:
    rows = {"a": [row("1.0")], "torch": [row("2.6.0"), row("2.8.0")]}
    found = ask(tmp_path, ["a==1.0", "torch==2.6.0"], rows, {"a 1.0": ["torch>=2.8"]})
    assert found.installs is False
    assert found.reason == "a 1.0 requires torch>=2.8; torch==2.6.0 is requested"


def test_an_older_release_that_fits_is_found(tmp_path: Path) -> None:
    rows = {"a": [row("1.0"), row("2.0")], "b": [row("1.0")]}
    assert ask(tmp_path, ["a", "b==1.0"], rows, {"a 2.0": ["b>=2"]}).installs


@pytest.mark.parametrize(
    ("said", "world", "expected"),
    [
        ({}, {}, True),
        ({"uploaded": "2026-06-01T00:00:01Z"}, {}, False),
        ({"requires_python": ">=3.13"}, {}, False),
        ({"requires_python": ">= '2.7'"}, {}, True),
        ({"yanked": True}, {}, False),
        ({"wheels": []}, {}, False),
        ({"wheels": []}, {"sources": frozenset({"a"})}, True),
        ({"sdist": False}, {"sources": frozenset({"a"})}, False),
        ({"wheels": ["cp312-cp312-manylinux_2_28_x86_64"]}, {}, True),
        ({"wheels": ["cp311-cp311-manylinux_2_28_x86_64"]}, {}, False),
        ({"wheels": ["cp39-abi3-manylinux2014_x86_64"]}, {}, True),
        ({"wheels": ["cp312-cp312-manylinux_2_39_x86_64"]}, {}, False),
    ],
)
def test_only_releases_of_the_world_may_be_taken(
    said: dict[str, Any], world: dict[str, Any], expected: bool, tmp_path: Path
) -> None:
    version = said.pop("version", "1.0")
    assert ask(tmp_path, ["a"], {"a": [row(version, **said)]}, **world).installs is expected


def test_a_pre_release_is_taken_only_where_no_release_is_left(tmp_path: Path) -> None:
    rows = {"a": [row("1.0"), row("2.0rc1")], "b": [row("1.0")]}
    assert ask(tmp_path, ["a", "b==1.0"], rows, {"a 1.0": ["b>=2"]}).installs
    assert ask(tmp_path / "2", ["a", "b==1.0"], rows, {"a 2.0rc1": ["b>=2"]}).installs


def test_a_yanked_release_may_be_pinned(tmp_path: Path) -> None:
    assert ask(tmp_path, ["a==1.0"], {"a": [row("1.0", yanked=True)]}).installs


def test_extras_and_markers_are_followed(tmp_path: Path) -> None:
    rows = {"a": [row("1.0")], "b": [row("1.0")]}
    needs = {"a 1.0": ['b>=2; extra == "more"', 'c; sys_platform == "win32"']}
    assert ask(tmp_path, ["a"], rows, needs).installs
    assert ask(tmp_path / "2", ["a[more]"], rows, needs).installs is False


def test_ranges_of_extras_hold_where_the_package_is_there_anyway(tmp_path: Path) -> None:
    rows = {"a": [row("1.0")], "b": [row("2.0")]}
    found = ask(tmp_path, ["a"], rows, {"a 1.0": ["b"]}, bounds=("b<2",))
    assert found.installs is False
    assert ask(tmp_path / "2", ["a"], rows, bounds=("b<2",)).installs, "nothing brings b"


def test_metadata_that_the_matrix_gives_is_taken_instead(tmp_path: Path) -> None:
    rows = {"a": [row("1.0")]}
    world = {"overrides": (("a", ()),)}
    assert ask(tmp_path, ["a"], rows, {"a 1.0": ["nothing-has-it"]}, **world).installs is True
    assert ask(tmp_path, ["a"], {**rows, "nothing-has-it": []}, {"a 1.0": ["nothing-has-it"]})


def test_what_is_not_kept_is_told_where_the_index_is_not_asked(tmp_path: Path) -> None:
    with pytest.raises(NotKeptError, match="the cache has no data of b"):
        ask(tmp_path, ["a"], {"a": [row("1.0")]}, {"a 1.0": ["b"]})


def test_a_file_cut_short_is_asked_for_again(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"page": [')
    with pytest.raises(NotKeptError):
        MetadataStore(folder=tmp_path).page("a", DATE)


class StandIn:
    """Stands in for the index; `asked` counts its answers."""

    def __init__(self, error: Exception | None = None) -> None:
        self.asked = 0
        self.error = error

    def get_project_page(self, project: str) -> Any:
        self.asked += 1
        if self.error:
            raise self.error
        return type("Page", (), {"packages": []})()

    def metadata(self, file: Any) -> str | None: ...

    def download_package(self, pkg: Any, path: Any) -> None: ...


def test_a_page_is_read_again_only_for_a_later_world(tmp_path: Path) -> None:
    asked = StandIn()
    mine = MetadataStore(folder=tmp_path, client=asked, today="2026-05-01")
    assert mine.page("a", DATE) == ()
    assert mine.page("a", DATE) == ()
    mine.save()
    later = MetadataStore(folder=tmp_path, client=asked, today="2026-05-20")
    later.page("a", "2026-04-01")
    assert asked.asked == 1
    later.page("a", DATE)
    assert asked.asked == 2


def test_an_index_that_does_not_answer_is_no_verdict(tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match="did not answer for a"):
        MetadataStore(folder=tmp_path, client=StandIn(OSError("down"))).page("a", DATE)


@pytest.fixture
def cells(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Cell]:
    monkeypatch.setenv("MCORE_COMPAT_HOME", str(tmp_path))
    from mcore_compat.core import combinations

    named = [f"compat-0.16-modelopt{s}" for s in ("0.40", "0.41")]
    return [combinations.named(name, snapshot.matrix(), snapshot.releases()) for name in named]


def test_what_was_answered_is_not_asked_again(
    cells: list[Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def verdict(cell: Cell, *_: object) -> Installability:
        seen.append(cell.name)
        return Installability(installs=cell.name.endswith("0.41"), reason="a reason")

    monkeypatch.setattr(solver, "verdict", verdict)
    args = (snapshot.matrix(), snapshot.releases())
    quiet: Any = {"offline": True, "jobs": 1, "say": lambda line: None}
    first = resolvability.sweep(cells, *args, **quiet)
    again = resolvability.sweep(cells, *args, **quiet)
    assert first.verdicts == again.verdicts
    assert (first.asked, again.asked) == (2, 0)
    assert len(seen) == 2
    assert first.reasons() == [("a reason", 1)]
    changed = [replace(cells[0], te="2.9.0"), cells[1]]
    assert resolvability.sweep(changed, *args, **quiet).asked == 1


def test_what_could_not_be_answered_offline_is_asked_again(
    cells: list[Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    def verdict(*_: object) -> Installability:
        raise NotKeptError("the cache has no data of a")

    monkeypatch.setattr(solver, "verdict", verdict)
    args = (snapshot.matrix(), snapshot.releases())
    quiet: Any = {"offline": True, "jobs": 1, "say": lambda line: None}
    for _ in range(2):
        found = resolvability.sweep(cells, *args, **quiet)
        assert found.asked == 2
        assert all(v.installs is None for v in found.verdicts.values())
        assert found.counts() == {resolvability.UNKNOWN: 2}


def test_what_took_too_long_is_left_to_uv() -> None:
    assert resolvability.InstallAnswers(
        verdicts={"a": Installability(installs=None)}, asked=1
    ).counts() == {resolvability.LEFT: 1}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"form": 1}', '{"form": 2, "answers": {"a": 1}}'])
def test_answers_that_cannot_be_read_are_none(
    text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MCORE_COMPAT_HOME", str(tmp_path))
    resolvability.path().parent.mkdir(parents=True)
    resolvability.path().write_text(text)
    assert resolvability.kept() == {}
