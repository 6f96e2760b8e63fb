"""The commands of keeping up: the index stands in, and no cell is run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from index_support import StandIn, day, file
from support import event, stand_in_cell

from mcore_compat import cli
from mcore_compat.base import files
from mcore_compat.base.errors import UsageError
from mcore_compat.core.cells import Cell
from mcore_compat.core.releases import Release, Releases
from mcore_compat.core.workspace import VARIABLE, Workspace
from mcore_compat.environments import toolkits
from mcore_compat.environments.toolkits import Toolkit
from mcore_compat.index import package_index
from mcore_compat.results import store
from mcore_compat.results.result import Result
from mcore_compat.run import machine
from mcore_compat.run.context import Context, context
from mcore_compat.schedule import matrix_run, new_releases, nightly
from mcore_compat.schedule.jobs import job_options
from mcore_compat.schedule.matrix_run import MatrixResult
from mcore_compat.schedule.new_releases import NewRelease
from mcore_compat.schedule.plan import CellStatus

Made = Callable[..., Result]

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


def test_a_matrix_that_would_not_be_valid_replaces_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = Workspace(tmp_path)
    files.write_text(workspace.matrix, TEXT)
    wheel = file("megatron_core-0.17.0-py3-none-any.whl", "0.17.0", upload_time=day(2))
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    monkeypatch.setattr(package_index, "client", lambda: StandIn({"megatron-core": [wheel]}))
    monkeypatch.setattr(package_index.refresh, "__defaults__", (("megatron-core",),))
    monkeypatch.setattr(
        new_releases, "join", lambda text, found: text.replace('["0.16"]', '["0.16", "0.17"]', 1)
    )
    assert cli.main(["refresh", "--join"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "mcore-compat: matrix.toml: megatron-core 0.17 has no [[stack]]"
    )
    assert workspace.matrix.read_text() == TEXT
    assert [path.name for path in workspace.constraints.iterdir()] == ["matrix.toml"]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["nightly", "--shard", "3/2"], "there is no part 3 of 2"),
        (["nightly", "--step", "cell"], 'did you mean "cells"'),
        (["nightly", "-j", "0"], "at least one"),
        (["nightly", "--before", "/no/such"], "is not a folder of results"),
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


def test_without_news_and_without_older_results_the_summary_says_so(made: Made) -> None:
    assert nightly.summary([], known(), [], []) == ["No new release of megatron-core or ModelOpt."]
    news = [NewRelease(package="megatron-core", version="0.16.1")]
    new = made(event("restore[gpt]"), cell=stand_in_cell("0.16.1"))
    assert "nothing older to compare with" in "\n".join(nightly.summary(news, known(), [new], []))


def test_a_result_that_a_patch_replaces_is_kept_for_the_comparison(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MCORE_COMPAT_HOME", str(tmp_path / "home"))
    folder = tmp_path / "results"
    monkeypatch.setattr(machine, "device_class", lambda: "host")
    old = made(event("restore[gpt]"), cell=stand_in_cell("0.16.0"))
    store.save(old, folder)
    one = CellStatus(cell=stand_in_cell(), state="0.16.1 is out", behind=True)
    nightly.keep_replaced([one], folder)
    # The night goes on: the new patch was run, and what it replaced is still there.
    store.save(replace(old, pins={**old.pins, "megatron-core": "0.16.1"}), folder)
    nightly.keep_replaced([replace(one, behind=False)], folder)
    assert [e.pins["megatron-core"] for e in nightly.earlier(None)] == ["0.16.0"]
    assert len(nightly.earlier(folder)) == 2
    with pytest.raises(UsageError):
        nightly.check_folder(tmp_path / "none")


@pytest.mark.parametrize("nvcc", [None, "12.4"])
def test_a_night_runs_default_cells_with_the_real_extension_where_it_can_be_built(
    nvcc: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, str | None] = {}

    def run(states: Sequence[CellStatus], here: Context, _: object) -> MatrixResult:
        asked.update({state.cell.name: here.te_extension for state in states})
        return MatrixResult(states=tuple(states), failed={s.cell.name: "seen" for s in states})

    there = () if nvcc is None else (Toolkit(home=Path("cuda"), version=nvcc),)
    monkeypatch.setattr(matrix_run, "run", run)
    monkeypatch.setattr(toolkits, "found", lambda _: there)
    old, new = "compat-0.9-modelopt0.21", "compat-0.16-modelopt0.41"
    names = (old, new, f"{new}-te2.9")
    result = nightly.run_cells(names, context(), job_options.here(1))
    # TE 1.12, of the oldest series, has CUDA sources.
    assert asked == {old: "real" if nvcc else None, new: "real", f"{new}-te2.9": None}
    assert {state.cell.name for state in result.states} == set(names) == set(result.failed)

    asked.clear()  # a stand-in's result of such a cell is looked at as one that is to be replaced

    def looked(cells: Sequence[Cell], here: Context) -> tuple[CellStatus, ...]:
        asked.update({cell.name: here.te_extension for cell in cells})
        return ()

    monkeypatch.setattr(nightly, "survey", looked)
    assert nightly.to_run(context(), (), nightly.NightOptions(every=True)) == ()
    assert [asked[name] for name in names] == ["real" if nvcc else None, "real", None]
