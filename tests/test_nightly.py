"""The commands of keeping up: the index stands in, and no cell is run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from index_support import StandIn, day, file, metadata
from support import event, stand_in_cell

from mcore_compat import cli
from mcore_compat.base.errors import UsageError
from mcore_compat.cli import commands, matrix_jobs
from mcore_compat.core import matrix, releases
from mcore_compat.core.releases import Release, Releases
from mcore_compat.index import package_index
from mcore_compat.results import evidence
from mcore_compat.results.evidence import Evidence
from mcore_compat.run import pipeline
from mcore_compat.schedule import new_releases, nightly
from mcore_compat.schedule.new_releases import NewRelease
from mcore_compat.schedule.plan import CellState

Made = Callable[..., Evidence]

TEXT = """\
schema = 1
# What is on the axes.
[axes]
megatron-core = ["0.16"]
nvidia-modelopt = ["0.41"]

[[stack]]
for = ["0.16"]
python = "3.12"
torch = "2.9.1"
transformer-engine = "2.11.0"
note = "a stand-in"
"""
TE = ("transformer-engine", "transformer-engine-torch", "transformer-engine-cu12")
FIRST = {"megatron-core": "0.16.1", "nvidia-modelopt": "0.41.0", "torch": "2.9.1"}
FIRST |= dict.fromkeys(TE, "2.11.0")


def wheel(package: str, version: str, number: int = 1) -> Any:
    name = f"{package.replace('-', '_')}-{version}-py3-none-any.whl"
    return file(name, version, upload_time=day(number))


class Place:
    """Constraints of a made-up project, and the index that is asked."""

    def __init__(self, folder: Path) -> None:
        self.matrix = folder / "matrix.toml"
        self.releases = folder / "releases.json"
        self.news = folder / "news.json"
        self.files = {package: [wheel(package, version)] for package, version in FIRST.items()}

    def add(self, package: str, version: str) -> None:
        self.files[package].append(wheel(package, version, number=2))

    @property
    def index(self) -> StandIn:
        needs = metadata("cuda-toolkit==12.8")
        return StandIn(self.files, {f.filename: needs for f in self.files["torch"]})

    def texts(self) -> dict[str, str]:
        paths = (self.matrix, self.releases, self.news)
        return {path.name: path.read_text() for path in paths if path.exists()}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    found = Place(tmp_path)
    found.matrix.write_text(TEXT)
    monkeypatch.setenv("MCORE_COMPAT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(matrix, "PATH", found.matrix)
    monkeypatch.setattr(matrix.load, "__defaults__", (found.matrix, None))
    monkeypatch.setattr(releases, "PATH", found.releases)
    monkeypatch.setattr(releases.load, "__defaults__", (found.releases,))
    monkeypatch.setattr(nightly.kept, "__defaults__", (found.news,))
    monkeypatch.setattr(nightly._keep, "__defaults__", (found.news,))
    monkeypatch.setattr(package_index, "client", lambda: found.index)
    monkeypatch.setattr(package_index.refresh, "__defaults__", (tuple(FIRST),))
    monkeypatch.setattr(evidence, "FOLDER", tmp_path / "evidence")
    path_of = evidence.path_of
    monkeypatch.setattr(
        evidence, "path_of", lambda cell, device: path_of(cell, device, tmp_path / "evidence")
    )
    monkeypatch.setattr(pipeline, "lock_path", lambda cell: tmp_path / f"{cell.name}.txt")
    assert cli.main(["refresh"]) == 0
    return found


def test_nothing_new_is_said_and_nothing_is_written(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    before = place.texts()
    capsys.readouterr()
    assert cli.main(["refresh"]) == 0
    assert capsys.readouterr().out == "nothing new\n"
    assert place.texts() == before
    assert "news.json" not in before


def test_a_refresh_says_what_the_matrix_lacks_and_adds_nothing(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    place.add("megatron-core", "0.17.0")
    assert cli.main(["refresh"]) == 0
    said = capsys.readouterr().out
    assert "new: megatron-core 0.17.0 of 2026-01-02" in said
    assert "not in the matrix: megatron-core 0.17 on TE 2.11.0, torch 2.9.1, python 3.12" in said
    assert "nox -s refresh -- --join" in said
    assert place.matrix.read_text() == TEXT


def test_new_series_join_once_even_where_a_refresh_saw_them_before(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    place.add("megatron-core", "0.17.0")
    place.add("nvidia-modelopt", "0.42.0")
    assert cli.main(["refresh"]) == 0
    assert cli.main(["refresh", "--join"]) == 0
    assert "joins the matrix: megatron-core 0.17 on TE" in capsys.readouterr().out
    assert matrix.load().mcore_series == ("0.16", "0.17")
    assert matrix.load().modelopt_series == ("0.41", "0.42")
    assert "# What is on the axes." in place.matrix.read_text()
    expected = [("megatron-core", "0.17.0"), ("nvidia-modelopt", "0.42.0")]
    assert [(n.package, n.version) for n in nightly.kept()] == expected
    before = place.texts()
    assert cli.main(["refresh", "--join"]) == 0
    assert place.texts() == before


def test_a_result_that_is_not_valid_replaces_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place.add("megatron-core", "0.17.0")
    before = place.texts()
    monkeypatch.setattr(
        new_releases, "join", lambda text, found: text.replace('["0.16"]', '["0.16", "0.17"]', 1)
    )
    assert cli.main(["refresh", "--join"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "mcore-compat: matrix.toml: megatron-core 0.17 has no [[stack]]"
    )
    assert place.texts() == before


def test_a_dry_night_names_the_cells_and_writes_nothing(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    place.add("megatron-core", "0.17.0")
    before = place.texts()
    assert cli.main(["nightly", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "compat-0.17-modelopt0.41: untested" in said
    assert "compat-0.16-modelopt0.41" not in said
    assert "1 cells to run" in said
    assert place.texts() == before


def test_the_cells_of_a_night_are_listed_in_parts(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    place.add("megatron-core", "0.17.0")
    place.add("nvidia-modelopt", "0.42.0")
    assert cli.main(["refresh", "--join"]) == 0

    def listed(*words: str) -> list[str]:
        capsys.readouterr()
        assert cli.main(["nightly", "--list", *words]) == 0
        return capsys.readouterr().out.splitlines()

    every = [f"compat-{a}-modelopt{b}" for a, b in (("0.16", 42), ("0.17", 41), ("0.17", 42))]
    every = [name.replace("modelopt4", "modelopt0.4") for name in every]
    assert listed() == every
    assert sorted(listed("--shard", "1/2") + listed("--shard", "2/2")) == every
    assert set(listed("--all-stale")) == {*every, "compat-0.16-modelopt0.41"}


def test_a_night_runs_the_new_cells_and_ends_as_they_do(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place.add("megatron-core", "0.17.0")
    ran: list[tuple[str, ...]] = []

    def matrix(selection: Any, options: Any, **_: Any) -> int:
        ran.append(selection.names)
        return 3

    monkeypatch.setattr(matrix_jobs, "matrix", matrix)
    monkeypatch.setattr(commands, "report_", lambda check: 0)
    monkeypatch.setattr(nightly.matrix_run, "resolve", lambda known, context: None)
    assert cli.main(["nightly", "-j", "1"]) == 3
    assert ran == [("compat-0.17-modelopt0.41",)]
    said = capsys.readouterr().out
    assert "## megatron-core 0.17.0, of 2026-01-02\n\nNo cell was run." in said
    # The next night goes on, although its refresh sees nothing new.
    assert cli.main(["nightly"]) == 3
    assert len(ran) == 2


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["nightly", "--shard", "3/2"], "there is no part 3 of 2"),
        (["nightly", "--step", "cell"], 'did you mean "cells"'),
        (["nightly", "-j", "0"], "at least one"),
        (["nightly", "--before", "/no/such"], "is not a folder of evidence"),
        (["matrix", "--shard", "x"], "write e.g. 2/8"),
        (["refresh", "--jion"], 'did you mean "--join"'),
    ],
)
def test_bad_input_is_one_line(
    argv: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(argv) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def known(uploaded: str = "2026-01-02") -> Releases:
    found = Release(package="megatron-core", version="0.16.1", uploaded=uploaded)
    return Releases({"megatron-core": (found,)})


def test_the_summary_tells_what_a_patch_broke_in_its_own_cell(made: Made) -> None:
    old = made(event("restore[gpt]"), event("build[gpt]"), cell=stand_in_cell("0.16.0"))
    new = made(event("restore[gpt]", "broken"), event("build[gpt]"), cell=stand_in_cell("0.16.1"))
    lines = nightly.summary(
        [NewRelease(package="megatron-core", version="0.16.1")], known(), [new], [old]
    )
    assert lines[0] == "## megatron-core 0.16.1, of 2026-01-02"
    assert "against `compat-0.16-modelopt0.41` (megatron-core 0.16.0, compatible)" in lines[2]
    assert "  - broke: `restore[gpt]`: KeyError: 'decoder.weight'" in lines


def test_what_a_patch_fixed_is_told_although_the_known_good_cell_is_older(made: Made) -> None:
    good = made(event("restore[gpt]"), cell=stand_in_cell("0.15.0"))
    bad = made(event("restore[gpt]", "broken"), cell=stand_in_cell("0.16.0"))
    new = made(event("restore[gpt]"), cell=stand_in_cell("0.16.1"))
    news = [NewRelease(package="megatron-core", version="0.16.1")]
    text = "\n".join(nightly.summary(news, known(), [good, new], [bad]))
    assert "megatron-core 0.15.0, compatible): broke 0, fixed 0" in text
    assert "megatron-core 0.16.0, incompatible): broke 0, fixed 1" in text
    assert "  - fixed: `restore[gpt]`" in text


def test_without_news_and_without_older_evidence_the_summary_says_so(made: Made) -> None:
    assert nightly.summary([], known(), [], []) == ["No new release of megatron-core or ModelOpt."]
    news = [NewRelease(package="megatron-core", version="0.16.1")]
    new = made(event("restore[gpt]"), cell=stand_in_cell("0.16.1"))
    assert "nothing older to compare with" in "\n".join(nightly.summary(news, known(), [new], []))


def test_evidence_that_a_patch_replaces_is_kept_for_the_comparison(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MCORE_COMPAT_HOME", str(tmp_path / "home"))
    folder = tmp_path / "evidence"
    path_of = evidence.path_of
    monkeypatch.setattr(
        evidence, "path_of", lambda cell, device, to=folder: path_of(cell, device, to)
    )
    monkeypatch.setattr(nightly.pipeline, "device_class", lambda: "host")
    old = made(event("restore[gpt]"), cell=stand_in_cell("0.16.0"))
    evidence.save(old, folder)
    one = CellState(cell=stand_in_cell(), state="0.16.1 is out", behind=True)
    nightly.keep_replaced([one])
    # The night goes on: the new patch was run, and what it replaced is still there.
    evidence.save(replace(old, pins={**old.pins, "megatron-core": "0.16.1"}), folder)
    nightly.keep_replaced([replace(one, behind=False)])
    assert [e.pins["megatron-core"] for e in nightly.earlier(None, print)] == ["0.16.0"]
    assert len(nightly.earlier(folder, print)) == 2
    with pytest.raises(UsageError):
        nightly.earlier(tmp_path / "none", print)
